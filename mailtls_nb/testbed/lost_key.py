"""A key that was lost on purpose: the testbed's CA has certified it, and whoever found it can show the certificate.

So that a proof can show, with live connections, what a mail server makes of a certificate before it is revoked and
after. The key lies below the testbed's state directory and is good for nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mailtls_nb.hosts.base import Host
from mailtls_nb.pki.certificates import is_issued_by
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.profiles import key_type
from mailtls_nb.testbed.testbed import DOMAIN, Testbed

LOST_HOSTNAME = f"lost.{DOMAIN}"
_DIRECTORY = "/var/lib/mailtls-nb-found"
_OWNER = "root:root"
_DAYS = 365


def lost_key(testbed: Testbed, ca: CADirectory) -> Path:
    """The file with certificate and key; both are made where there are none of this CA. Raises CADirectoryError."""
    path = testbed.state_dir / "lost-key.pem"
    if not (path.exists() and is_issued_by(x509.load_pem_x509_certificate(path.read_bytes()), ca.ca_certificate)):
        key = key_type("ec-p256", use="host").generate()
        certificate = ca.issue(
            key.public_key(),
            (LOST_HOSTNAME,),
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
def found_by(finder: Host, lost: Path) -> Iterator[str]:
    """Put it on the host that is to show it, for as long as this lasts; yields its path there."""
    path = f"{_DIRECTORY}/{LOST_HOSTNAME}.pem"
    finder.run(("mkdir", "-p", "-m", "0700", _DIRECTORY), timeout_s=30).check("making a directory for a proof")
    try:
        finder.write(path, lost.read_bytes(), mode=0o600, owner=_OWNER)
        yield path
    finally:
        finder.run(("rm", "-rf", _DIRECTORY), timeout_s=30)
