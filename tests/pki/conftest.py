"""A CA for each test, and openssl as the instrument that is not ours."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from mailtls_nb.names import DistinguishedName
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.profiles import PublicKey, key_type
from mailtls_nb.secret import Secret

PASSPHRASE = b"correct horse battery staple"

Openssl = Callable[..., str]


@pytest.fixture(scope="session")
def passphrase() -> Secret:
    return Secret(PASSPHRASE)


@pytest.fixture
def now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)


@pytest.fixture
def public_key() -> PublicKey:
    return ec.generate_private_key(ec.SECP256R1()).public_key()


@pytest.fixture
def create(passphrase: Secret, now: datetime) -> Callable[..., CADirectory]:
    """create(path, name_constraints=(...), key="ec-p256", name="Example Mail CA")"""

    def create(path: Path, *, name: str = "Example Mail CA", key: str = "ec-p256", **others: object) -> CADirectory:
        settings = {"valid_days": 3650, "passphrase": passphrase, "now": now, **others}
        return CADirectory.create(path, DistinguishedName(name), key_type(key, use="ca"), **settings)  # type: ignore[arg-type]

    return create


@pytest.fixture
def ca(create: Callable[..., CADirectory], tmp_path: Path) -> CADirectory:
    return create(tmp_path / "ca")


@pytest.fixture
def openssl(tmp_path: Path) -> Openssl:
    """openssl("verify", ...) runs it with the passphrase in $PASS and returns what it printed; status None: any."""

    def run(*argv: str | Path, status: int | None = 0, cwd: Path = tmp_path, stdin: bytes = b"") -> str:
        done = subprocess.run(
            ["openssl", *map(str, argv)],
            input=stdin,
            capture_output=True,
            cwd=cwd,
            env={**os.environ, "PASS": PASSPHRASE.decode()},
            timeout=60,
            check=False,
        )
        printed = (done.stdout + done.stderr).decode("utf-8", "replace")
        assert status in (None, done.returncode), printed
        return printed

    return run
