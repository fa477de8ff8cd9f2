"""Transports that fail: what is said, and what to do next."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from mailtls_nb.errors import Unreachable
from mailtls_nb.hosts.container import ContainerHost
from mailtls_nb.hosts.local import LocalHost
from mailtls_nb.hosts.posix import PosixHost
from mailtls_nb.hosts.ssh import SshHost

from .conftest import SshServer


def refusal(host: PosixHost) -> str:
    with pytest.raises(Unreachable) as failure:
        host.run(["true"], timeout_s=5)
    assert failure.value.left == "nothing was touched"
    assert host.name in failure.value.what
    return str(failure.value)


def test_a_program_that_is_not_installed() -> None:
    assert "install no-such-engine" in refusal(ContainerHost(("no-such-engine",), "relay", "docker://relay"))


@pytest.mark.skipif(shutil.which("sudo") is not None, reason="this machine has sudo")
def test_no_sudo_here() -> None:
    assert "install sudo" in refusal(LocalHost(sudo=True))


@pytest.mark.testbed
class TestContainer:
    @pytest.fixture
    def stopped(self, container: ContainerHost) -> Iterator[str]:
        engine, name = container.engine_argv, f"{container.container}-stopped"
        inspect = [*engine, "inspect", "-f", "{{.Image}}", container.container]
        image = subprocess.run(inspect, capture_output=True, text=True, check=True).stdout.strip()
        subprocess.run([*engine, "create", "--name", name, image, "true"], capture_output=True, check=True)
        yield name
        subprocess.run([*engine, "rm", "-f", name], capture_output=True, check=True)

    def test_that_does_not_run(self, container: ContainerHost, stopped: str) -> None:
        assert f"start {stopped}`" in refusal(replace(container, container=stopped))

    def test_that_does_not_exist(self, container: ContainerHost) -> None:
        assert "ps -a`" in refusal(replace(container, container="mailtls-nb-no-such-container"))

    def test_of_an_engine_that_does_not_answer(self, container: ContainerHost) -> None:
        if container.engine_argv[0] != "docker":
            pytest.skip("only Docker has an engine that must answer")
        engine = ("docker", "-H", "unix:///nonexistent/docker.sock")
        assert "start the engine" in refusal(replace(container, engine_argv=engine))


class TestSshWithoutServer:
    """Nothing of the user's own configuration takes part."""

    def test_a_closed_port(self) -> None:
        host = SshHost("127.0.0.1", 1, "ssh://127.0.0.1:1", options=("-F", "/dev/null"))
        assert "see that sshd runs on 127.0.0.1" in refusal(host)

    def test_a_name_that_nobody_knows(self) -> None:
        host = SshHost("relay.invalid", None, "ssh://relay.invalid", options=("-F", "/dev/null"))
        assert "see that the name relay.invalid is right" in refusal(host)


@pytest.mark.testbed
class TestSsh:
    def test_a_key_that_is_not_accepted(self, ssh_server: SshServer, tmp_path: Path) -> None:
        key = tmp_path / "key"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
        options = ("-o", f"IdentityFile={key}")
        config = tmp_path / "config"
        config.write_text(ssh_server.config.read_text().replace(f"IdentityFile {ssh_server.key}\n", ""))
        said = refusal(replace(ssh_server, config=config).host(options=options))
        assert "give this account a key" in said

    def test_an_unknown_host_key(self, ssh_server: SshServer) -> None:
        said = refusal(ssh_server.host(options=("-o", "UserKnownHostsFile=/dev/null")))
        assert "compare the host key's fingerprint" in said

    def test_a_changed_host_key(self, ssh_server: SshServer, tmp_path: Path) -> None:
        """The host shows a key other than the one it is known by: somebody may be in between."""
        other = tmp_path / "other"
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", other], check=True)
        known = tmp_path / "known_hosts"
        known.write_text(f"{ssh_server.address} {other.with_suffix('.pub').read_text()}")
        said = refusal(ssh_server.host(options=("-o", f"UserKnownHostsFile={known}")))
        assert "Next: somebody may be listening in" in said

    def test_the_same_server_is_reached_otherwise(self, ssh_server: SshServer) -> None:
        """So the three above failed for the reason they name."""
        assert ssh_server.host("visitor").run(["id", "-un"], timeout_s=10).text == "visitor\n"

    def test_sudo_that_asks_for_a_password(self, ssh_server: SshServer) -> None:
        assert "allow this account `NOPASSWD: ALL`" in refusal(ssh_server.host("visitor", sudo=True))

    def test_connections_are_shared_only_where_the_operator_left_it_open(self, ssh_server: SshServer) -> None:
        mine = ssh_server.host()
        theirs = ssh_server.host(options=("-o", "ControlPath=/nonexistent/theirs"))
        assert any("ControlPath=/tmp/mailtls-nb-ssh-" in argument for argument in mine.rewrite(["true"]))
        assert not any("mailtls-nb-ssh-" in argument for argument in theirs.rewrite(["true"]))
