"""A host reached by ssh."""

from __future__ import annotations

import atexit
import functools
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass

from mailtls_nb.hosts.posix import Advice, PosixHost


@dataclass(frozen=True)
class SshHost(PosixHost):
    """A host reached by the system's ssh, with the operator's own configuration, keys, agent and known hosts.

    ``destination`` is ``host`` or ``user@host``; ``options`` go to ssh as they are. Nothing is asked (BatchMode). Where
    the operator shares no connections (ControlPath), those of this process are shared among themselves, since a new
    one costs ten times what a command does; and a silent one is given up after 15 s unless ServerAliveInterval is set.
    """

    destination: str
    port: int | None
    name: str
    sudo: bool = False
    options: tuple[str, ...] = ()

    def rewrite(self, argv: Sequence[str]) -> list[str]:
        whom = (*(() if self.port is None else ("-p", str(self.port))), *self.options, "--", self.destination)
        # ssh joins its arguments with spaces for the login shell there: quoted once, here and nowhere else.
        return ["ssh", "-T", "-o", "BatchMode=yes", *_connection_options(whom), *whom, shlex.join(argv)]

    def advice(self) -> Advice:
        host = self.destination.rpartition("@")[2]
        log_in = shlex.join(["ssh", *(["-p", str(self.port)] if self.port else []), self.destination])
        return (
            (
                "REMOTE HOST IDENTIFICATION HAS CHANGED",
                "somebody may be listening in. Ask the host's operator whether its key was changed; only then "
                f"remove the old one with ssh-keygen -R and log in once by hand: {log_in}",
            ),
            (
                "Host key verification failed",
                f"log in once by hand and compare the host key's fingerprint with the host's operator: {log_in}",
            ),
            (r"Permission denied \(", f"give this account a key that {host} accepts; try it by hand: {log_in}"),
            ("Connection refused", f"see that sshd runs on {host}, and that the port is right"),
            ("Could not resolve hostname", f"see that the name {host} is right"),
            ("timed out|No route to host|unreachable", f"see that {host} is up and that no firewall is between"),
        )


@functools.cache
def _connection_options(whom: tuple[str, ...]) -> tuple[str, ...]:
    """Options for a connection to share, where the operator's configuration leaves that open."""
    asked = ["ssh", "-G", *whom]
    try:
        answer = subprocess.run(asked, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        # The connection itself will say what is wrong.
        return ()
    settings = dict(line.partition(" ")[::2] for line in answer.stdout.splitlines())
    options: tuple[str, ...] = ()
    if settings.get("serveraliveinterval", "0") == "0":
        options += ("-o", "ServerAliveInterval=5", "-o", "ServerAliveCountMax=3")
    if "controlpath" not in settings:
        # One directory for each set of options: ssh's %C does not tell two configurations or keys apart. Under /tmp
        # because a socket's path may be no longer than 108 bytes.
        directory = tempfile.mkdtemp(prefix="mailtls-nb-ssh-", dir="/tmp")
        atexit.register(shutil.rmtree, directory, ignore_errors=True)
        options += ("-o", "ControlMaster=auto", "-o", f"ControlPath={directory}/%C", "-o", "ControlPersist=15")
    return options
