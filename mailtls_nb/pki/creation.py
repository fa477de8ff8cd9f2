"""Making a CA directory: built beside its place and renamed into it, so that it is there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailtls_nb import durable
from mailtls_nb.pki import cakey
from mailtls_nb.pki.configuration import openssl_cnf
from mailtls_nb.pki.profiles import PrivateKey
from mailtls_nb.secret import Secret


def build(path: Path, certificate: x509.Certificate, key: PrivateKey, passphrase: Secret, *, first_serial: int) -> None:
    """Make the directory; raises OSError, everything put back. The caller holds the lock on its parent.

    What a creation that was killed left beside ``path`` is removed first.
    """
    scratch = scratch_path(path)
    if scratch.exists():
        shutil.rmtree(scratch)
    try:
        durable.make_directory(scratch, mode=0o755)
        for name, mode in (("private", 0o700), ("newcerts", 0o755), ("crl", 0o755)):
            durable.make_directory(scratch / name, mode=mode)
        durable.write(scratch / "private" / "cakey.pem", cakey.encrypted_pem(key, passphrase), mode=0o600)
        for name, content in _files(path, certificate, first_serial).items():
            durable.write(scratch / name, content, mode=0o644)
        durable.rename_directory(scratch, path)
    except BaseException:
        shutil.rmtree(scratch, ignore_errors=True)
        raise


def scratch_path(path: Path) -> Path:
    """Where the CA of ``path`` is built: a fixed name beside it, so that left-overs are found. Names may be long."""
    return path.with_name(f".mailtls-nb-{hashlib.sha256(os.fsencode(path.name)).hexdigest()[:16]}.creating")


def _files(path: Path, certificate: x509.Certificate, first_serial: int) -> Mapping[str, bytes]:
    assert certificate.signature_hash_algorithm is not None  # noqa: S101 - ours: EC or RSA
    configuration = openssl_cnf(
        path, unique_subject=False, random_serials=True, digest=certificate.signature_hash_algorithm.name
    )
    return {
        "index.txt": b"",
        # No: a renewed certificate has the same subject as the one it replaces.
        "index.txt.attr": b"unique_subject = no\n",
        "serial": f"{first_serial:040X}\n".encode(),
        "crlnumber": b"01\n",
        "openssl.cnf": configuration.encode(),
        "cacert.pem": certificate.public_bytes(Encoding.PEM),
    }
