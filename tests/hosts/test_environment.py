"""What a client program, and a daemon that it may leave behind, gets of this process's environment."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mailtls_nb.hosts.container import ContainerHost
from mailtls_nb.hosts.ssh import SshHost
from mailtls_nb.testbed import engine

NEEDED = {"SSH_AUTH_SOCK": "/agent", "DOCKER_HOST": "tcp://127.0.0.1:1", "LC_TIME": "C", "no_proxy": "example.test"}


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in {**NEEDED, "CA_PASSPHRASE": "hidden", "SSHPASS": "hidden"}.items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("host", [ContainerHost(("docker",), "c", "c"), SshHost("example.test", None, "h")])
def test_a_client_gets_what_it_needs_and_no_secret(host: ContainerHost | SshHost) -> None:
    """ssh's shared connection would keep it for as long as it lives."""
    environment = host.client_environment()
    assert environment.items() >= NEEDED.items()
    assert "PATH" in environment
    assert not {"CA_PASSPHRASE", "SSHPASS"} & environment.keys()


def test_a_container_engine_that_is_started_gets_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A program in the daemon's place writes down what it was given."""
    dockerd, seen = tmp_path / "dockerd", tmp_path / "seen"
    dockerd.write_text(f"#!/bin/sh\nenv >{seen}.new\nmv {seen}.new {seen}\n")
    dockerd.chmod(0o755)
    engine.launch(str(dockerd), tmp_path / "log")
    deadline = time.monotonic() + 10
    while not seen.exists():
        assert time.monotonic() < deadline, "the program was not started"
        time.sleep(0.02)
    given = seen.read_text()
    assert "CA_PASSPHRASE=" not in given
    assert "PATH=" in given
    assert "no_proxy=example.test" in given
