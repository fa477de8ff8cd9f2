"""The CA's private key as a file: encrypted when we write it, read in the forms openssl writes. Pure."""

from __future__ import annotations

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    PrivateFormat,
    load_pem_private_key,
)

from mailtls_nb.errors import BadParameter, CADirectoryError
from mailtls_nb.pki.profiles import PrivateKey
from mailtls_nb.secret import Secret

# openssl before 3.0 refuses to read shorter ones (crypto/pem, MIN_LENGTH), and reads no more than the first line.
_SHORTEST_PASSPHRASE = 4
_LONGEST_PASSPHRASE = 1023


def check_passphrase(passphrase: Secret) -> None:
    """Raise BadParameter(ca_passphrase) for a passphrase that openssl could not be given later."""
    value = passphrase.reveal()
    if not _SHORTEST_PASSPHRASE <= len(value) <= _LONGEST_PASSPHRASE:
        raise BadParameter(
            "ca_passphrase",
            f"is not {_SHORTEST_PASSPHRASE} to {_LONGEST_PASSPHRASE} octets long (openssl reads no other)",
        )
    if any(octet in value for octet in b"\n\r\0"):
        raise BadParameter("ca_passphrase", "has more than one line, or a NUL: openssl could not be given it")


def encrypted_pem(key: PrivateKey, passphrase: Secret) -> bytes:
    """The key as PKCS#8 under PBES2 (RFC 8018), which every openssl since 1.0 reads."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, BestAvailableEncryption(passphrase.reveal()))


def is_encrypted(pem: bytes) -> bool:
    """Whether a private key's PEM needs a passphrase: PKCS#8, or the traditional form."""
    return b"-----BEGIN ENCRYPTED PRIVATE KEY-----" in pem or b"Proc-Type: 4,ENCRYPTED" in pem


def load(pem: bytes, passphrase: Secret | None, *, where: str) -> PrivateKey:
    """The key of a file; raises BadParameter(ca_passphrase) or CADirectoryError, which name ``where``.

    A key that is not encrypted is read whatever passphrase is given.
    """
    encrypted = is_encrypted(pem)
    if encrypted and (passphrase is None or not passphrase.reveal()):
        raise BadParameter(
            "ca_passphrase", f"is missing: {where} is encrypted", do="give env:NAME, file:PATH or prompt"
        )
    try:
        key = load_pem_private_key(pem, passphrase.reveal() if encrypted and passphrase else None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        if encrypted:
            raise BadParameter(
                "ca_passphrase", f"does not open {where}", do="check which passphrase this CA has"
            ) from error
        raise CADirectoryError(f"{where} holds no private key that can be read", left="nothing was changed") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey):
        raise CADirectoryError(f"{where} is neither an EC nor an RSA key", left="nothing was changed")
    return key
