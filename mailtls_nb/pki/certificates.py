"""What a certificate says, in the forms that the rest of the package compares. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import NameOID

# Of two labels or more, as a host's name in a certificate's subject is told from a person's or an organisation's.
_HOST_NAME = re.compile(r"(?!-)[a-z0-9-]+(?<!-)(\.(?!-)[a-z0-9-]+(?<!-))+")


def key_info(public_key: CertificatePublicKeyTypes) -> bytes:
    """A public key in the one form that can be compared: SubjectPublicKeyInfo (RFC 5280 4.1.2.7), DER."""
    return public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)


def fingerprint(certificate: x509.Certificate) -> str:
    """SHA-256 over the certificate's DER, as 64 lower-case hexadecimal digits."""
    return certificate.fingerprint(hashes.SHA256()).hex()


def dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names in the certificate's subjectAltName; empty where it has none."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return ()
    return tuple(names.get_values_for_type(x509.DNSName))


def names_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """Every host name that the certificate may go by, in lower case: DNS names, and common names that look like one.

    Certificates of an adopted CA may have a common name only, or names in capitals.
    """
    common = (str(name.value).lower() for name in certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME))
    dns = (name.lower() for name in dns_names(certificate))
    return tuple(dict.fromkeys((*dns, *(name for name in common if _HOST_NAME.fullmatch(name)))))


def extended_key_usage(certificate: x509.Certificate) -> x509.ExtendedKeyUsage | None:
    """The certificate's extendedKeyUsage; None without one: it may then be used for anything (RFC 5280 4.2.1.12)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except x509.ExtensionNotFound:
        return None


def is_ca(certificate: x509.Certificate) -> bool:
    """Whether basicConstraints says CA:TRUE (RFC 5280 4.2.1.9)."""
    try:
        return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    except x509.ExtensionNotFound:
        return False


def is_issued_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether ``issuer`` has the issuer's name and its key made the signature."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True


def certificate_pem(certificates: Sequence[x509.Certificate]) -> bytes:
    """Certificates as PEM, one after the other."""
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
