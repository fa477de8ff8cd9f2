"""The steps of 05 from what is there to what is wished: in the CA directory, then host by host."""

from __future__ import annotations

from collections.abc import Sequence

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from mailtls_nb.errors import NotReady
from mailtls_nb.names import openssl_dn
from mailtls_nb.pki.certificates import fingerprint, is_issued_by
from mailtls_nb.pki.crl import READS_THE_FIRST, crl_pem
from mailtls_nb.pki.index import Row, serial_text
from mailtls_nb.plan import Plan, Step, sha256
from mailtls_nb.procedures import store_steps
from mailtls_nb.procedures.configuration import configuration_steps
from mailtls_nb.procedures.healing import heal_step
from mailtls_nb.procedures.host_look import HostLook
from mailtls_nb.procedures.revoke.observation import CrlHost, RevokeBefore, crl_file_name
from mailtls_nb.procedures.revoke.wish import RevokeWish
from mailtls_nb.sendmail.mc import managed_settings

RUNBOOK = "05-revoke-certificate"
_UNTOUCHED = "nothing was touched"
_OTHERS_WRITE = 0o022
_PERMISSIONS = 0o777
_MOST_LISTED = 20


def revoke_plan(wish: RevokeWish, before: RevokeBefore) -> Plan:
    """The plan; empty while all is revoked and every host has the newest CRL. Raises NotReady."""
    interrupted = [host for host in before.hosts if host.look.layout.interrupted]
    if interrupted:
        return Plan(RUNBOOK, wish.as_data(), tuple(heal_step(host.where) for host in interrupted), _rests_on(before))
    steps = [*_revocation(wish, before), *_signature(wish, before)]
    content = None if steps else _content(before)
    for host in before.hosts:
        steps += host_steps(host, before.ca.certificate, content)
    return Plan(RUNBOOK, wish.as_data(), tuple(steps), _rests_on(before), outlook=_outlook(wish, before))


def in_service(before: RevokeBefore, serial: int) -> list[str]:
    """The hosts looked at that show this certificate of our CA."""
    return [
        host.where
        for host in before.hosts
        for own in host.own
        if own.certificate is not None
        and own.certificate.serial_number == serial
        and is_issued_by(own.certificate, before.ca.certificate)
    ]


def _outlook(wish: RevokeWish, before: RevokeBefore) -> tuple[tuple[str, str], ...]:
    """Whose mail stops: told with the plan, wherever that is shown."""
    return tuple(
        (
            where,
            f"shows the certificate {serial_text(row.serial)}: who verifies it refuses its mail until it has a new one",
        )
        for row in before.to_revoke(wish)
        for where in dict.fromkeys(in_service(before, row.serial))
    )


def host_plan(wish: RevokeWish, host: CrlHost, ca: x509.Certificate, content: bytes | None) -> Plan:
    """The part of one host: what must still be so when its turn comes."""
    rests_on = {"sendmail": host.look.layout.version_text}
    return Plan(RUNBOOK, wish.as_data(), tuple(host_steps(host, ca, content)), rests_on)


def wished_settings(host: CrlHost, ca: x509.Certificate) -> dict[str, str]:
    """The settings of the managed block after the change."""
    look = host.look
    settings = managed_settings(look.mc, name=look.layout.mc) or {}
    if _by_path(host, ca):
        return settings if "CRLPath" in look.options else settings | {"confCRL_PATH": look.crl_directory.path}
    if not look.options.get("CRLFile"):
        settings |= {"confCRL": f"{look.ca_path}/{crl_file_name(ca)}"}
    return settings


def host_steps(host: CrlHost, ca: x509.Certificate, content: bytes | None) -> list[Step]:
    """Put the CRL where sendmail reads it; empty where it is there. ``content`` is None for one yet to be signed.

    It goes into CRLFile, of which sendmail reads the first CRL only; into the directory of CRLPath where that is in
    use, or where another CA's CRL stands in CRLFile.
    """
    look, where = host.look, host.where
    steps: list[Step] = []
    if _by_path(host, ca):
        steps += store_steps.directory(where, look.crl_directory, owner=look.layout.cert_owner)
        name = crl_file_name(ca)
        steps += _file(host, ca, name, content)
        steps += store_steps.links(
            where, look.crl_directory, look.hash_of(ca), "crl", add=[name], drop=_other_links(look, ca)
        )
    in_use = look.options.get("CRLFile", "")
    if not _by_path(host, ca) and not in_use:
        steps += store_steps.directory(where, look.store.ca_path, owner=look.layout.cert_owner)
        steps += _file(host, ca, crl_file_name(ca), content)
    elif in_use and in_use not in {step.target for step in steps} and _is_ours_to_write(host, ca):
        steps += _file_in_use(host, in_use, content)
    needs_reload = (bool(steps) and not _by_path(host, ca)) or any(step.target == in_use for step in steps)
    # Somebody put it there by hand: sendmail goes on with the one before.
    needs_reload |= host.crl_file_is_unread and _is_ours_to_write(host, ca)
    settings = wished_settings(host, ca)
    if settings != (managed_settings(look.mc, name=look.layout.mc) or {}):
        steps += configuration_steps(where, look.layout, settings, mc=look.mc, mc_status=look.mc_status, cf=look.cf)
        needs_reload = True
    if needs_reload:
        steps.append(_reload(host))
    return steps


def _by_path(host: CrlHost, ca: x509.Certificate) -> bool:
    """Whether it goes into a directory of hash links; raises NotReady where it would have to and the release cannot."""
    look = host.look
    if look.knows_crl_path:
        return "CRLPath" in look.options or not _is_ours_to_write(host, ca)
    if not _is_ours_to_write(host, ca):
        raise NotReady(
            f"sendmail {look.layout.version_text} on {host.where} knows no CRLPath (8.16.1 and later do), and its "
            f"CRLFile, {look.options['CRLFile']}, holds another CA's CRL: with two in one file {READS_THE_FIRST}",
            left=_UNTOUCHED,
            do="decide which CA's revocations count there, and take that file out of the configuration by hand; or "
            "upgrade sendmail; or take the host out of crl_hosts",
        )
    return False


def _is_ours_to_write(host: CrlHost, ca: x509.Certificate) -> bool:
    """Whether CRLFile is free for our CRL: not set, or with nothing but CRLs of our CA, or nothing that can be read."""
    found = host.look.store.crl_file
    return found is None or all(crl.issuer == ca.subject for crl in found.crls)


def _file(host: CrlHost, ca: x509.Certificate, name: str, content: bytes | None) -> list[Step]:
    directory = host.look.crl_directory if _by_path(host, ca) else host.look.store.ca_path
    what = f"the CRL of {openssl_dn(ca.subject)}"
    return store_steps.file(host.where, directory, name, content, what, owner=host.look.layout.cert_owner)


def _file_in_use(host: CrlHost, path: str, content: bytes | None) -> list[Step]:
    """Our CRL in the place of the file that CRLFile names, its owner and mode kept where others may not write it."""
    found = host.look.store.crl_file
    store_steps.refuse_link(host.where, found)
    settings: dict[str, str | int] = {"mode": f"{store_steps.FILE_MODE:04o}", "owner": host.look.layout.cert_owner}
    if found is not None and not found.status.mode & _OTHERS_WRITE:
        settings = {"mode": f"{found.status.mode & _PERMISSIONS:04o}", "owner": found.status.owner}
        if content is not None and found.sha256 == sha256(content):
            return []
    state = "" if found is None or found.crls else " What is in it cannot be read, and was ignored."
    return [
        Step(
            "write",
            host.where,
            path,
            f"Write our CRL into the file that sendmail reads.{state}",
            before=found.sha256 if found else "absent",
            content=content,
            settings=settings,
        )
    ]


def _other_links(look: HostLook, ca: x509.Certificate) -> list[str]:
    """Links to other files with CRLs of our CA: OpenSSL would have to choose among them."""
    return [
        entry.name
        for entry in look.crl_directory.entries
        if entry.kind == "crl"
        and entry.target != crl_file_name(ca)
        and entry.crls
        and all(crl.issuer == ca.subject for crl in entry.crls)
    ]


def _revocation(wish: RevokeWish, before: RevokeBefore) -> list[Step]:
    rows = before.to_revoke(wish)
    if not rows:
        return []
    index = before.ca.directory.layout.database
    reason = "" if wish.reason == "unspecified" else f" for the reason {wish.reason}"
    certificates = "1 certificate" if len(rows) == 1 else f"{len(rows)} certificates"
    return [
        Step(
            "revoke",
            "here",
            str(index),
            f"Revoke {certificates}{reason}: {_listed(rows, before)}. This cannot be taken back.",
            settings={"serials": ",".join(serial_text(row.serial) for row in rows), "reason": wish.reason},
        )
    ]


def _signature(wish: RevokeWish, before: RevokeBefore) -> list[Step]:
    reasons = before.reasons_to_sign(wish)
    if not reasons:
        return []
    return [
        Step(
            "sign-crl",
            "here",
            str(before.ca.directory.layout.crl),
            f"Sign a new CRL, valid for {wish.crl_days} days: {'; '.join(reasons)}.",
            settings={"crl_days": wish.crl_days},
        )
    ]


def _content(before: RevokeBefore) -> bytes | None:
    return crl_pem(before.ca.crl) if before.ca.crl is not None else None


def _listed(rows: Sequence[Row], before: RevokeBefore) -> str:
    named = [
        f"{serial_text(row.serial)} of {', '.join(before.ca.survey.named[row.serial])}, until {row.not_after:%Y-%m-%d}"
        for row in rows[:_MOST_LISTED]
    ]
    return "; ".join(named) + (f"; and {len(rows) - _MOST_LISTED} more" if len(rows) > _MOST_LISTED else "")


def _reload(host: CrlHost) -> Step:
    service = host.look.layout.service
    sentence = "Reload the daemon, which reads its configuration and CRLFile when it starts; then prove it there."
    return Step("reload", host.where, service.name, sentence, settings={"how": service.reload})


def _rests_on(before: RevokeBefore) -> dict[str, str]:
    crl = before.ca.crl
    return {
        "ca": fingerprint(before.ca.certificate),
        "crl": "absent" if crl is None else crl.fingerprint(hashes.SHA256()).hex(),
        **{f"sendmail on {host.where}": host.look.layout.version_text for host in before.hosts},
    }
