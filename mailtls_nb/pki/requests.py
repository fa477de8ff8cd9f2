"""Certificate signing requests (RFC 2986) that came as a file: read, checked, and reduced to key and names. Pure."""

from __future__ import annotations

import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import AttributeOID, ExtensionOID, NameOID

from mailtls_nb.errors import BadParameter, CertificateRefused
from mailtls_nb.names import hostname, openssl_dn, shown
from mailtls_nb.pki.profiles import PublicKey

_PEM_REQUEST = re.compile(rb"-----BEGIN (?:NEW )?CERTIFICATE REQUEST-----")
_WEAK_DIGESTS = (hashes.MD5, hashes.SHA1)
_RSA_BITS = range(2048, 8193)
_RSA_EXPONENT = 65537
_NO_CERTIFICATE = "no certificate was issued"


@dataclass(frozen=True)
class SigningRequest:
    """What is taken over from a request: its key. ``ignored`` says what else it asked for, one sentence each."""

    public_key: PublicKey
    ignored: tuple[str, ...] = ()


def read_request(data: bytes, *, names: tuple[str, ...], where: str) -> SigningRequest:
    """Read a request, PEM or DER, and check it against the ``names`` (as from `names.hostname`) to be certified.

    Its signature must be its own key's, the key strong and of a kind that mail servers take, and every host
    name in it one of ``names``. Raises CertificateRefused with every problem; ``where`` is the file's name.
    """
    request = _parsed(data, where)
    problems: list[str] = []
    problems += _signature_problems(request)
    try:
        key = request.public_key()
    except (ValueError, UnsupportedAlgorithm):
        key = None
        problems.append("its public key cannot be read")
    if key is not None and (problem := key_problem(key)):
        problems.append(problem)
    extensions: tuple[x509.Extension[x509.ExtensionType], ...] = ()
    try:
        extensions = tuple(request.extensions)
    except (ValueError, x509.DuplicateExtension, x509.UnsupportedGeneralNameType):
        problems.append("the extensions it asks for cannot be read")
    problems += _name_problems(request, extensions, names)
    if problems or not isinstance(key, ec.EllipticCurvePublicKey | rsa.RSAPublicKey):
        raise _refused(where, *problems)
    return SigningRequest(key, _ignored(request, extensions))


def key_problem(key: object) -> str:
    """Why no mail server certificate is made for this public key; empty when one may be."""
    match key:
        case ec.EllipticCurvePublicKey():
            known = isinstance(key.curve, ec.SECP256R1 | ec.SECP384R1)
            return "" if known else f"its key is on the curve {key.curve.name}: P-256 and P-384 are accepted"
        case rsa.RSAPublicKey():
            if key.key_size not in _RSA_BITS:
                return f"its RSA key has {key.key_size} bits: {_RSA_BITS[0]} to {_RSA_BITS[-1]} are accepted"
            exponent = key.public_numbers().e
            return "" if exponent == _RSA_EXPONENT else f"its RSA key has the exponent {exponent}, not {_RSA_EXPONENT}"
        case _:
            return f"its key is {type(key).__name__.removesuffix('PublicKey')}: EC and RSA are accepted"


def _parsed(data: bytes, where: str) -> x509.CertificateSigningRequest:
    if b"PRIVATE KEY-----" in data:
        raise _refused(where, "it holds a private key: a request never does, and a key that has travelled is no secret")
    count = len(_PEM_REQUEST.findall(data))
    if count > 1:
        raise _refused(where, f"it holds {count} requests: give one file for each")
    try:
        return x509.load_pem_x509_csr(data) if count else x509.load_der_x509_csr(data)
    except ValueError as error:
        raise _refused(where, "it is no certificate signing request, PEM or DER") from error


def _signature_problems(request: x509.CertificateSigningRequest) -> list[str]:
    try:
        digest = request.signature_hash_algorithm
        if isinstance(digest, _WEAK_DIGESTS):
            return [f"it is signed with {digest.name.upper()}, which can be forged"]
        valid = request.is_signature_valid
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return ["its signature cannot be checked: its algorithm is not known"]
    return [] if valid else ["its signature is not by its own key: it was changed on the way, or the key is not theirs"]


def _name_problems(
    request: x509.CertificateSigningRequest,
    extensions: tuple[x509.Extension[x509.ExtensionType], ...],
    expected: tuple[str, ...],
) -> list[str]:
    asked = [("common name", str(a.value)) for a in request.subject.get_attributes_for_oid(NameOID.COMMON_NAME)]
    for extension in extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            asked += [("DNS name", name) for name in extension.value.get_values_for_type(x509.DNSName)]
    problems = []
    for kind, text in asked:
        try:
            name = hostname("csr", text)
        except BadParameter as error:
            problems.append(f"{kind}: {error.problem}")
            continue
        if name not in expected:
            problems.append(f"{kind}: it asks for {name}, expected {' or '.join(expected)}")
    return problems


def _ignored(
    request: x509.CertificateSigningRequest, extensions: tuple[x509.Extension[x509.ExtensionType], ...]
) -> tuple[str, ...]:
    others = [a for a in request.subject if a.oid != NameOID.COMMON_NAME]
    remarks = [f"subject {openssl_dn(x509.Name([a]))[1:]}: only the common name is used" for a in others]
    for extension in extensions:
        if isinstance(extension.value, x509.SubjectAlternativeName):
            remarks += [
                f"alternative name {shown(str(name.value))}: only DNS names are certified"
                for name in extension.value
                if not isinstance(name, x509.DNSName)
            ]
        elif isinstance(extension.value, x509.BasicConstraints) and extension.value.ca:
            remarks.append("basicConstraints CA:TRUE: the certificate is no CA's")
        else:
            remarks.append(f"extension {_extension_name(extension.oid)}: the CA's own profile decides")
    if any(a.oid == AttributeOID.CHALLENGE_PASSWORD for a in request.attributes):
        remarks.append("challengePassword: not used, and not secret in a request")
    return tuple(remarks)


def _extension_name(oid: x509.ObjectIdentifier) -> str:
    names = {value: name for name, value in vars(ExtensionOID).items() if isinstance(value, x509.ObjectIdentifier)}
    return names[oid].lower().replace("_", " ") if oid in names else oid.dotted_string


def _refused(where: str, *problems: str) -> CertificateRefused:
    return CertificateRefused(
        f"the certificate signing request {where} is refused:",
        tuple(problems),
        left=_NO_CERTIFICATE,
        do="ask for a new one, or allow the names it asks for with hostname and dns_names",
    )
