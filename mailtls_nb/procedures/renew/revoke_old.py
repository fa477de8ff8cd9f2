"""Revoking the certificates that were superseded, once others are seen in service, and proving it."""

from __future__ import annotations

from cryptography import x509

from mailtls_nb.observe.openssl_verify import verified_by
from mailtls_nb.pki import recovery, revoking
from mailtls_nb.pki.index import serial_text
from mailtls_nb.pki.index_changes import IndexChange
from mailtls_nb.pki.revocation import Revocation
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.procedures.renew.observation import RenewBefore, Superseded
from mailtls_nb.procedures.renew.wish import RenewWish
from mailtls_nb.verdict import Claim


def revoke_old(
    context: Context, wish: RenewWish, before: RenewBefore, in_service: tuple[x509.Certificate, ...]
) -> tuple[Claim, ...]:
    """Revoke as superseded what the plan named, never what is ``in_service`` now; the caller judges the claims."""
    claims: tuple[Claim, ...] = ()
    kept = {certificate.serial_number for certificate in in_service}
    for superseded in before.superseded:
        serials = tuple(serial for serial in superseded.serials if serial not in kept)
        _revoke(context, wish, superseded, serials)
        claims += _claims(context, superseded, serials, in_service)
    return claims


def _revoke(context: Context, wish: RenewWish, superseded: Superseded, serials: tuple[int, ...]) -> None:
    ca, now = superseded.directory, context.now()
    if not superseded.crl_days:
        revoking.revoke(ca, serials, "superseded", now=now)
        return
    revoking.sign_new_crl(
        ca,
        days=superseded.crl_days,
        passphrase=context.secret(wish.ca.passphrase),
        now=now,
        change=IndexChange(revoke=dict.fromkeys(serials, Revocation.of(now, "superseded"))) if serials else None,
    )


def _claims(
    context: Context, superseded: Superseded, serials: tuple[int, ...], in_service: tuple[x509.Certificate, ...]
) -> tuple[Claim, ...]:
    ca = superseded.directory
    reasons = {row.serial: row.revoked.reason for row in revoking.revoked_rows(ca) if row.revoked}
    claims = tuple(
        Claim(
            f"the old certificate {serial_text(serial)} is revoked",
            "superseded",
            reasons.get(serial, "not revoked"),
            "inspection",
            "the CA's index.txt",
            fails_when="the one in service is not among those revoked there"
            if not {certificate.serial_number for certificate in in_service} & set(reasons)
            else "",
        )
        for serial in serials
    )
    if not superseded.crl_days:
        return claims
    return claims + _crl_claims(context, superseded, (*serials, *superseded.untold), in_service)


def _crl_claims(
    context: Context, superseded: Superseded, serials: tuple[int, ...], in_service: tuple[x509.Certificate, ...]
) -> tuple[Claim, ...]:
    """OpenSSL asks the new CRL about the old certificates, and about the new one."""
    ca = superseded.directory

    def asked(serial: int) -> str:
        certificate = recovery.certificate_path(ca.layout, serial).read_text("ascii")
        trusted, crl = str(ca.layout.certificate), str(ca.layout.crl)
        return verified_by(context.here, [certificate], trusted_file=trusted, by_intermediate=True, crl_file=crl)

    good = {asked(c.serial_number) for c in in_service if ca.certificate_for_serial(c.serial_number) is not None}
    return tuple(
        Claim(
            f"the CA's new CRL refuses {serial_text(serial)}",
            "certificate revoked",
            asked(serial),
            "inspection",
            "openssl verify -crl_check",
            negative=True,
            fails_when="of the one in service the same command says OK" if good == {"OK"} else "",
        )
        for serial in serials
    )
