"""This machine as a host."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mailtls_nb.hosts.posix import Advice, PosixHost


@dataclass(frozen=True)
class LocalHost(PosixHost):
    """This machine."""

    name: str = "local"
    sudo: bool = False

    def rewrite(self, argv: Sequence[str]) -> list[str]:
        return list(argv)

    def advice(self) -> Advice:
        return ()

    def client_environment(self) -> Mapping[str, str]:
        # The environment of this process may hold secrets (env:NAME), and a daemon started here would keep them.
        kept = ("PATH", "HOME", "USER", "LOGNAME", "SHELL", "TZ")
        return {name: os.environ[name] for name in kept if name in os.environ}
