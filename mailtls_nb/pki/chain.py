"""Chains: verified as a peer would, and certificates by another CA checked before they are installed. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from mailtls_nb.errors import CertificateRefused
from mailtls_nb.names import openssl_dn
from mailtls_nb.pki.certificates import dns_names, extended_key_usage, is_ca, is_issued_by, key_info
from mailtls_nb.pki.profiles import Roles

_LONGEST_CHAIN = 10


@dataclass(frozen=True)
class CertificateChain:
    """A certificate and what signed it: ``issuers`` from its own issuer up, each signed by the next."""

    certificate: x509.Certificate
    issuers: tuple[x509.Certificate, ...]


def verify_server(
    certificate: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    *,
    hostname: str,
    now: datetime,
) -> None:
    """Raise CertificateRefused unless a client that trusts ``roots`` takes this server for ``hostname``."""
    verifier = PolicyBuilder().store(Store(list(roots))).time(now).build_server_verifier(x509.DNSName(hostname))
    try:
        verifier.verify(certificate, list(intermediates))
    except VerificationError as error:
        raise _not_verified(certificate, f"as the server {hostname}", error) from error


def verify_client(
    certificate: x509.Certificate,
    intermediates: Sequence[x509.Certificate],
    roots: Sequence[x509.Certificate],
    *,
    now: datetime,
) -> None:
    """Raise CertificateRefused unless a server that trusts ``roots`` takes this client."""
    verifier = PolicyBuilder().store(Store(list(roots))).time(now).build_client_verifier()
    try:
        verifier.verify(certificate, list(intermediates))
    except VerificationError as error:
        raise _not_verified(certificate, "as a client", error) from error


def parse_certificates(data: bytes, *, where: str) -> tuple[x509.Certificate, ...]:
    """All certificates of a file, PEM or DER; raises CertificateRefused for none, garbage, or a private key in it."""
    if b"PRIVATE KEY-----" in data:
        raise _refused(where, ["it holds a private key: only certificates belong here, keep the key where it was made"])
    try:
        if b"-----BEGIN" in data:
            return tuple(x509.load_pem_x509_certificates(data))
        return (x509.load_der_x509_certificate(data),)
    except ValueError as error:
        raise _refused(where, ["it holds no certificate that can be read, PEM or DER"]) from error


def check_external(
    data: bytes,
    *,
    public_key: CertificatePublicKeyTypes,
    names: tuple[str, ...],
    roles: Roles,
    now: datetime,
    where: str,
) -> CertificateChain:
    """Check a certificate that another CA signed, with its chain, for a key that waits on a host.

    ``data`` holds the certificate and its issuers, in any order, up to a CA certificate: the topmost one given is
    taken as trusted. Raises CertificateRefused with every mismatch of key, chain, names, dates and purposes.
    """
    certificates = parse_certificates(data, where=where)
    leaf = next((c for c in certificates if key_info(c.public_key()) == key_info(public_key)), None)
    problems: list[str] = []
    if leaf is None:
        leaf = next((c for c in certificates if not is_ca(c)), certificates[0])
        problems.append("no certificate in it is for the key that waits on the host")
    issuers = _issuers(leaf, certificates)
    try:
        problems += _chain_problems(leaf, issuers, now)
        problems += _leaf_problems(leaf, names, roles, now)
    except ValueError:
        problems.append("an extension in it cannot be read")
    if problems:
        raise _refused(where, problems)
    return CertificateChain(leaf, issuers)


def _issuers(leaf: x509.Certificate, certificates: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
    chain = [leaf]
    while len(chain) < _LONGEST_CHAIN and not is_issued_by(chain[-1], chain[-1]):
        issuer = next((c for c in certificates if c not in chain and is_issued_by(chain[-1], c)), None)
        if issuer is None:
            break
        chain.append(issuer)
    return tuple(chain[1:])


def _chain_problems(leaf: x509.Certificate, issuers: tuple[x509.Certificate, ...], now: datetime) -> list[str]:
    problems = []
    if is_issued_by(leaf, leaf):
        problems.append("the certificate is signed by its own key, not by a CA")
    elif not issuers:
        problems.append(f"the chain is missing: add the certificate of its issuer, {openssl_dn(leaf.issuer)}")
    for below, issuer in enumerate(issuers):
        name = openssl_dn(issuer.subject)
        if not is_ca(issuer):
            problems.append(f"its issuer {name} is no CA (basicConstraints)")
        elif (limit := _path_length(issuer)) is not None and below > limit:
            problems.append(f"its issuer {name} allows {limit} CAs below it, there are {below}")
        if not _may_sign_certificates(issuer):
            problems.append(f"its issuer {name} may not sign certificates (keyUsage)")
        problems += _date_problems(issuer, f"its issuer {name}", now)
    # The topmost one is trusted for itself: nobody looks at its signature.
    for certificate in (leaf, *issuers[:-1]):
        digest = certificate.signature_hash_algorithm
        if isinstance(digest, hashes.MD5 | hashes.SHA1):
            problems.append(f"{openssl_dn(certificate.subject)} is signed with {digest.name.upper()}")
    return problems


def _leaf_problems(leaf: x509.Certificate, names: tuple[str, ...], roles: Roles, now: datetime) -> list[str]:
    problems = []
    if is_ca(leaf):
        problems.append("the certificate is a CA's")
    certified = dns_names(leaf)
    for name in names:
        if not any(_covers(pattern, name) for pattern in certified):
            problems.append(f"it is not for {name}: its names are {', '.join(certified) or 'none (subjectAltName)'}")
    problems += _date_problems(leaf, "the certificate", now)
    if (purposes := extended_key_usage(leaf)) is not None:
        if roles in ("both", "server") and ExtendedKeyUsageOID.SERVER_AUTH not in purposes:
            problems.append("it may not be used as a server (extendedKeyUsage without serverAuth)")
        if roles in ("both", "client") and ExtendedKeyUsageOID.CLIENT_AUTH not in purposes:
            problems.append(
                "it may not be used as a client (extendedKeyUsage without clientAuth), as public CAs issue them now: "
                "install it with roles server, and a private CA's certificate for the client"
            )
    if (usage := _key_usage(leaf)) is not None and not usage.digital_signature:
        problems.append("its key may not sign a handshake (keyUsage without digitalSignature)")
    return problems


def _date_problems(certificate: x509.Certificate, what: str, now: datetime) -> list[str]:
    if now < certificate.not_valid_before_utc:
        return [f"{what} is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC"]
    if now > certificate.not_valid_after_utc:
        return [f"{what} expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC"]
    return []


def _covers(pattern: str, name: str) -> bool:
    """Whether a DNS name of a certificate stands for a host (RFC 9525, 6.3: a wildcard is the whole first label)."""
    pattern = pattern.lower()
    return pattern == name or (pattern.startswith("*.") and pattern[2:] == name.partition(".")[2])


def _key_usage(certificate: x509.Certificate) -> x509.KeyUsage | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return None


def _may_sign_certificates(certificate: x509.Certificate) -> bool:
    usage = _key_usage(certificate)
    return usage is None or usage.key_cert_sign


def _basic_constraints(certificate: x509.Certificate) -> x509.BasicConstraints | None:
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return None


def _path_length(certificate: x509.Certificate) -> int | None:
    constraints = _basic_constraints(certificate)
    return constraints.path_length if constraints else None


def _not_verified(certificate: x509.Certificate, role: str, error: VerificationError) -> CertificateRefused:
    return CertificateRefused(f"{openssl_dn(certificate.subject)} does not verify {role}:", (str(error),))


def _refused(where: str, problems: list[str]) -> CertificateRefused:
    return CertificateRefused(
        f"{where} is refused:",
        tuple(problems),
        left="nothing was installed",
        do="see that it is the file sent back for this request; get what is missing from the CA that signed it",
    )
