"""The CA's certificate revocation list: signed, and checked before a mail server is given it. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding

from mailtls_nb.errors import BadParameter, CertificateRefused
from mailtls_nb.names import openssl_dn
from mailtls_nb.pki.index import Row
from mailtls_nb.pki.profiles import BACKDATED, PrivateKey, authority_key_identifier, digest_for

LONGEST_CRL_DAYS = 3650
_BLOCK = re.compile(rb"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)

# What sendmail does with each (measured, 8.15 to 8.18).
IGNORED = "sendmail would ignore it with one line in its log at start, and accept whatever was revoked"
REFUSES_EVERYONE = "sendmail would refuse every certificate of this CA, revoked or not"
READS_THE_FIRST = "sendmail would read the first and ignore the others"


def check_crl_days(crl_days: int) -> int:
    """The lifetime of a CRL in days; raises BadParameter(crl_days)."""
    if not 1 <= crl_days <= LONGEST_CRL_DAYS:
        raise BadParameter("crl_days", f"{crl_days} is not between 1 and {LONGEST_CRL_DAYS} days")
    return crl_days


def sign_crl(
    issuer: x509.Certificate, issuer_key: PrivateKey, revoked: Iterable[Row], *, number: int, now: datetime, days: int
) -> x509.CertificateRevocationList:
    """A CRL of all rows that are revoked (RFC 5280 5: v2, cRLNumber, AKI, nextUpdate ``days`` after ``now``).

    It starts five minutes before ``now``: a mail server whose clock is a little behind would refuse everyone by a CRL
    that is not yet valid. Certificates that have expired stay on it, as with ``openssl ca -gencrl``.
    """
    now = now.replace(microsecond=0)
    # The constructor takes the whole list; adding one after the other would copy it as many times.
    builder = x509.CertificateRevocationListBuilder(
        issuer_name=issuer.subject,
        last_update=_naive(max(now - BACKDATED, issuer.not_valid_before_utc)),
        next_update=_naive(now + timedelta(days=days)),
        extensions=[
            x509.Extension(x509.CRLNumber.oid, False, x509.CRLNumber(number)),
            x509.Extension(x509.AuthorityKeyIdentifier.oid, False, authority_key_identifier(issuer)),
        ],
        revoked_certificates=[_entry(row) for row in sorted(revoked, key=lambda row: row.serial)],
    )
    return builder.sign(issuer_key, digest_for(issuer_key))


def _entry(row: Row) -> x509.RevokedCertificate:
    revocation = row.revoked
    assert revocation is not None  # noqa: S101 - rows with status R only
    extensions: list[x509.Extension[x509.ExtensionType]] = [
        x509.Extension(extension.oid, False, extension) for extension in revocation.crl_extensions()
    ]
    # As above: a hundred thousand builders that copy each other take longer than the signature.
    return x509.RevokedCertificateBuilder(row.serial, _naive(revocation.at), extensions).build()


def check_own_crl(
    data: bytes, issuer: x509.Certificate, *, now: datetime, where: str, at_least: int = 0
) -> x509.CertificateRevocationList:
    """The CRL of a file, checked to be one that a mail server may be given (PEM).

    Raises CertificateRefused with every reason, and what sendmail would make of it: unreadable, several in one file, of
    another CA, not yet or no longer valid, or with a number lower than ``at_least``.
    """
    blocks = crl_blocks(data)
    try:
        crls = [x509.load_pem_x509_crl(block) for block in blocks]
    except ValueError:
        crls = []
    if not crls:
        raise _refused(where, [f"it holds no CRL that can be read: {IGNORED}"])
    problems = []
    if len(crls) > 1:
        problems.append(f"it holds {len(crls)} CRLs: {READS_THE_FIRST}")
    problems += _problems(crls[0], issuer, now)
    there = crl_number(crls[0])
    if there is not None and there < at_least:
        problems.append(
            f"its number is {there}, and {at_least} was given out already: what was revoked since would be accepted"
        )
    if problems:
        raise _refused(where, problems)
    return crls[0]


def crl_blocks(data: bytes) -> list[bytes]:
    """The CRLs of a PEM file, each as PEM."""
    return _BLOCK.findall(data)


def _problems(crl: x509.CertificateRevocationList, issuer: x509.Certificate, now: datetime) -> list[str]:
    if crl.issuer != issuer.subject:
        return [f"it is of another CA, {openssl_dn(crl.issuer)}: {IGNORED}"]
    if not is_signed_by(crl, issuer):
        return [f"its signature is not that of {openssl_dn(issuer.subject)}: {REFUSES_EVERYONE}"]
    if crl.last_update_utc > now:
        return [f"it is not valid before {crl.last_update_utc:%Y-%m-%d %H:%M:%S} UTC: {REFUSES_EVERYONE}"]
    if crl.next_update_utc is None:
        return ["it does not say until when it is valid (nextUpdate)"]
    if crl.next_update_utc <= now:
        return [f"it ended on {crl.next_update_utc:%Y-%m-%d %H:%M:%S} UTC: {REFUSES_EVERYONE}"]
    return []


def is_signed_by(crl: x509.CertificateRevocationList, issuer: x509.Certificate) -> bool:
    """Whether the CRL's signature is by this CA's key."""
    try:
        return crl.is_signature_valid(issuer.public_key())  # type: ignore[arg-type]  # other keys raise TypeError
    except (TypeError, ValueError, UnsupportedAlgorithm):
        return False


def crl_number(crl: x509.CertificateRevocationList) -> int | None:
    """The cRLNumber (RFC 5280 5.2.3); None for a CRL without one."""
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return None


def lifetime_days(crl: x509.CertificateRevocationList) -> int:
    """For how many whole days it was made; 0 where it does not say."""
    if crl.next_update_utc is None:
        return 0
    return (crl.next_update_utc - crl.last_update_utc) // timedelta(days=1)


def tells_of(crl: x509.CertificateRevocationList, revoked: Sequence[Row]) -> bool:
    """Whether the CRL lists exactly these rows, each with its reason."""
    reasons: dict[int, x509.ReasonFlags | None] = {}
    for entry in crl:
        try:
            reason = entry.extensions.get_extension_for_class(x509.CRLReason).value.reason
        except x509.ExtensionNotFound:
            reason = None
        reasons[entry.serial_number] = None if reason is x509.ReasonFlags.unspecified else reason
    return reasons == {row.serial: _flag(row) for row in revoked}


def _flag(row: Row) -> x509.ReasonFlags | None:
    revocation = row.revoked
    extensions = revocation.crl_extensions() if revocation else ()
    return next((e.reason for e in extensions if isinstance(e, x509.CRLReason)), None)


def crl_pem(crl: x509.CertificateRevocationList) -> bytes:
    """The CRL as PEM, the one form that sendmail reads."""
    return crl.public_bytes(Encoding.PEM)


def _naive(moment: datetime) -> datetime:
    # This library takes naive times for UTC.
    return moment.replace(tzinfo=None)


def _refused(where: str, problems: list[str]) -> CertificateRefused:
    return CertificateRefused(
        f"{where} is refused as a certificate revocation list:",
        tuple(problems),
        left="nothing was installed",
        do="sign a new one: 05-revoke-certificate with action refresh",
    )
