"""Whether a signature is whole, without OpenSSH: quick enough for every record of a trail. Pure.

Who signed, and whether that key was allowed to, OpenSSH judges (`signatures`). The formats are those of OpenSSH's
PROTOCOL.sshsig, RFC 4253, section 6.6, RFC 5656, section 3.1.2, and RFC 8332.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature
from cryptography.hazmat.primitives.serialization import load_ssh_public_key

_MAGIC = b"SSHSIG"
_ECDSA_HASHES = {256: hashes.SHA256(), 384: hashes.SHA384(), 521: hashes.SHA512()}
_RSA_HASHES = {b"rsa-sha2-256": hashes.SHA256(), b"rsa-sha2-512": hashes.SHA512()}


class UnknownKind(Exception):
    """A key of a kind that is not judged here, of a security key for example."""


def key_that_signed(data: bytes, signature: bytes, namespace: str) -> str:
    """The fingerprint (``SHA256:...``) of the key whose armored ``signature`` of the data for ``namespace`` holds.

    Raises ValueError where it does not, and UnknownKind.
    """
    blob = _dearmored(signature)
    if blob[:10] != _MAGIC + (1).to_bytes(4, "big"):
        raise ValueError("it is no SSH signature")
    public, signed_for, reserved, hash_name, inner = _strings(blob[10:], 5)
    if signed_for != namespace.encode():
        raise ValueError("it was made for something else than a record")
    if hash_name not in (b"sha256", b"sha512"):
        raise ValueError("it is of a hash that SSH signatures do not have")
    digest = hashlib.new(hash_name.decode(), data).digest()
    signed = _MAGIC + b"".join(map(_string, (signed_for, reserved, hash_name, digest)))
    _check(public, inner, signed)
    return "SHA256:" + base64.b64encode(hashlib.sha256(public).digest()).decode().rstrip("=")


def _check(public: bytes, inner: bytes, signed: bytes) -> None:
    kind = _strings(public, 1)[0]
    algorithm, value = _strings(inner, 2)
    try:
        key = load_ssh_public_key(kind + b" " + base64.b64encode(public))
    except UnsupportedAlgorithm as error:
        raise UnknownKind(kind.decode("ascii", "replace")) from error
    try:
        if isinstance(key, ed25519.Ed25519PublicKey) and algorithm == kind:
            key.verify(value, signed)
        elif isinstance(key, ec.EllipticCurvePublicKey) and algorithm == kind:
            r, s = (int.from_bytes(part, "big", signed=True) for part in _strings(value, 2))
            key.verify(encode_dss_signature(r, s), signed, ec.ECDSA(_ECDSA_HASHES[key.key_size]))
        elif isinstance(key, rsa.RSAPublicKey) and algorithm in _RSA_HASHES:
            key.verify(value, signed, padding.PKCS1v15(), _RSA_HASHES[algorithm])
        else:
            raise UnknownKind(kind.decode("ascii", "replace"))
    except InvalidSignature:
        raise ValueError("it does not hold: what was signed was altered, or the signature") from None


def _dearmored(signature: bytes) -> bytes:
    lines = signature.split()
    text = b" ".join(lines)
    begin, end = b"-----BEGIN SSH SIGNATURE-----", b"-----END SSH SIGNATURE-----"
    if not text.startswith(begin) or not text.endswith(end):
        raise ValueError("it is no SSH signature")
    return base64.b64decode(text[len(begin) : -len(end)].replace(b" ", b""), validate=True)


def _strings(data: bytes, count: int) -> list[bytes]:
    """The first ``count`` strings in SSH's wire format (RFC 4251, section 5); raises ValueError for fewer."""
    found = list(_each_string(data, count))
    if len(found) != count:
        raise ValueError("it ends too early")
    return found


def _each_string(data: bytes, count: int) -> Iterator[bytes]:
    at = 0
    for _ in range(count):
        length = int.from_bytes(data[at : at + 4], "big")
        if len(data) < at + 4 + length or len(data) < at + 4:
            return
        yield data[at + 4 : at + 4 + length]
        at += 4 + length


def _string(data: bytes) -> bytes:
    return len(data).to_bytes(4, "big") + data
