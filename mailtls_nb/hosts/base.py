"""What a host is: four methods on bytes and argv."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from mailtls_nb.errors import CommandFailed


@dataclass(frozen=True)
class Completed:
    """A command that ended on a host: its exit status is data, not an error."""

    host: str
    argv: tuple[str, ...]
    status: int
    stdout: bytes
    stderr: bytes

    @property
    def text(self) -> str:
        """Standard output as text; bytes that are not UTF-8 are kept as surrogates."""
        return self.stdout.decode("utf-8", "surrogateescape")

    def check(self, doing: str, *, left: str = "", do: str = "") -> Completed:
        """Return self when the status is 0, else raise CommandFailed with what the command printed."""
        if self.status == 0:
            return self
        printed = (self.stderr + self.stdout).decode("utf-8", "replace").strip()[-2000:]
        raise CommandFailed(
            f"{doing} on {self.host}: {shlex.join(self.argv)} ended with status {self.status}"
            + (f": {printed}" if printed else ""),
            left=left,
            do=do,
        )


class Host(Protocol):
    """A machine, a container or this machine. ``name`` is the operator's word for it."""

    @property
    def name(self) -> str: ...

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        """Run ``argv`` (never a shell string) and wait for its end.

        Raises Unreachable when the transport fails and CommandTimedOut after ``timeout_s`` seconds, when the
        command, with the processes it started, has been ended on the host.
        """
        ...

    def stream(self, argv: Sequence[str], take: Callable[[bytes], None], *, timeout_s: float) -> Completed:
        """Run ``argv``, for output of any size: ``take`` is given it piece by piece, and ``stdout`` stays empty.

        The command waits while ``take`` works; when that raises, the command is ended on the host. Raises as ``run``.
        """
        ...

    def read(self, path: str) -> bytes | None:
        """The file's content, or None where there is no file; raises FileAccessFailed for anything else."""
        ...

    def write(self, path: str, data: bytes, *, mode: int, owner: str) -> None:
        """Replace the file in one step; ``owner`` is ``user:group``.

        A reader sees the old content or the new one, never a part, and at no moment may anybody read what
        ``mode`` forbids. Raises FileAccessFailed, the old file untouched.
        """
        ...
