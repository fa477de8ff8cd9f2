"""What the CA makes: keys, the CA certificate, mail server certificates. Pure: time and serials are arguments."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal, get_args

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID

from mailtls_nb.errors import BadParameter
from mailtls_nb.names import DistinguishedName

Roles = Literal["both", "server", "client"]
PrivateKey = ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey
PublicKey = ec.EllipticCurvePublicKey | rsa.RSAPublicKey

# Hosts whose clocks are a little behind must not refuse a certificate made a moment ago.
BACKDATED = timedelta(minutes=5)
# Far enough for any CA, near enough that every date fits a certificate (RFC 5280 4.1.2.5: year 9999).
LONGEST_VALIDITY_DAYS = 36_500
_PURPOSES: dict[Roles, list[x509.ObjectIdentifier]] = {
    "both": [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH],
    "server": [ExtendedKeyUsageOID.SERVER_AUTH],
    "client": [ExtendedKeyUsageOID.CLIENT_AUTH],
}


@dataclass(frozen=True)
class KeyType:
    """A kind of key by its word in parameters; ``options`` are genpkey's, understood from OpenSSL 1.0.2 on."""

    word: str
    algorithm: Literal["EC", "RSA"]
    bits: int
    options: tuple[str, ...]
    for_a_ca: bool = True

    def generate(self) -> PrivateKey:
        """A new key of this type, for the CA itself: a host makes its own with `genpkey_argv`."""
        if self.algorithm == "RSA":
            return rsa.generate_private_key(public_exponent=65537, key_size=self.bits)
        return ec.generate_private_key(ec.SECP384R1() if self.bits == 384 else ec.SECP256R1())

    @property
    def genpkey_argv(self) -> tuple[str, ...]:
        """The start of an argv that makes such a key on a host; ``-out`` is left to the caller."""
        return ("openssl", "genpkey", "-algorithm", self.algorithm, *(a for o in self.options for a in ("-pkeyopt", o)))


def _ec(word: str, curve: str, bits: int) -> KeyType:
    # Before OpenSSL 1.1.0 the default is explicit curve parameters, which no verifier accepts.
    return KeyType(word, "EC", bits, (f"ec_paramgen_curve:{curve}", "ec_param_enc:named_curve"))


def _rsa(word: str, bits: int, *, for_a_ca: bool = True) -> KeyType:
    return KeyType(word, "RSA", bits, (f"rsa_keygen_bits:{bits}",), for_a_ca)


KEY_TYPES: tuple[KeyType, ...] = (
    _ec("ec-p256", "P-256", 256),
    _ec("ec-p384", "P-384", 384),
    _rsa("rsa-2048", 2048, for_a_ca=False),
    _rsa("rsa-3072", 3072),
    _rsa("rsa-4096", 4096),
)


def key_type(word: str, *, use: Literal["ca", "host"]) -> KeyType:
    """The key type of that word; raises BadParameter(key_type) when there is none or it is not for this use."""
    known = {kind.word: kind for kind in KEY_TYPES if use == "host" or kind.for_a_ca}
    if word in known:
        return known[word]
    if any(kind.word == word for kind in KEY_TYPES):
        raise BadParameter(
            "key_type", f"{word} is too weak for a CA, which outlives its hosts' keys", do=_one_of(known)
        )
    raise BadParameter("key_type", f"{word!r} is not a key type", do=_one_of(known))


def key_word(public_key: CertificatePublicKeyTypes) -> str:
    """What a key is, in the words of parameters where there is one: ``ec-p256``, ``rsa-2048``, ``ed25519``."""
    if isinstance(public_key, rsa.RSAPublicKey):
        return f"rsa-{public_key.key_size}"
    if isinstance(public_key, ec.EllipticCurvePublicKey):
        curve = public_key.curve.name
        return {"secp256r1": "ec-p256", "secp384r1": "ec-p384"}.get(curve, f"ec-{curve}")
    return type(public_key).__name__.removesuffix("PublicKey").lower()


def valid_roles(word: str) -> Roles:
    """The word as roles; raises BadParameter(roles)."""
    for role in get_args(Roles):
        if word == role:
            return role  # type: ignore[no-any-return]
    raise BadParameter("roles", f"{word!r} is none of both, server, client")


def ca_certificate(
    name: DistinguishedName,
    key: PrivateKey,
    *,
    serial: int,
    now: datetime,
    valid_days: int,
    name_constraints: tuple[str, ...] = (),
) -> x509.Certificate:
    """A self-signed CA certificate (RFC 5280 4.2.1; pathlen:1 leaves room for a cross-signed successor).

    ``name_constraints`` are subtrees as from `names.name_constraints`. Raises BadParameter(valid_days).
    """
    if not 1 <= valid_days <= LONGEST_VALIDITY_DAYS:
        raise BadParameter("valid_days", f"{valid_days} is not between 1 and {LONGEST_VALIDITY_DAYS} days")
    now = now.replace(microsecond=0)
    builder = (
        x509.CertificateBuilder(
            subject_name=name.x509_name(), issuer_name=name.x509_name(), public_key=key.public_key()
        )
        .serial_number(serial)
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + timedelta(days=valid_days))
        .add_extension(x509.BasicConstraints(ca=True, path_length=1), critical=True)
        .add_extension(key_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    if name_constraints:
        permitted = [_general_name(subtree) for subtree in name_constraints]
        builder = builder.add_extension(x509.NameConstraints(permitted, excluded_subtrees=None), critical=True)
    return builder.sign(key, digest_for(key))


def mail_server_certificate(
    public_key: CertificatePublicKeyTypes,
    names: tuple[str, ...],
    *,
    roles: Roles,
    issuer: x509.Certificate,
    issuer_key: PrivateKey,
    serial: int,
    now: datetime,
    valid_days: int,
) -> x509.Certificate:
    """A certificate for a mail server: the first name in CN and SAN, all others in SAN (RFC 9525).

    It starts five minutes before ``now`` (never before its issuer) and ends ``valid_days`` after it. Raises
    BadParameter when it would outlive its issuer or bear a name that the issuer may not certify.
    """
    check_names(names, issuer)
    check_valid_days(valid_days, now=now, issuer=issuer)
    now = now.replace(microsecond=0)
    return (
        x509.CertificateBuilder(
            subject_name=DistinguishedName(names[0]).x509_name(), issuer_name=issuer.subject, public_key=public_key
        )
        .serial_number(serial)
        .not_valid_before(max(now - BACKDATED, issuer.not_valid_before_utc))
        .not_valid_after(now + timedelta(days=valid_days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            key_usage(digital_signature=True, key_encipherment=isinstance(public_key, rsa.RSAPublicKey)), critical=True
        )
        .add_extension(x509.ExtendedKeyUsage(_PURPOSES[roles]), critical=False)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        .add_extension(authority_key_identifier(issuer), critical=False)
        .sign(issuer_key, digest_for(issuer_key))
    )


def check_valid_days(valid_days: int, *, now: datetime, issuer: x509.Certificate) -> None:
    """Raise BadParameter(valid_days) unless a certificate of so many days from ``now`` does not outlive its issuer."""
    if now < issuer.not_valid_before_utc:
        raise BadParameter(
            "valid_days",
            f"the CA's certificate is valid only from {issuer.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC",
            do="check this machine's clock",
        )
    largest = (issuer.not_valid_after_utc - now.replace(microsecond=0)).days
    ends = f"the CA's certificate ends on {issuer.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC"
    if largest < 1:
        raise BadParameter("valid_days", f"{ends}: nothing can be issued any more", do="replace the CA (runbook 09)")
    if not 1 <= valid_days <= largest:
        raise BadParameter("valid_days", f"{valid_days} is not between 1 and {largest}: {ends}")


def check_names(names: tuple[str, ...], issuer: x509.Certificate) -> None:
    """Raise BadParameter for a name that does not fit a certificate or lies outside the issuer's name constraints."""
    if not names:
        raise BadParameter("hostname", "is empty")
    if len(names[0]) > 64:
        raise BadParameter(
            "hostname",
            f"{names[0]} has {len(names[0])} characters; it stands in the common name too, which holds 64 (RFC 5280)",
            do="give a shorter name as hostname and this one in dns_names",
        )
    for name in names:
        if problem := _constraint_problem(name, issuer):
            raise BadParameter("hostname" if name == names[0] else "dns_names", problem)


def constraints_of(certificate: x509.Certificate) -> tuple[str, ...]:
    """The permitted subtrees of a CA certificate in the form of `names.name_constraints`; () when it has none."""
    return tuple(str(name.value) for name in _subtrees(certificate, "permitted"))


def excludes_names(certificate: x509.Certificate) -> bool:
    """Whether its name constraints have excluded subtrees, which no CA that we make has."""
    return any(True for _ in _subtrees(certificate, "excluded"))


def _constraint_problem(name: str, issuer: x509.Certificate) -> str:
    permitted = [str(n.value) for n in _subtrees(issuer, "permitted") if isinstance(n, x509.DNSName)]
    excluded = [str(n.value) for n in _subtrees(issuer, "excluded") if isinstance(n, x509.DNSName)]
    if permitted and not any(_lies_under(name, subtree) for subtree in permitted):
        return f"{name} lies outside the names that this CA may certify: {', '.join(permitted)}"
    if any(_lies_under(name, subtree) for subtree in excluded):
        return f"{name} lies in the names that this CA may not certify: {', '.join(excluded)}"
    return ""


def _lies_under(name: str, subtree: str) -> bool:
    base = subtree.lower().removeprefix(".")
    return not base or name == base or name.endswith(f".{base}")


def _subtrees(certificate: x509.Certificate, kind: Literal["permitted", "excluded"]) -> Iterable[x509.GeneralName]:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.NameConstraints).value
    except x509.ExtensionNotFound:
        return ()
    return (constraints.permitted_subtrees if kind == "permitted" else constraints.excluded_subtrees) or ()


def _general_name(subtree: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_network(subtree))
    except ValueError:
        return x509.DNSName(subtree)


def authority_key_identifier(issuer: x509.Certificate) -> x509.AuthorityKeyIdentifier:
    """Which key signed: the issuer's own word for it (RFC 5280 4.2.1.1)."""
    try:
        identifier = issuer.extensions.get_extension_for_class(x509.SubjectKeyIdentifier).value
    except x509.ExtensionNotFound:
        # An adopted CA may have none; verifiers then hash the key themselves (RFC 5280 4.2.1.2, method 1).
        return x509.AuthorityKeyIdentifier.from_issuer_public_key(issuer.public_key())  # type: ignore[arg-type]
    return x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier)


def digest_for(key: PrivateKey) -> hashes.SHA256 | hashes.SHA384:
    """The digest that a key signs with."""
    return hashes.SHA384() if isinstance(key, ec.EllipticCurvePrivateKey) and key.key_size == 384 else hashes.SHA256()


def key_usage(
    *,
    digital_signature: bool = False,
    key_encipherment: bool = False,
    key_cert_sign: bool = False,
    crl_sign: bool = False,
) -> x509.KeyUsage:
    """The extension with these bits set (RFC 5280 4.2.1.3)."""
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=False,
        key_encipherment=key_encipherment,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=key_cert_sign,
        crl_sign=crl_sign,
        encipher_only=False,
        decipher_only=False,
    )


def _one_of(known: dict[str, KeyType]) -> str:
    return f"give one of {', '.join(known)}"
