"""The container engine: Docker or Podman, found, started or installed."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailtls_nb.errors import SetUpError
from mailtls_nb.hosts.environment import daemon_environment
from mailtls_nb.testbed import debian
from mailtls_nb.testbed.progress import say

_ANSWER_TIMEOUT_S = 20
_DAEMON_START_TIMEOUT_S = 60
_DAEMON_LOG = Path("/var/log/mailtls-nb-dockerd.log")
_HOW_TO_GET_ONE = "install Docker or Podman; as root on Debian or Ubuntu this is done for you"


@dataclass(frozen=True)
class Engine:
    """A container engine's command line: ``argv`` is what every command begins with."""

    argv: tuple[str, ...]

    def attempt(self, *arguments: str, timeout_s: float = 60) -> subprocess.CompletedProcess[str]:
        """Run one command; its exit status is data. Raises SetUpError when it does not end in time."""
        try:
            return subprocess.run(
                (*self.argv, *arguments),
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=timeout_s,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise SetUpError(
                f"{' '.join((*self.argv, *arguments[:2]))} did not end within {timeout_s:.0f} s"
            ) from error
        except OSError as error:
            raise SetUpError(f"{self.argv[0]}: {error.strerror}", do=_HOW_TO_GET_ONE) from error

    def run(self, *arguments: str, doing: str, timeout_s: float = 60) -> str:
        """Run one command and return what it printed; raises SetUpError when it fails."""
        completed = self.attempt(*arguments, timeout_s=timeout_s)
        if completed.returncode != 0:
            raise SetUpError(f"{doing}: {self.argv[0]}: {completed.stderr.strip()[-2000:]}")
        return completed.stdout

    def inspect(self, *kind_and_names: str, doing: str) -> list[dict[str, Any]]:
        """What the engine knows about containers, images or a network, as JSON data."""
        found: list[dict[str, Any]] = json.loads(
            self.run(*kind_and_names[:1], "inspect", *kind_and_names[1:], doing=doing)
        )
        return found

    def answers(self) -> str:
        """Empty when the engine can be used, else what it said."""
        if shutil.which(self.argv[0]) is None:
            return f"{self.argv[0]} is not installed"
        try:
            completed = self.attempt("info", timeout_s=_ANSWER_TIMEOUT_S)
        except SetUpError as error:
            return error.what
        return "" if completed.returncode == 0 else completed.stderr.strip() or "it does not answer"


DOCKER = Engine(("docker",))
PODMAN = Engine(("podman",))


def find_engine(*, install: bool) -> Engine:
    """Docker whose daemon answers, else Podman that works, else, with ``install``, a daemon started or installed.

    Raises SetUpError with one line that says what is missing and how to get it.
    """
    docker_problem = DOCKER.answers()
    if not docker_problem:
        return DOCKER
    if not PODMAN.answers():
        return PODMAN
    if not install:
        raise SetUpError(_no_engine(docker_problem))
    if os.geteuid() == 0 and (_docker_is_installed() or debian.can_install()):
        if not _docker_is_installed():
            debian.install(_docker_packages(), "there is no container engine on this machine")
        _start_daemon()
        return DOCKER
    raise SetUpError(_no_engine(docker_problem))


def _docker_packages() -> tuple[str, ...]:
    # docker.io only recommends these: the client (a package of its own since trixie), the certificates to pull with,
    # and what loads its profile where the kernel has AppArmor.
    apparmor = Path("/sys/module/apparmor/parameters/enabled")
    wants_apparmor = apparmor.is_file() and apparmor.read_text().startswith("Y")
    return ("docker.io", "docker-cli", "ca-certificates", "mmdebstrap", *(("apparmor",) if wants_apparmor else ()))


def _no_engine(docker_problem: str) -> str:
    if "permission denied" in docker_problem.lower():
        return (
            "Docker runs, but this user may not use it: add the user to the group docker (sudo usermod -aG docker "
            "$USER, then log in anew), or run this as root"
        )
    if _docker_is_installed():
        return (
            "Docker is installed but its daemon does not answer: start it (sudo systemctl start docker), or run this "
            "as root"
        )
    return f"no container engine: {_HOW_TO_GET_ONE}"


def _docker_is_installed() -> bool:
    # A client alone is common: its daemon may be meant to run elsewhere.
    return shutil.which("docker") is not None and _dockerd() is not None


def _dockerd() -> str | None:
    # /usr/sbin is not on everybody's PATH.
    return shutil.which("dockerd") or shutil.which("dockerd", path="/usr/sbin:/usr/local/sbin:/usr/local/bin")


def launch(dockerd: str, log: Path) -> None:
    """Start a daemon in a session of its own, so that it outlives us and the terminal, without our secrets.

    setsid(1) leaves it to init: to us it would stay a child that nobody waits for.
    """
    with log.open("ab") as output:
        subprocess.run(
            ("setsid", "--fork", dockerd),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=daemon_environment(),
            check=True,
        )


def _start_daemon() -> None:
    if Path("/run/systemd/system").is_dir():
        say("starting Docker's daemon (systemctl start docker)")
        subprocess.run(("systemctl", "start", "docker"), stdin=subprocess.DEVNULL, capture_output=True, check=False)
        log = "journalctl -u docker"
    else:
        dockerd = _dockerd()
        if dockerd is None:
            raise SetUpError("docker.io was installed but there is no dockerd", do=_HOW_TO_GET_ONE)
        say(f"starting Docker's daemon (log: {_DAEMON_LOG})")
        launch(dockerd, _DAEMON_LOG)
        log = str(_DAEMON_LOG)
    end = time.monotonic() + _DAEMON_START_TIMEOUT_S
    while problem := DOCKER.answers():
        if time.monotonic() > end:
            raise SetUpError(
                f"Docker's daemon does not answer {_DAEMON_START_TIMEOUT_S} s after its start: {problem}",
                do=f"see {log}",
            )
        time.sleep(0.3)
