"""Signing with our CA: the host's own request, or one that came as a file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography import x509

from mailtls_nb.errors import BadParameter, CADirectoryError
from mailtls_nb.pki.certificates import dns_names
from mailtls_nb.pki.compromised import refuse_compromised
from mailtls_nb.pki.cures import Cures
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.profiles import PublicKey, key_word
from mailtls_nb.pki.requests import SigningRequest, read_request
from mailtls_nb.procedures.issue.cure import Curing, look_for_cures
from mailtls_nb.procedures.issue.look import open_ca
from mailtls_nb.procedures.issue.observation import is_made_for, purposes
from mailtls_nb.procedures.issue.wish import IssueWish
from mailtls_nb.procedures.procedure import Context


@dataclass(frozen=True)
class SignBefore:
    """A request from a file, the CA, and the certificate that it has signed for exactly this, if it has.

    ``cures`` is what the CA's index needs before anything is signed, or why that cannot be told; ``remarks`` what else
    its operator should know.
    """

    csr: bytes
    request: SigningRequest
    directory: CADirectory
    signed: x509.Certificate | None
    cures: Cures | CADirectoryError
    remarks: tuple[str, ...]


def look_at_request(context: Context, wish: IssueWish) -> SignBefore:
    """Read and check the request and the CA; raises BadParameter, NotReady or CertificateRefused, nothing touched."""
    try:
        csr = Path(wish.csr).read_bytes()
    except OSError as error:
        raise BadParameter("csr", f"{wish.csr}: {error.strerror}", do="name a file that can be read here") from error
    request = read_request(csr, names=wish.names, where=wish.csr)
    directory = open_ca(context, wish)
    refuse_compromised(directory.layout, request.public_key, wish.hostname)
    signed = _signed(context, wish, directory, request.public_key)
    cures, problems = look_for_cures(context, wish, directory)
    return SignBefore(csr, request, directory, signed, cures, (*directory.remarks, *problems))


def sign_request(context: Context, wish: IssueWish, before: SignBefore) -> x509.Certificate:
    """The way ``sign``: cure the CA's index where it needs that, and sign the request."""
    with Curing(context) as curing:
        curing.carry_out(before.directory, before.cures)
        return curing.signed(sign_key(context, wish, before.directory, before.request.public_key))


def sign_key(context: Context, wish: IssueWish, directory: CADirectory, public_key: PublicKey) -> x509.Certificate:
    """The certificate for this key: the one that a run which was cut short got already, or a new one."""
    if wish.ca is None:
        raise BadParameter("ca_dir", "is not used when a CA elsewhere signs")
    now = context.now()
    return _signed(context, wish, directory, public_key) or directory.issue(
        public_key,
        wish.names,
        roles=wish.roles,
        valid_days=wish.days_from(now),
        passphrase=context.secret(wish.ca.passphrase),
        now=now,
    )


def _signed(
    context: Context, wish: IssueWish, directory: CADirectory, public_key: PublicKey
) -> x509.Certificate | None:
    for certificate in directory.find(public_key, now=context.now()):
        if wish.renewal is not None and not wish.renewal.is_met_by(certificate, context.now()):
            continue
        same_names = set(dns_names(certificate)) == set(wish.names)
        if same_names and purposes(certificate) == wish.roles and is_made_for(wish, certificate):
            return certificate
    return None


def request_facts(before: SignBefore) -> tuple[tuple[str, str], ...]:
    """The request as a person reads it."""
    return (
        ("key", key_word(before.request.public_key)),
        ("CA", before.directory.name),
        ("signed already", "yes" if before.signed else "no"),
    )
