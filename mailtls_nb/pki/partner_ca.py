"""A partner's CA as the operator offers it: read, held against the fingerprint, and refused where it must be. Pure.

Whoever is trusted here may vouch for any name towards sendmail, so everything in the file must either bear a
fingerprint that came by another way, or be signed by a certificate that does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa

from mailtls_nb.errors import BadParameter, CertificateRefused
from mailtls_nb.names import openssl_dn, shown
from mailtls_nb.pki.certificates import fingerprint, is_ca, is_issued_by, key_info

LONGEST_FILE = 256 * 1024
MOST_CERTIFICATES = 20
_SHORTEST_RSA, _SHORTEST_EC = 2048, 256

# As openssl, browsers and people write it: "SHA256 Fingerprint=AA:BB...", "sha256:aabb...", "SHA-256 AA BB ...".
_LABEL = re.compile(r"sha-?256(\s+fingerprint)?\s*[=:]?\s*", re.IGNORECASE)
_DIGITS = re.compile(r"[0-9A-Fa-f]{64}")
_SEPARATORS = re.compile(r"[\s:-]+")


def read_fingerprints(parameter: str, text: str) -> tuple[str, ...]:
    """A comma-separated list of SHA-256 fingerprints in any usual spelling, each as ``fingerprint`` writes it.

    Raises BadParameter for anything else, a fingerprint of another kind (SHA-1, MD5) among it. Empty text gives ().
    """
    found = []
    for item in text.split(",") if text.strip() else ():
        digits = _SEPARATORS.sub("", _LABEL.sub("", item.strip(), count=1))
        if not _DIGITS.fullmatch(digits):
            kind = {32: ", as of MD5", 40: ", as of SHA-1"}.get(len(digits), "")
            raise BadParameter(
                parameter,
                f"{shown(item.strip())} is not a SHA-256 fingerprint: that has 64 hexadecimal digits, this has "
                f"{len(digits)} characters{kind}",
                do="ask the partner for the output of: openssl x509 -in CA.pem -noout -fingerprint -sha256",
            )
        found.append(digits.lower())
    return tuple(dict.fromkeys(found))


def read_partner_ca(data: bytes, *, where: str) -> tuple[x509.Certificate, ...]:
    """The certificates of a file, PEM (one or several) or DER, each once; raises CertificateRefused."""
    if len(data) > LONGEST_FILE:
        raise refused(where, [f"it has more than {LONGEST_FILE} bytes, as no CA's file has"])
    if b"PRIVATE KEY-----" in data:
        problem = "it holds a private key: only certificates belong here, and whoever sent it should know"
        raise refused(where, [problem])
    try:
        pem = b"-----BEGIN" in data
        found = x509.load_pem_x509_certificates(data) if pem else [x509.load_der_x509_certificate(data)]
    except ValueError as error:
        raise refused(where, ["it holds no certificate that can be read, PEM or DER"]) from error
    certificates = tuple(dict.fromkeys(found))
    if len(certificates) > MOST_CERTIFICATES:
        raise refused(where, [f"it holds {len(certificates)} certificates, more than {MOST_CERTIFICATES}"])
    return certificates


def check_fingerprints(certificates: Sequence[x509.Certificate], given: Sequence[str], *, where: str) -> None:
    """Raise CertificateRefused unless each certificate bears a given fingerprint or was signed by one that counts.

    Each fingerprint must be that of one certificate in the file: one that fits none was meant for something else.
    """
    if not given:
        raise refused(
            where,
            ["no fingerprint was given, so nothing says that it is the partner's"],
            do="ask the partner for its SHA-256 fingerprint by another way than the file came (a telephone number that "
            "you had before), and give it in partner_ca_fingerprint",
        )
    vouched = [certificate for certificate in certificates if fingerprint(certificate) in given]
    while more := [c for c in certificates if c not in vouched and any(is_issued_by(c, v) for v in vouched)]:
        vouched += more
    there = {fingerprint(certificate) for certificate in certificates}
    problems = [
        f"no certificate in it has the fingerprint {_colons(digits)}" for digits in given if digits not in there
    ]
    problems += [
        f"{openssl_dn(certificate.subject)} has the fingerprint {_colons(fingerprint(certificate))}, which was not "
        "given, and no certificate with a given one has signed it"
        for certificate in certificates
        if certificate not in vouched
    ]
    if problems:
        raise refused(
            where,
            problems,
            do="compare with what the partner told you by another way; where it differs, do not go on. "
            "Several fingerprints are separated by commas; a certificate that is not wanted is taken out of the file",
        )


def check_partner_ca(certificates: Sequence[x509.Certificate], *, now: datetime, where: str) -> tuple[str, ...]:
    """Raise CertificateRefused, naming every reason, unless all may be trusted as CAs; returns remarks."""
    problems: list[str] = []
    remarks: list[str] = []
    for certificate in certificates:
        name = openssl_dn(certificate.subject)
        try:
            found = list(_problems(certificate, now))
        except (ValueError, UnsupportedAlgorithm):
            found = ["an extension or the key in it cannot be read"]
        problems += [f"{name}: {problem}" for problem in found]
        if _bears_its_own_name(certificate) and (weak := _weak_digest(certificate)):
            remarks.append(
                f"{name} is signed with {weak} by itself. Nobody relies on that signature: it is trusted for its "
                "fingerprint. Ask the partner whether a new CA is planned."
            )
    if problems:
        raise refused(where, problems)
    return tuple(remarks)


def check_beside(
    certificates: Sequence[x509.Certificate],
    *,
    trusted: Sequence[x509.Certificate],
    own: Sequence[x509.Certificate],
    where: str,
) -> None:
    """Raise CertificateRefused for a CA that cannot be trusted beside those that the host trusts already.

    ``own`` are the certificates that the host shows itself.
    """
    problems = [
        f"{openssl_dn(certificate.subject)}: {problem}"
        for certificate in certificates
        for problem in (*_relations(certificate, trusted, own), *_rootless(certificate, (*certificates, *trusted)))
    ]
    if problems:
        raise refused(where, problems, do="see whether this is the file that the partner sent")


def _problems(certificate: x509.Certificate, now: datetime) -> Iterator[str]:
    if not is_ca(certificate):
        yield "it is no CA certificate (basicConstraints without CA:TRUE); give the one that signed it"
    elif not may(certificate, "key_cert_sign"):
        yield "it may not sign certificates (keyUsage without keyCertSign)"
    if now < certificate.not_valid_before_utc:
        yield f"it is not valid before {certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC"
    if now > certificate.not_valid_after_utc:
        yield f"it expired on {certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC"
    if weak := _weak_key(certificate):
        yield f"its key is weak: {weak}"
    if not _bears_its_own_name(certificate) and (digest := _weak_digest(certificate)):
        yield f"it is signed with {digest}, which can be forged"


def _relations(
    certificate: x509.Certificate, trusted: Sequence[x509.Certificate], own: Sequence[x509.Certificate]
) -> Iterator[str]:
    if any(is_issued_by(shown_by_host, certificate) for shown_by_host in own):
        yield "it has signed this host's own certificate: it is our own CA and not a partner's"
    key = key_info(certificate.public_key())
    if any(
        _canonical(other.subject) == _canonical(certificate.subject) and key_info(other.public_key()) != key
        for other in trusted
    ):
        yield (
            "a CA of the same name with another key is trusted on this host already. Both can only be told apart where "
            "every certificate of both carries an AuthorityKeyIdentifier; without, mail of one of them stops being "
            "verified. Untrust the old one first, or ask the partner for a CA with a name of its own"
        )


def _rootless(certificate: x509.Certificate, known: Sequence[x509.Certificate]) -> Iterator[str]:
    """What is wrong with an intermediate CA that sendmail could not follow up to a root (measured: verify=FAIL)."""
    above = [certificate]
    while more := [c for c in known if c not in above and any(is_issued_by(a, c) for a in above)]:
        above += more
    if not any(_bears_its_own_name(c) for c in above):
        yield (
            "it is an intermediate CA, and sendmail verifies nothing by it without its root: ask the partner for the "
            f"certificate of {openssl_dn(above[-1].issuer)} too, with its fingerprint, and put both into the file"
        )


def may(certificate: x509.Certificate, use: str) -> bool:
    """Whether keyUsage allows it; a certificate without keyUsage may do anything (RFC 5280 4.2.1.3)."""
    try:
        usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    except x509.ExtensionNotFound:
        return True
    return bool(getattr(usage, use))


def _weak_key(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, dsa.DSAPublicKey):
        return "DSA"
    if isinstance(key, rsa.RSAPublicKey) and key.key_size < _SHORTEST_RSA:
        return f"RSA with {key.key_size} bits, at least {_SHORTEST_RSA} are needed"
    if isinstance(key, ec.EllipticCurvePublicKey) and key.key_size < _SHORTEST_EC:
        return f"an elliptic curve of {key.key_size} bits, at least {_SHORTEST_EC} are needed"
    return ""


def _bears_its_own_name(certificate: x509.Certificate) -> bool:
    """Whether it names itself as its issuer; a signature by such digests this library would not verify."""
    return certificate.issuer == certificate.subject


def _weak_digest(certificate: x509.Certificate) -> str:
    digest = certificate.signature_hash_algorithm
    return digest.name.upper() if isinstance(digest, hashes.MD5 | hashes.SHA1) else ""


def _canonical(name: x509.Name) -> tuple[tuple[str, str], ...]:
    """A name as OpenSSL compares and hashes it: letters' case and runs of spaces do not count (RFC 5280 7.1)."""
    return tuple((a.oid.dotted_string, " ".join(str(a.value).lower().split())) for rdn in name.rdns for a in rdn)


def _colons(digits: str) -> str:
    return ":".join(digits[place : place + 2] for place in range(0, len(digits), 2)).upper()


def refused(where: str, problems: list[str], *, do: str = "") -> CertificateRefused:
    """The error for a file that is not taken, with every reason."""
    return CertificateRefused(
        f"{where} is refused:", tuple(problems), left="nothing was touched", do=do or "ask the partner for another file"
    )
