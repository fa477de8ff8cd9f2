"""One set of hosts for the contract: each transport, with and without sudo, and a way to look from outside."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import pytest

from mailtls_nb.hosts.container import ContainerHost
from mailtls_nb.hosts.local import LocalHost
from mailtls_nb.hosts.posix import PosixHost
from mailtls_nb.hosts.ssh import SshHost
from mailtls_nb.testbed import Testbed

# An account with sudo and one without, made on the host that runs sshd. The first one's shell greets whoever comes,
# on both streams, as shells out there do.
_SSHD = r"""
set -e
for account in keeper visitor; do
  id "$account" >/dev/null 2>&1 || useradd -m -s /bin/bash "$account"
  install -d -m 0700 -o "$account" -g "$account" "/home/$account/.ssh"
  printf '%s\n' "$1" >"/home/$account/.ssh/authorized_keys"
done
printf 'echo Welcome; echo "Mind the step" >&2\n' >/home/keeper/.bashrc
echo 'keeper ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/keeper
mkdir -p /run/sshd
ssh-keygen -A >/dev/null
pkill -x sshd || true
/usr/sbin/sshd -o MaxStartups=100 -o MaxSessions=100
cat /etc/ssh/ssh_host_ed25519_key.pub
"""


@dataclass(frozen=True)
class Outside:
    """Root's eye on a host, by another way than the transport under test."""

    prefix: tuple[str, ...]

    def sh(self, script: str, *parameters: str, stdin: bytes = b"") -> str:
        done = subprocess.run(
            [*self.prefix, "sh", "-c", script, "sh", *parameters], input=stdin, capture_output=True, timeout=60
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    def processes(self, word: str) -> list[str]:
        """The command lines of living processes that hold the word."""
        lines = self.sh("ps -e -o stat= -o args= -ww").splitlines()
        return [line for line in lines if word in line and not line.startswith("Z")]


@dataclass
class Case:
    """A host under test, and who one is on it (``owner``)."""

    host: PosixHost
    owner: str
    outside: Outside

    @property
    def is_root(self) -> bool:
        return self.owner == "root:root"

    @cached_property
    def directory(self) -> str:
        """A directory of one's own there, made when first asked for."""
        directory = f"/tmp/mailtls-nb-hosts-{uuid.uuid4().hex[:12]}"
        self.outside.sh('mkdir -m 0755 "$1" && chown "$2" "$1"', directory, self.owner)
        return directory

    def clean_up(self) -> None:
        if "directory" in self.__dict__:
            self.outside.sh('rm -rf "$1"', self.directory)


@dataclass(frozen=True)
class SshServer:
    """A real sshd in a container; ``config`` is the private ssh configuration to reach it with."""

    address: str
    config: Path
    host_key: str
    key: Path

    def host(self, user: str = "keeper", *, sudo: bool = False, options: tuple[str, ...] = ()) -> SshHost:
        options = (*options, "-F", str(self.config))
        return SshHost(f"{user}@{self.address}", None, f"ssh://{user}@{self.address}", sudo=sudo, options=options)


@pytest.fixture(scope="module")
def container(testbed: Testbed) -> ContainerHost:
    return ContainerHost(testbed.engine.argv, testbed.container_name("partner"), "testbed:partner")


@pytest.fixture(scope="module")
def container_outside(container: ContainerHost) -> Outside:
    return Outside((*container.engine_argv, "exec", "-i", container.container))


@pytest.fixture(scope="module")
def ssh_server(testbed: Testbed, container_outside: Outside, tmp_path_factory: pytest.TempPathFactory) -> SshServer:
    directory = tmp_path_factory.mktemp("ssh")
    key = directory / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    host_key = container_outside.sh(_SSHD, key.with_suffix(".pub").read_text())
    host_key = " ".join(host_key.split()[:2])
    address = testbed.address("partner")
    (directory / "known_hosts").write_text(f"{address} {host_key}\n")
    config = directory / "config"
    config.write_text(
        f"UserKnownHostsFile {directory}/known_hosts\nGlobalKnownHostsFile /dev/null\n"
        f"IdentityFile {key}\nIdentitiesOnly yes\nIdentityAgent none\n"
    )
    return SshServer(address, config, host_key, key)


TRANSPORTS = [
    pytest.param("local"),
    pytest.param("local+sudo"),
    pytest.param("container", marks=pytest.mark.testbed),
    pytest.param("container+sudo", marks=pytest.mark.testbed),
    pytest.param("ssh", marks=pytest.mark.testbed),
    pytest.param("ssh+sudo", marks=pytest.mark.testbed),
]


@pytest.fixture(params=TRANSPORTS)
def case(request: pytest.FixtureRequest) -> Iterator[Case]:
    """Each transport in turn. Over ssh without sudo one is an ordinary user, else root; locally, who runs the tests."""
    transport, _, sudo = request.param.partition("+")
    host: PosixHost
    owner = "root:root"
    if transport == "local":
        if sudo and not (shutil.which("sudo") and subprocess.run(["sudo", "-n", "true"]).returncode == 0):
            pytest.skip("there is no sudo without a password on this machine")
        me = pwd.getpwuid(os.geteuid())
        owner = owner if sudo else f"{me.pw_uid}:{me.pw_gid}".replace("0:0", "root:root")
        host = LocalHost(sudo=bool(sudo))
        outside = Outside(())
    else:
        outside = request.getfixturevalue("container_outside")
        if transport == "container":
            host = replace(request.getfixturevalue("container"), sudo=bool(sudo))
        else:
            host = request.getfixturevalue("ssh_server").host(sudo=bool(sudo))
            owner = owner if sudo else "keeper:keeper"
    case = Case(host, owner, outside)
    yield case
    case.clean_up()


@pytest.fixture
def container_case(container: ContainerHost, container_outside: Outside) -> Iterator[Case]:
    """Where one transport stands for all."""
    case = Case(container, "root:root", container_outside)
    yield case
    case.clean_up()
