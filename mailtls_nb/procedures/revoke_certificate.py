"""05-revoke-certificate: the procedure."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from mailtls_nb.pki.crl import crl_pem
from mailtls_nb.pki.index import serial_text
from mailtls_nb.pki.succession import successor
from mailtls_nb.plan import Plan
from mailtls_nb.procedures.healing import heal_hosts
from mailtls_nb.procedures.procedure import Applied, Context, Facts, Observed, Procedure, Table, Values
from mailtls_nb.procedures.revoke.change import revoke_and_distribute
from mailtls_nb.procedures.revoke.look import look
from mailtls_nb.procedures.revoke.observation import RevokeBefore, crl_words
from mailtls_nb.procedures.revoke.plan import RUNBOOK, in_service, revoke_plan
from mailtls_nb.procedures.revoke.proof import claims, see
from mailtls_nb.procedures.revoke.wish import RevokeWish, read_wish

_MOST_LISTED = 50
_CRL_FILE = "crl.pem"


class RevokeCertificate(Procedure[RevokeWish, RevokeBefore]):
    """The procedure of 05-revoke-certificate."""

    runbook = RUNBOOK

    def wish(self, values: Values) -> RevokeWish:
        return read_wish(values)

    def target(self, values: Values) -> str:
        return str(values["hostname"]) or str(values["serial"])[:40] or str(values["action"])

    def observe(self, context: Context, wish: RevokeWish) -> RevokeBefore:
        return look(context, wish)

    def observed(self, wish: RevokeWish, before: RevokeBefore) -> Observed:
        revoked = len(before.ca.survey.revoked)
        return Observed(
            f"{before.ca.directory.name} has revoked {revoked} certificate{'' if revoked == 1 else 's'}.",
            _facts(before),
            {host.where: host.look.layout.versions() for host in before.hosts},
            _remarks(wish, before),
            {"Certificates asked for": _asked_table(before), "Hosts": _hosts_table(before)},
        )

    def plan(self, wish: RevokeWish, before: RevokeBefore) -> Plan:
        return revoke_plan(wish, before)

    def heal(self, context: Context, wish: RevokeWish, before: RevokeBefore) -> tuple[str, ...]:  # noqa: ARG002
        return heal_hosts((context.host(host.address), host.look.layout) for host in before.hosts)

    def apply(self, context: Context, wish: RevokeWish, before: RevokeBefore, plan: Plan) -> Applied:
        crl, found = revoke_and_distribute(context, wish, before, plan)
        return Applied("changed", _summary(wish, before, done=True), found, _crl_facts(crl), _given_out(context, crl))

    def unchanged(self, context: Context, wish: RevokeWish, before: RevokeBefore) -> Applied:
        assert before.ca.crl is not None  # noqa: S101 - without one the plan is not empty
        seen = [(host, see(context, wish, before, host)) for host in before.hosts]
        crl = before.ca.crl
        found = tuple(claim for host, after in seen for claim in claims(before, host, crl, after, None))
        return Applied(
            "unchanged", _summary(wish, before, done=False), found, _crl_facts(crl), _given_out(context, crl)
        )


def _summary(wish: RevokeWish, before: RevokeBefore, *, done: bool) -> str:
    hosts = ", ".join(host.where for host in before.hosts)
    spread = f"in force on {hosts}" if hosts else f"in {before.ca.directory.layout.crl}"
    if not wish.revokes:
        return f"the CRL is fresh and {spread}"
    return f"{wish.what} {'is' if done else 'was'} revoked{'' if done else ' already'}; the CRL is {spread}"


def _given_out(context: Context, crl: x509.CertificateRevocationList) -> dict[str, str]:
    (Path(context.folder) / _CRL_FILE).write_bytes(crl_pem(crl))
    return {_CRL_FILE: "the CRL, for partners that verify by this CA"}


def _crl_facts(crl: x509.CertificateRevocationList) -> Facts:
    return (("CRL", crl_words(crl)),)


def _facts(before: RevokeBefore) -> Facts:
    ca = before.ca
    there = crl_words(ca.crl) if ca.crl is not None else "none"
    return (
        ("CA", f"{ca.directory.name}, until {ca.certificate.not_valid_after_utc:%Y-%m-%d}"),
        ("CA directory", str(ca.directory.path)),
        ("its newest CRL", there),
        *((("that CRL is refused", ca.crl_problem),) if ca.crl_problem else ()),
    )


def _asked_table(before: RevokeBefore) -> Table:
    words = {"V": "valid", "E": "expired", "R": "revoked"}
    rows = [
        (
            serial_text(row.serial),
            ", ".join(before.ca.survey.named[row.serial]),
            f"{row.not_after:%Y-%m-%d}",
            words[row.status] + (f" ({row.revoked.reason})" if row.revoked else ""),
            ", ".join(in_service(before, row.serial)) or "-",
        )
        for row in before.ca.survey.asked[:_MOST_LISTED]
    ]
    return (("serial", "names", "ends", "state", "in service on"), *rows)


def _hosts_table(before: RevokeBefore) -> Table:
    rows = []
    for host in before.hosts:
        options = host.look.options
        installed = "; ".join(crl_words(crl) for crl in host.installed(before.ca.certificate)) or "none"
        reads = ", ".join(f"{name} {options[name]}" for name in ("CRLFile", "CRLPath") if name in options) or "nothing"
        rows.append((host.where, host.look.layout.version_text, reads, installed))
    return (("host", "sendmail", "reads CRLs from", "our CRL there"), *rows)


def _remarks(wish: RevokeWish, before: RevokeBefore) -> tuple[str, ...]:
    found = [*before.ca.directory.remarks, *wish.ca.remarks()]
    if not wish.ca.is_testbed and str(before.ca.directory.path) != wish.ca.directory:
        found.append(
            f"The CA in {wish.ca.directory} was replaced: this is about the one in {before.ca.directory.path}."
        )
    if (follows := successor(before.ca.directory.layout)) is not None:
        found.append(
            f"Another CA follows this one, in {follows.directory}: what that one has certified is revoked by a run "
            "with that directory as ca_dir."
        )
    found += [
        f"{other.directory.name}, in {other.directory.path}, has issued valid certificates for {wish.hostname} too, "
        "which stay valid: run this again with that directory as ca_dir."
        for other in before.ca.others
        if other.valid(before.at)
    ]
    for host in before.hosts:
        found += [f"{host.where}: {remark}" for remark in host.look.layout.remarks]
        found += _crl_file_remarks(host.where, before, host.look.options.get("CRLFile", ""))
    for row in before.ca.survey.asked:
        found += [
            f"{where} has the certificate {serial_text(row.serial)} in service: whoever verifies it refuses its mail "
            "once it is revoked. Give it a new one at once (06-renew-certificate with key new)."
            for where in in_service(before, row.serial)
        ]
    found += [
        f"The certificate {serial_text(row.serial)} was revoked on {row.revoked.at:%Y-%m-%d} for {row.revoked.reason}. "
        "That stays so: a reason is made graver only, and for a certificate given by its serial."
        for row in before.ca.survey.asked
        if row.revoked is not None and row.revoked.reason != wish.reason and row not in before.to_revoke(wish)
    ]
    if wish.reason == "certificateHold":
        found.append("A hold is lifted by nothing here: issue a new certificate instead.")
    if any(not host.installed(before.ca.certificate) for host in before.hosts):
        found.append(
            f"A CRL ends, this one after {wish.crl_days} days: from then on sendmail refuses every certificate of this "
            "CA, revoked or not. Run action refresh every day from now on, from cron."
        )
    if not before.hosts:
        found.append("No host is given in crl_hosts: until the CRL is in force somewhere, nothing is refused.")
    if wish.revokes:
        found.append("Partners who verify by this CA refuse what is revoked only with the new CRL: send it to them.")
    return tuple(found)


def _crl_file_remarks(where: str, before: RevokeBefore, path: str) -> list[str]:
    """What was in the file of CRLFile until now, and what sendmail made of it (measured, 8.15 to 8.18)."""
    host = next(host for host in before.hosts if host.where == where)
    found = host.look.store.crl_file
    if not path:
        return []
    if found is None or not found.crls:
        state = "is not there" if found is None else "holds no CRL that can be read"
        return [f"{where}: {path} (CRLFile) {state}: sendmail ignores that, and accepts what is revoked."]
    remarks = []
    if len(found.crls) > 1:
        remarks.append(f"{where}: {path} (CRLFile) holds {len(found.crls)} CRLs: sendmail reads the first only.")
    first = found.crls[0]
    if first.next_update_utc is not None and first.next_update_utc <= before.at:
        end = f"{first.next_update_utc:%Y-%m-%d %H:%M:%S} UTC"
        remarks.append(f"{where}: the CRL in {path} ended on {end}: sendmail refuses every certificate of its CA.")
    return remarks
