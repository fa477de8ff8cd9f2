"""Looking at both CAs and at our hosts for 09; changes nothing there."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

from mailtls_nb.errors import NotReady
from mailtls_nb.hosts.address import HostAddress
from mailtls_nb.observe.clock import check_clocks
from mailtls_nb.observe.own_certificate import OwnCertificate, observe_own_certificate
from mailtls_nb.pki.certificates import dns_names, is_ca, is_issued_by, names_of
from mailtls_nb.pki.crl import tells_of
from mailtls_nb.pki.cross_signing import cross_of
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.profiles import valid_roles
from mailtls_nb.pki.revoking import newest_crl, revoked_rows
from mailtls_nb.pki.succession import successor
from mailtls_nb.procedures.host_look import HostLook, look_at_host
from mailtls_nb.procedures.issue.look import look as look_as_02
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.procedures.renew.due import issue_wish
from mailtls_nb.procedures.renew.observation import files_in_service
from mailtls_nb.procedures.renew.wish import RenewWish
from mailtls_nb.procedures.replace.names import new_name
from mailtls_nb.procedures.replace.observation import OurHost, ReplaceBefore, Showing
from mailtls_nb.procedures.replace.wish import ReplaceWish
from mailtls_nb.procedures.signing_ca import open_ready_ca
from mailtls_nb.sendmail.mc import managed_settings
from mailtls_nb.testbed.organisation import partner_organisation
from mailtls_nb.testbed.shown_certificates import LOST_HOSTNAME, PROOF_HOSTNAME

_UNTOUCHED = "nothing was touched"


def look(context: Context, wish: ReplaceWish) -> ReplaceBefore:
    """Everything that the plan and its proof need to know. Raises NotReady and what the transports raise."""
    old = _open(context, wish, wish.ca.named(context.testbed), "01-create-ca makes one")
    new_path, follows = wish.new_directory(old.path), successor(old.layout)
    while follows is not None and follows.stage == "withdrawn" and follows.directory != new_path:
        # That change is over: with another name it is the CA that followed which is replaced in its turn.
        old = _open(context, wish, follows.directory, "09-replace-ca has written its name there")
        new_path, follows = wish.new_directory(old.path), successor(old.layout)
    if follows is not None and follows.directory != new_path:
        raise NotReady(
            f"{old.name} is being replaced by the CA in {follows.directory} already",
            left=_UNTOUCHED,
            do="give its name as new_common_name, and bring that change to its end (or cancel it) first",
        )
    new = _new_ca(context, wish, old, new_path)
    addresses = (*wish.hosts, *((wish.probe_from,) if wish.probe_from else ()))
    check_clocks((context.host(address) for address in addresses), context.now)
    _partner_follows(context, wish)
    before = ReplaceBefore(
        at=context.now(),
        old=old,
        new=new,
        new_path=new_path,
        cross=cross_of(old, new, now=context.now()) if new is not None else None,
        succession=follows,
        hosts=(),
        still_old=tuple(_still_old(context, wish, old, new)) if wish.stage == "withdraw" else (),
        new_crl_is_good=wish.stage == "withdraw" and new is not None and _has_good_crl(context, new),
    )
    return replace(before, hosts=tuple(look_at_our_host(context, wish, before, address) for address in wish.hosts))


def look_at_our_host(
    context: Context, wish: ReplaceWish, before: ReplaceBefore, address: HostAddress, *, within_change: bool = False
) -> OurHost:
    """One of our mail servers, and what of it the stage reissues.

    ``within_change``: a change is under way there, and it is ours.
    """
    host = context.host(address)
    asked = (before.old.ca_certificate, *((before.new.ca_certificate,) if before.new else ()))
    found = look_at_host(host, asked)
    is_whole = within_change or not found.layout.interrupted
    files = files_in_service(found.options) if is_whole else {}
    own = {paths: observe_own_certificate(host, *paths) for paths in files}
    if is_whole:
        _refuse_another_ca_file(address, found)
    signer, unwanted = (before.new, before.old) if wish.stage == "reissue" else (before.old, before.new)
    shown: list[Showing] = []
    if not within_change and wish.stage in ("both", "reissue") and signer is not None and unwanted is not None:
        ca = unwanted.ca_certificate
        for paths, role in files.items():
            certificate = own[paths].certificate
            if certificate is not None and is_issued_by(certificate, ca):
                shown.append(_showing(context, wish, address, own[paths], role, signer))
    there = host.read(found.ca_file) or b"" if is_whole else b""
    return OurHost(address, found, tuple(own.values()), there, tuple(shown))


def _showing(
    context: Context, wish: ReplaceWish, address: HostAddress, own: OwnCertificate, role: str, signer: CADirectory
) -> Showing:
    certificate = own.certificates[0]
    renewal = RenewWish(
        hostname=(dns_names(certificate) or ("",))[0],
        renew_before_days=0,
        keeps_key=False,
        revokes_old=False,
        host=address,
        probe_from=wish.probe_from,
        # Exactly this one: the other may be the one that signs for whoever names the old directory.
        ca=replace(wish.ca, directory=str(signer.path), follows=False),
    )
    reason = f"{signer.name} signs now"
    wanted = issue_wish(
        renewal, own, valid_roles(role), reason, ca_certificate=signer.ca_certificate, now=context.now()
    )
    return Showing(certificate, wanted, look_as_02(context, wanted))


def _open(context: Context, wish: ReplaceWish, path: Path, otherwise: str) -> CADirectory:
    return open_ready_ca(context, wish.ca, path, do=f"give the CA's directory; {otherwise}")


def _new_ca(context: Context, wish: ReplaceWish, old: CADirectory, path: Path) -> CADirectory | None:
    name = new_name(wish, old.ca_certificate)
    if not path.exists():
        return None
    new = _open(context, wish, path, "what is there is something else")
    if new.ca_certificate.subject != name.x509_name():
        raise NotReady(
            f"{path} holds another CA: {new.name}", left=_UNTOUCHED, do="give another name as new_common_name"
        )
    return new


def _has_good_crl(context: Context, new: CADirectory) -> bool:
    crl = newest_crl(new)
    # For another day at least: it has to reach the hosts.
    return (
        crl is not None
        and crl.next_update_utc is not None
        and crl.next_update_utc > context.now() + timedelta(days=1)
        and tells_of(crl, revoked_rows(new))
    )


def _refuse_another_ca_file(address: HostAddress, found: HostLook) -> None:
    """Raise NotReady unless CACertFile is the file that 02 writes: any other may hold what is not ours to rewrite."""
    ours = (managed_settings(found.mc, name=found.layout.mc) or {}).get("confCACERT", "")
    if not ours or found.ca_file != ours or found.store.ca_file is None:
        raise NotReady(
            f"the CAs that sendmail on {address} trusts are not in a file that 02-issue-certificate has written "
            f"(CACertFile is {found.ca_file or 'not set'})",
            left=_UNTOUCHED,
            do=f"run 02-issue-certificate for {found.layout.canonical_name} once: it takes over what is trusted now",
        )


def _partner_follows(context: Context, wish: ReplaceWish) -> None:
    """The testbed's partner has done what the pack for partners says: it trusts the new CA beside the old one."""
    if wish.is_testbed and wish.stage in ("reissue", "withdraw") and context.testbed().partner_ca_dir.exists():
        partner_organisation(context.testbed(), host=context.host(HostAddress("testbed", "partner")))


def _still_old(context: Context, wish: ReplaceWish, old: CADirectory, new: CADirectory | None) -> Iterator[str]:
    """Names that valid certificates of the old CA are for, and none of the new one's."""
    shown_by_proofs = {LOST_HOSTNAME, PROOF_HOSTNAME} if wish.is_testbed else set()
    certified = set(_valid_names(context, new)) if new is not None else set()
    yield from sorted(set(_valid_names(context, old)) - certified - shown_by_proofs)


def _valid_names(context: Context, ca: CADirectory) -> Iterator[str]:
    for row in ca.rows():
        if row.status == "V" and row.not_after > context.now():
            certificate = ca.certificate_for_serial(row.serial)
            if certificate is not None and not is_ca(certificate):
                yield from names_of(certificate)
