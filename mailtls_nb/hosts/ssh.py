"""A host reached by ssh."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from mailtls_nb.hosts.posix import Advice, PosixHost


@dataclass(frozen=True)
class SshHost(PosixHost):
    """A host reached by the system's ssh, with the operator's own configuration, keys, agent and known hosts.

    ``destination`` is ``host`` or ``user@host``. Nothing of the operator's configuration
    is overridden but that nothing is asked (BatchMode). ``options`` go to ssh as they are.
    """

    destination: str
    port: int | None
    name: str
    sudo: bool = False
    options: tuple[str, ...] = ()

    def rewrite(self, argv: Sequence[str]) -> list[str]:
        port = [] if self.port is None else ["-p", str(self.port)]
        # ssh joins its arguments with spaces for the login shell there: quoted once, here and nowhere else.
        command = shlex.join(argv)
        return ["ssh", "-T", "-o", "BatchMode=yes", *port, *self.options, "--", self.destination, command]

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
