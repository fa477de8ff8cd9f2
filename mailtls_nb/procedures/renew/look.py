"""Looking at the certificates in service on a host, for 06; changes nothing."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import datetime

from cryptography import x509

from mailtls_nb.errors import BadParameter, NotReady
from mailtls_nb.names import openssl_dn
from mailtls_nb.observe.clock import check_clocks
from mailtls_nb.observe.layout import observe_layout
from mailtls_nb.observe.needed_file import needed_file
from mailtls_nb.observe.own_certificate import OwnCertificate, observe_own_certificate
from mailtls_nb.pki import revoking
from mailtls_nb.pki.certificates import dns_names, is_issued_by
from mailtls_nb.pki.compromised import refuse_compromised
from mailtls_nb.pki.crl import lifetime_days
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import serial_text
from mailtls_nb.pki.profiles import valid_roles
from mailtls_nb.pki.succession import predecessors
from mailtls_nb.procedures.issue.look import look as look_as_02
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.procedures.renew.due import is_superseded, issue_wish, reason_to_renew
from mailtls_nb.procedures.renew.observation import InService, RenewBefore, Superseded, files_in_service
from mailtls_nb.procedures.renew.wish import RenewWish
from mailtls_nb.procedures.signing_ca import open_signing_ca, refuse_clock_behind_ca
from mailtls_nb.sendmail.cf import options


def look(context: Context, wish: RenewWish) -> RenewBefore:
    """Observe what is in service on the host, and decide what of it is to be renewed.

    Raises BadParameter, NotReady and CADirectoryError; nothing is touched.
    """
    signer = open_signing_ca(context, wish.ca)
    refuse_clock_behind_ca(context, signer)
    # A passphrase that is wrong is found while there is time.
    signer.signing_key(context.secret(wish.ca.passphrase))
    host, now = context.host(wish.host), context.now()
    # Also where nothing turns out to be due: that too is told by the clock.
    check_clocks((host, context.probe(wish.probe_from)) if wish.probe_from else (host,), context.now)
    layout = observe_layout(host)
    if layout.interrupted:
        return RenewBefore(now, layout, signer)
    found = files_in_service(options(needed_file(host, layout.cf)))
    files = [(observe_own_certificate(host, *paths), role) for paths, role in found.items()]
    issuers = (signer, *(CADirectory.open(path) for path in predecessors(signer.path)))
    ours = [(own, role, issuer) for own, role in files if (issuer := _issuer(own, issuers)) is not None]
    _refuse_nothing_of_ours(wish, files, ours)
    named = [part for part in ours if wish.hostname in _names(part[0])]
    _refuse_unknown_name(wish, [name for own, _, _ in ours for name in _names(own)], is_known=bool(named))
    in_service = tuple(_in_service(context, wish, signer, part, now) for part in named)
    return RenewBefore(
        at=now,
        layout=layout,
        signer=signer,
        in_service=in_service,
        left_alone=tuple(_left_alone(own, role) for own, role in files if own not in [part[0] for part in named]),
        superseded=tuple(_superseded(context, wish, issuers, in_service, now)) if wish.revokes_old else (),
    )


def _issuer(own: OwnCertificate, issuers: Sequence[CADirectory]) -> CADirectory | None:
    if own.certificate is None:
        return None
    return next((ca for ca in issuers if is_issued_by(own.certificate, ca.ca_certificate)), None)


def _names(own: OwnCertificate) -> tuple[str, ...]:
    return dns_names(own.certificate) if own.certificate else ()


def _in_service(
    context: Context, wish: RenewWish, signer: CADirectory, part: tuple[OwnCertificate, str, CADirectory], now: datetime
) -> InService:
    own, role, issuer = part
    certificate = own.certificates[0]
    status = next((row.status for row in issuer.rows() if row.serial == certificate.serial_number), "")
    reason = reason_to_renew(wish, certificate, status, now)
    wanted = issue_wish(wish, own, valid_roles(role), reason, ca_certificate=signer.ca_certificate, now=now)
    if reason and wish.keeps_key:
        refuse_compromised(signer.layout, certificate.public_key(), wish.hostname, do="run again with key new")
    before = look_as_02(context, wanted)
    if not reason and issuer is not signer:
        # It stays in service, and is judged by the CA that it has.
        before = replace(before, signer=replace(before.signer, certificates=(issuer.ca_certificate,)))
    return InService(certificate, issuer, reason, wanted, before)


def _superseded(
    context: Context,
    wish: RenewWish,
    issuers: Sequence[CADirectory],
    in_service: Sequence[InService],
    now: datetime,
) -> Iterator[Superseded]:
    stays = {serving.certificate.serial_number for serving in in_service if not serving.is_due}
    for issuer in issuers:
        serials = tuple(
            certificate.serial_number
            for certificate in issuer.valid_for(wish.hostname, now=now)
            if certificate.serial_number not in stays
            and any(is_superseded(certificate, serving.wish, serving.certificate) for serving in in_service)
        )
        crl = revoking.newest_crl(issuer)
        untold = tuple(_untold(issuer, crl, in_service, now)) if crl is not None else ()
        crl_days = _crl_days(context, wish, issuer, crl) if crl is not None and (serials or untold) else 0
        if serials or (untold and crl_days):
            yield Superseded(issuer, serials, untold, crl_days)


def _untold(
    issuer: CADirectory, crl: x509.CertificateRevocationList, in_service: Sequence[InService], now: datetime
) -> Iterator[int]:
    """What a run revoked that was killed before it had signed the CRL."""
    for row in revoking.revoked_rows(issuer):
        if row.revoked is None or row.revoked.reason != "superseded" or row.not_after <= now:
            continue
        if crl.get_revoked_certificate_by_serial_number(row.serial) is not None:
            continue
        certificate = issuer.certificate_for_serial(row.serial)
        if certificate is not None and any(
            is_superseded(certificate, serving.wish, serving.certificate) for serving in in_service
        ):
            yield row.serial


def _crl_days(context: Context, wish: RenewWish, issuer: CADirectory, crl: x509.CertificateRevocationList) -> int:
    try:
        issuer.signing_key(context.secret(wish.ca.passphrase))
    except BadParameter:
        # The CA before this one may have another passphrase: its index says what is revoked, 05 makes its CRL.
        return 0
    return lifetime_days(crl)


def _refuse_nothing_of_ours(
    wish: RenewWish, files: Sequence[tuple[OwnCertificate, str]], ours: Sequence[object]
) -> None:
    if ours:
        return
    there = "; ".join(_left_alone(own, role).rstrip(".") for own, role in files)
    raise NotReady(
        f"no certificate of this CA is in service on {wish.host}" + (f": {there}" if there else ""),
        left="nothing was touched",
        do=f"run 02-issue-certificate for {wish.hostname} once: from then on it can be renewed",
    )


def _refuse_unknown_name(wish: RenewWish, there: Sequence[str], *, is_known: bool) -> None:
    if is_known:
        return
    names = tuple(dict.fromkeys(there))
    near = difflib.get_close_matches(wish.hostname, names, n=3)
    hint = f"did you mean {' or '.join(near)}? " if near else ""
    raise BadParameter(
        "hostname",
        f"no certificate of this CA in service on {wish.host} is for {wish.hostname}",
        do=f"{hint}The names there are: {', '.join(names) or 'none'}",
    )


def _left_alone(own: OwnCertificate, role: str) -> str:
    uses = {"both": "as server and client"}.get(role, f"as {role}")
    if own.certificate is None:
        return f"{own.path}, in use {uses}, holds no certificate that can be read, and is left alone."
    return (
        f"{own.path}, in use {uses}, serial {serial_text(own.certificate.serial_number)} for "
        f"{', '.join(_names(own)) or 'no host name'}, issued by {openssl_dn(own.certificate.issuer)}, is left alone: "
        f"it ends on {own.certificate.not_valid_after_utc:%Y-%m-%d}."
    )
