"""A partner's certificate revocation lists as the operator offers them: read and checked. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from mailtls_nb.names import openssl_dn
from mailtls_nb.pki.crl import crl_blocks, is_signed_by
from mailtls_nb.pki.partner_ca import may, refused

LONGEST_CRL_FILE = 16 * 1024 * 1024


def check_crls(
    data: bytes, cas: Sequence[x509.Certificate], *, now: datetime, where: str
) -> tuple[tuple[x509.Certificate, x509.CertificateRevocationList], ...]:
    """The CRLs of a file, PEM (one or several) or DER, each with the CA of ``cas`` that signed it.

    Raises CertificateRefused for one of another issuer, with a bad signature, not yet or no longer valid. A CRL past
    its nextUpdate makes sendmail refuse every certificate of that CA, so an end is required (RFC 5280 5.1.2.5).
    """
    problems: list[str] = []
    pairs: list[tuple[x509.Certificate, x509.CertificateRevocationList]] = []
    for crl in _parse_crls(data, where=where):
        issuers = [ca for ca in cas if ca.subject == crl.issuer]
        name = openssl_dn(crl.issuer)
        signers = [ca for ca in issuers if is_signed_by(crl, ca)]
        found = list(_crl_problems(crl, now))
        if not issuers:
            found.insert(0, "none of the CAs offered has issued it")
        elif not signers:
            found.insert(0, "its signature is not that of the CA offered")
        elif not may(signers[0], "crl_sign"):
            found.append("its CA may not sign CRLs (keyUsage without cRLSign)")
        elif any(ca == signers[0] for ca, _ in pairs):
            found.append("there is another one of the same CA in the file: give the newest only")
        problems += [f"the CRL of {name}: {problem}" for problem in found]
        if not found:
            pairs.append((signers[0], crl))
    if problems:
        raise refused(where, problems, do="get a current CRL from the partner, or go on without one")
    return tuple(pairs)


def check_not_older(there: x509.CertificateRevocationList, new: x509.CertificateRevocationList, *, where: str) -> None:
    """Raise CertificateRefused for a CRL older than the one installed: it may lack what was revoked since."""
    if new.last_update_utc < there.last_update_utc:
        raise refused(
            where,
            [
                f"the CRL of {openssl_dn(new.issuer)} is of {new.last_update_utc:%Y-%m-%d %H:%M:%S} UTC, the one "
                f"installed is newer ({there.last_update_utc:%Y-%m-%d %H:%M:%S} UTC)"
            ],
            do="get the newest CRL from the partner",
        )


def _parse_crls(data: bytes, *, where: str) -> list[x509.CertificateRevocationList]:
    unreadable = "it holds no certificate revocation list that can be read, PEM or DER"
    if b"PRIVATE KEY-----" in data:
        raise refused(where, ["it holds a private key: only CRLs belong here"])
    if len(data) > LONGEST_CRL_FILE:
        raise refused(where, [f"it has more than {LONGEST_CRL_FILE} bytes"])
    try:
        if b"-----BEGIN" in data:
            crls = [x509.load_pem_x509_crl(block) for block in crl_blocks(data)]
        else:
            crls = [x509.load_der_x509_crl(data)]
    except ValueError as error:
        raise refused(where, [unreadable]) from error
    if not crls:
        raise refused(where, [unreadable])
    return crls


def _crl_problems(crl: x509.CertificateRevocationList, now: datetime) -> Iterator[str]:
    if crl.last_update_utc > now:
        yield f"it is not valid before {crl.last_update_utc:%Y-%m-%d %H:%M:%S} UTC"
    if crl.next_update_utc is None:
        yield "it does not say until when it is valid (nextUpdate)"
    elif crl.next_update_utc <= now:
        yield (
            f"it ended on {crl.next_update_utc:%Y-%m-%d %H:%M:%S} UTC: with it, every certificate of that CA would be "
            "refused"
        )
    if isinstance(digest := crl.signature_hash_algorithm, hashes.MD5 | hashes.SHA1):
        yield f"it is signed with {digest.name.upper()}, which can be forged"
    if any(isinstance(extension.value, x509.DeltaCRLIndicator) for extension in crl.extensions):
        yield "it is a delta CRL, which sendmail does not use"
