"""09-replace-ca: the procedure in its stages."""

from __future__ import annotations

from mailtls_nb.names import openssl_dn
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import serial_text
from mailtls_nb.pki.profiles import excludes_names
from mailtls_nb.pki.transition_pack import transition_pack
from mailtls_nb.plan import Plan
from mailtls_nb.procedures.healing import heal_hosts
from mailtls_nb.procedures.procedure import Applied, Context, Facts, Observed, Procedure, Table, Values
from mailtls_nb.procedures.replace.change import all_claims, replace_ca
from mailtls_nb.procedures.replace.look import look
from mailtls_nb.procedures.replace.observation import OurHost, ReplaceBefore
from mailtls_nb.procedures.replace.plan import RUNBOOK, replace_plan
from mailtls_nb.procedures.replace.wish import ReplaceWish, read_wish

_DONE = {
    "both": "both CAs are trusted on {}",
    "reissue": "certificates on {} are of the new CA",
    "withdraw": "the old CA is trusted no more on {}",
    "cancel": "the new CA is trusted no more on {}",
}
_STAGES = {
    None: "not begun",
    "both": "hosts trust both, the old CA signs",
    "reissue": "the new CA signs",
    "withdraw": "over: the old CA is withdrawn",
}
_FOLDER = "partner-pack"


class ReplaceCA(Procedure[ReplaceWish, ReplaceBefore]):
    """The procedure of 09-replace-ca."""

    runbook = RUNBOOK

    def wish(self, values: Values) -> ReplaceWish:
        return read_wish(values)

    def target(self, values: Values) -> str:
        return f"{values['stage']}-{values['new_common_name']}"

    def observe(self, context: Context, wish: ReplaceWish) -> ReplaceBefore:
        return look(context, wish)

    def observed(self, wish: ReplaceWish, before: ReplaceBefore) -> Observed:
        return Observed(
            f"The change of the CA {before.old.name}: {_STAGES[before.stage]}.",
            _facts(before),
            {host.where: host.look.layout.versions() for host in before.hosts},
            _remarks(wish, before),
            {"Hosts": _hosts_table(before), "Partners": _partners_table(wish, before)},
        )

    def plan(self, wish: ReplaceWish, before: ReplaceBefore) -> Plan:
        return replace_plan(wish, before)

    def heal(self, context: Context, wish: ReplaceWish, before: ReplaceBefore) -> tuple[str, ...]:  # noqa: ARG002
        return heal_hosts((context.host(host.address), host.look.layout) for host in before.hosts)

    def apply(self, context: Context, wish: ReplaceWish, before: ReplaceBefore, plan: Plan) -> Applied:
        after, found = replace_ca(context, wish, before, plan)
        return Applied("changed", _summary(wish, after), found, *_given_out(context, wish, after))

    def unchanged(self, context: Context, wish: ReplaceWish, before: ReplaceBefore) -> Applied:
        found = all_claims(context, wish, before)
        return Applied("unchanged", f"{_summary(wish, before)} already", found, *_given_out(context, wish, before))


def _summary(wish: ReplaceWish, before: ReplaceBefore) -> str:
    return _DONE[wish.stage].format(", ".join(host.where for host in before.hosts))


def _given_out(context: Context, wish: ReplaceWish, before: ReplaceBefore) -> tuple[Facts, dict[str, str]]:
    """The facts of both CAs, and what partners are to be given as long as the change lasts."""
    if before.new is None or wish.stage == "cancel":
        return _facts(before), {}
    names = tuple(host.look.layout.canonical_name for host in before.hosts)
    is_over = wish.stage == "withdraw"
    cross = None if is_over else before.cross
    pack = transition_pack(before.old.ca_certificate, before.new.ca_certificate, cross, names, is_over=is_over)
    folder = context.folder / _FOLDER
    folder.mkdir(mode=0o755, exist_ok=True)
    for name, content in pack.items():
        (folder / name).write_bytes(content)
    return _facts(before), {f"{_FOLDER}/{name}": "for partners" for name in pack}


def _facts(before: ReplaceBefore) -> Facts:
    rows: Facts = _ca_facts("the old CA", before.old)
    if before.new is None:
        rows += (("the new CA", f"is to be made in {before.new_path}"),)
    else:
        rows += _ca_facts("the new CA", before.new)
    if before.cross is not None:
        end = f"{before.cross.not_valid_after_utc:%Y-%m-%d}"
        rows += (("certified by the old one too", f"serial {serial_text(before.cross.serial_number)}, until {end}"),)
    return rows


def _ca_facts(what: str, ca: CADirectory) -> Facts:
    return (
        (what, f"{ca.name}, until {ca.ca_certificate.not_valid_after_utc:%Y-%m-%d}, in {ca.path}"),
        ("its SHA-256 fingerprint", ca.fingerprint),
    )


def _hosts_table(before: ReplaceBefore) -> Table:
    rows = []
    for host in before.hosts:
        trusts = [
            word
            for word, ca in (("the old CA", before.old), ("the new CA", before.new))
            if ca is not None and host.trusts(ca.ca_certificate)
        ]
        rows.append((host.where, host.look.layout.canonical_name, ", ".join(trusts) or "neither", _shows(before, host)))
    return (("host", "its name", "trusts", "shows certificates of"), *rows)


def _shows(before: ReplaceBefore, host: OurHost) -> str:
    shown = [
        word
        for word, ca in (("the old CA", before.old), ("the new CA", before.new))
        if ca is not None and host.shows_one_of(ca.ca_certificate)
    ]
    others = {
        openssl_dn(own.certificate.issuer)
        for own in host.own
        if own.certificate is not None
        and own.certificate.issuer
        not in {ca.ca_certificate.subject for ca in (before.old, before.new) if ca is not None}
    }
    return ", ".join((*shown, *sorted(others))) or "none"


def _partners_table(wish: ReplaceWish, before: ReplaceBefore) -> Table:
    rows = [
        (
            partner,
            ", ".join(host.where for host in before.hosts if partner in host.partners),
            "yes" if partner in wish.partners_confirmed else "no",
        )
        for partner in before.partners
    ]
    return (("partner", "known on", "has confirmed the new CA"), *rows)


def _remarks(wish: ReplaceWish, before: ReplaceBefore) -> tuple[str, ...]:
    found = [*before.old.remarks, *wish.ca.remarks()]
    found += [f"{host.where}: {remark}" for host in before.hosts for remark in host.look.layout.remarks]
    unknown = [partner for partner in wish.partners_confirmed if partner not in before.partners]
    if unknown:
        found.append(
            f"No host named here knows {', '.join(unknown)}, which partners_confirmed lists: a partner of another "
            "host, or mistyped."
        )
    if wish.stage == "both":
        found.append(
            "Give every partner the pack of this run, also those that verify us without our knowing of it. A rule of "
            "theirs that names the old CA (CI:) refuses the new certificates, whatever they trust: CHANGE.md says so."
        )
    if wish.stage == "both" and excludes_names(before.old.ca_certificate):
        found.append(
            "The old CA may not certify some names (excluded subtrees); the new one is held only to those that it may."
        )
    if wish.stage == "reissue" and before.cross is not None:
        found.append(
            f"Until {before.cross.not_valid_after_utc:%Y-%m-%d} partners that trust only the old CA verify the new "
            "certificates too: the cross-signed certificate is sent along."
        )
    return tuple(found)
