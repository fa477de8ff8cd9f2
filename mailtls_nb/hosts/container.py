"""A container as a host."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass

from mailtls_nb.hosts import scripts
from mailtls_nb.hosts.posix import Advice, PosixHost


@dataclass(frozen=True)
class ContainerHost(PosixHost):
    """A running container. ``engine_argv`` is how its engine is called: ("docker",), ("podman", "--remote")."""

    engine_argv: tuple[str, ...]
    container: str
    name: str
    sudo: bool = False

    def rewrite(self, argv: Sequence[str]) -> list[str]:
        if any("\udc80" <= character <= "\udcff" for argument in argv for character in argument):
            # Engines pass argv on as JSON, which holds Unicode only.
            argv = ["sh", "-c", scripts.DECODE_ARGV, "sh", *map(_octal, argv)]
        return [*self.engine_argv, "exec", "-i", self.container, *argv]

    def advice(self) -> Advice:
        engine, container = shlex.join(self.engine_argv), self.container
        return (
            (r"no such container|no container with", f"see `{engine} ps -a` for the containers there are"),
            (r"is not running|container state improper", f"start it: `{engine} start {container}`"),
            (r"is paused", f"let it go on: `{engine} unpause {container}`"),
            (r"permission denied .*(daemon|socket)|dial unix .*permission denied", f"let this account use {engine}"),
            (r"cannot connect|error during connect|connection refused", f"start the engine: see `{engine} info`"),
            (r"\"sh\": executable file not found", "the container has no shell: it cannot be managed"),
        )


def _octal(argument: str) -> str:
    return "".join(
        chr(byte) if 32 <= byte < 127 and byte != 0x5C else f"\\0{byte:03o}"
        for byte in argument.encode("utf-8", "surrogateescape")
    )
