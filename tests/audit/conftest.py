"""An operator with a key of their own, and the audit folder that they sign in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.audit.trail import Trail, allow, make_key


@pytest.fixture(autouse=True)
def _no_keys_of_whoever_runs_the_tests(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "home").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in (
        "SSH_AUTH_SOCK",
        "SSH_ASKPASS",
        "MAILTLS_SIGNING_KEY",
        "MAILTLS_ALLOWED_SIGNERS",
        "MAILTLS_RUN_FOLDER",
    ):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def trail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Trail:
    """An audit folder without runs; whoever runs something in it signs as ops@mx."""
    key = make_key(tmp_path / "ops")
    monkeypatch.setenv("MAILTLS_SIGNING_KEY", str(key))
    monkeypatch.setenv("MAILTLS_AUDIT_DIR", str(tmp_path / "audit"))
    return Trail(tmp_path / "audit", allow(tmp_path / "allowed_signers", **{"ops@mx": key}))
