"""Certificates of the testbed's CAs with keys that are nobody's: for proofs, and one that was lost on purpose.

So that a proof can show, with live connections, what a mail server makes of a certificate before a change and after.
The keys lie below the testbed's state directory and are good for nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mailtls_nb.hosts.base import Host
from mailtls_nb.pki.certificates import fingerprint, is_issued_by
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.profiles import key_type
from mailtls_nb.testbed.testbed import DOMAIN, Testbed

LOST_HOSTNAME = f"lost.{DOMAIN}"
PROOF_HOSTNAME = f"proof.{DOMAIN}"
_DIRECTORY = "/var/lib/mailtls-nb-shown"
_OWNER = "root:root"
_DAYS = 365
_STILL_GOOD = timedelta(days=1)


def lost_key(testbed: Testbed, ca: CADirectory) -> Path:
    """The file with the certificate whose key was lost, and its key; made where there is none of this CA.

    Raises CADirectoryError.
    """
    return _certificate_with_key(testbed, ca, LOST_HOSTNAME, testbed.state_dir / "lost-key.pem")


def proof_certificate(testbed: Testbed, ca: CADirectory) -> Path:
    """The file with a certificate of this CA to be shown in proofs, and its key; made where there is none in date.

    Raises CADirectoryError.
    """
    path = testbed.state_dir / f"proof-{fingerprint(ca.ca_certificate)[:12]}.pem"
    return _certificate_with_key(testbed, ca, PROOF_HOSTNAME, path)


def _certificate_with_key(testbed: Testbed, ca: CADirectory, name: str, path: Path) -> Path:
    if path.exists():
        there = x509.load_pem_x509_certificate(path.read_bytes())
        if is_issued_by(there, ca.ca_certificate) and there.not_valid_after_utc > datetime.now(UTC) + _STILL_GOOD:
            return path
    key = key_type("ec-p256", use="host").generate()
    certificate = ca.issue(
        key.public_key(),
        (name,),
        roles="both",
        valid_days=_DAYS,
        passphrase=testbed.passphrase(),
        now=datetime.now(UTC),
    )
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    beside = path.with_suffix(".new")
    with os.fdopen(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(certificate.public_bytes(Encoding.PEM) + private)
    beside.rename(path)
    return path


@contextmanager
def shown_by(client: Host, file: Path) -> Iterator[str]:
    """Put such a file on the host that is to show it, for as long as this lasts; yields its path there."""
    client.run(("mkdir", "-p", "-m", "0700", _DIRECTORY), timeout_s=30).check("making a directory for a proof")
    path = f"{_DIRECTORY}/{file.name}"
    try:
        client.write(path, file.read_bytes(), mode=0o600, owner=_OWNER)
        yield path
    finally:
        client.run(("rm", "-f", path), timeout_s=30)
