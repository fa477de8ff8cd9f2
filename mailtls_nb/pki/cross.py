"""The certificate that one CA gives the CA that follows it: for those who trust only the old one. Pure."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509

from mailtls_nb.errors import NotReady
from mailtls_nb.names import openssl_dn
from mailtls_nb.pki.profiles import BACKDATED, PrivateKey, authority_key_identifier, digest_for, key_usage


def cross_certificate(
    successor: x509.Certificate, *, issuer: x509.Certificate, issuer_key: PrivateKey, serial: int, now: datetime
) -> x509.Certificate:
    """The successor's name and key, certified by the CA that it follows: for those who trust the old one only.

    It ends with whichever of both ends first, and allows no CA below itself. Raises NotReady where the old CA's own
    certificate allows none below it, so that no verifier would take it (RFC 5280 4.2.1.9).
    """
    constraints = issuer.extensions.get_extension_for_class(x509.BasicConstraints).value
    if constraints.path_length == 0:
        raise NotReady(
            f"{openssl_dn(issuer.subject)} may not certify another CA (pathlen:0): nobody would take a cross-signed "
            "certificate of it",
            left="nothing was changed",
            do="go on without one: each partner has to add the new CA before certificates are reissued",
        )
    now = now.replace(microsecond=0)
    builder = (
        x509.CertificateBuilder(
            subject_name=successor.subject, issuer_name=issuer.subject, public_key=successor.public_key()
        )
        .serial_number(serial)
        .not_valid_before(max(now - BACKDATED, issuer.not_valid_before_utc))
        .not_valid_after(min(issuer.not_valid_after_utc, successor.not_valid_after_utc))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(successor.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value, critical=False)
        .add_extension(authority_key_identifier(issuer), critical=False)
    )
    try:
        limits = successor.extensions.get_extension_for_class(x509.NameConstraints)
    except x509.ExtensionNotFound:
        return builder.sign(issuer_key, digest_for(issuer_key))
    return builder.add_extension(limits.value, critical=limits.critical).sign(issuer_key, digest_for(issuer_key))
