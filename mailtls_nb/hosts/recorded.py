"""A host whose every command, read and write is written down, and which gives out no private key."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Sequence
from datetime import datetime
from typing import TypeVar

from mailtls_nb.errors import MailTLSError
from mailtls_nb.hosts.base import Completed, Host
from mailtls_nb.hosts.posix import PRIVATE_KEY
from mailtls_nb.secret import Secret

# Longest text kept of one stream, in bytes.
LONGEST_TEXT = 64 * 1024
# Longer than any line that begins a private key ("-----BEGIN ENCRYPTED PRIVATE KEY-----").
_LONGEST_BOUNDARY = 64

_Result = TypeVar("_Result")


class RecordedHost:
    """Wraps a host. Each thing done there goes to ``log`` as one JSON object, also when it fails.

    Members: ``host``, ``what`` (run, read, write), ``started`` and ``ended`` (ISO 8601, by ``clock``), and ``error``
    when it failed; for run ``argv``, ``stdin_size``, ``status``, ``stdout``, ``stderr``; for a run whose output is
    streamed its ``stdout_size`` and ``stdout_sha256`` instead; for read ``path``, ``size``, ``sha256`` (``absent``
    where there is no file); for write ``path``, ``mode``, ``owner``, ``size``, ``sha256``. Never the content of a file
    or of standard input. Values of ``secrets`` become ``[secret]``.

    Besides what the wrapped host raises, run, stream and read raise MailTLSError when a PEM private key is in argv
    (before anything is run) or would have come off the host; nothing of it is logged or returned.
    """

    def __init__(
        self,
        host: Host,
        log: Callable[[dict[str, object]], None],
        *,
        clock: Callable[[], datetime],
        secrets: Collection[Secret] = (),
    ) -> None:
        self._host = host
        self._log = log
        self._clock = clock
        self._secrets = secrets

    @property
    def name(self) -> str:
        return self._host.name

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        """Run a command as the wrapped host does."""
        entry = self._entry("run", argv=self._arguments(argv), stdin_size=self._size(stdin))

        def act() -> Completed:
            completed = self._host.run(argv, stdin=stdin, timeout_s=timeout_s)
            entry["status"] = completed.status
            self._refuse_private_key(f"the output of {argv[0]}", completed.stdout + b"\n" + completed.stderr)
            entry["stdout"] = self._text(completed.stdout)
            entry["stderr"] = self._text(completed.stderr)
            return completed

        return self._logged(entry, act)

    def stream(self, argv: Sequence[str], take: Callable[[bytes], None], *, timeout_s: float) -> Completed:
        """Run a command as the wrapped host does; only the size and the SHA-256 of its output are written down."""
        entry = self._entry("run", argv=self._arguments(argv), stdin_size=0)
        size, digest, end = 0, hashlib.sha256(), b""

        def pass_on(piece: bytes) -> None:
            nonlocal size, end
            size += len(piece)
            digest.update(piece)
            # The beginning of a key's first line may be the end of the piece before.
            self._refuse_private_key(f"the output of {argv[0]}", end + piece)
            end = (end + piece)[-_LONGEST_BOUNDARY:]
            take(piece)

        def act() -> Completed:
            completed = self._host.stream(argv, pass_on, timeout_s=timeout_s)
            entry["status"] = completed.status
            self._refuse_private_key(f"the output of {argv[0]}", completed.stderr)
            entry.update(stdout_size=size, stdout_sha256=digest.hexdigest(), stderr=self._text(completed.stderr))
            return completed

        return self._logged(entry, act)

    def read(self, path: str) -> bytes | None:
        """Read a file as the wrapped host does."""
        entry = self._entry("read", path=self._text(path.encode("utf-8", "surrogateescape")))

        def act() -> bytes | None:
            content = self._host.read(path)
            self._refuse_private_key(path, content or b"")
            entry.update(_measure(content))
            return content

        return self._logged(entry, act)

    def write(self, path: str, data: bytes, *, mode: int, owner: str) -> None:
        """Write a file as the wrapped host does."""
        entry = self._entry(
            "write",
            path=self._text(path.encode("utf-8", "surrogateescape")),
            mode=f"{mode:04o}",
            owner=owner,
            **_measure(data),
        )
        self._logged(entry, lambda: self._host.write(path, data, mode=mode, owner=owner))

    def _arguments(self, argv: Sequence[str]) -> list[str]:
        arguments = [argument.encode("utf-8", "surrogateescape") for argument in argv]
        if any(PRIVATE_KEY.search(argument) for argument in arguments):
            raise MailTLSError(
                f"a private key stood in the arguments of {argv[0]!r} for {self.name}",
                left="nothing was run: arguments are visible to every process there",
                do="this is a fault of the program: report it",
            )
        return [self._text(argument) for argument in arguments]

    def _entry(self, what: str, **members: object) -> dict[str, object]:
        return {"host": self.name, "what": what, "started": self._clock().isoformat(), **members}

    def _logged(self, entry: dict[str, object], act: Callable[[], _Result]) -> _Result:
        try:
            return act()
        except BaseException as error:
            said = str(error).encode("utf-8", "surrogateescape")
            if PRIVATE_KEY.search(said):
                entry["error"] = "its message held a private key"
                raise self._would_have_left("an error message") from None
            entry["error"] = f"{type(error).__name__}: {self._text(said)}"
            raise
        finally:
            entry["ended"] = self._clock().isoformat()
            self._log(entry)

    def _refuse_private_key(self, source: str, data: bytes) -> None:
        if PRIVATE_KEY.search(data):
            raise self._would_have_left(source)

    def _would_have_left(self, source: str) -> MailTLSError:
        return MailTLSError(
            f"a private key would have left {self.name}: it is in {source}",
            left="it was neither shown nor written down here",
            do=f"see why a private key stands there on {self.name}; keys belong in files that only their service reads",
        )

    def _size(self, stdin: bytes) -> int | str:
        # Even a secret's length is nobody's business.
        return "[secret]" if any(secret.reveal() in stdin for secret in self._secrets) else len(stdin)

    def _text(self, data: bytes) -> str:
        # The longest first: a secret may hold another.
        for secret in sorted((secret.reveal() for secret in self._secrets), key=len, reverse=True):
            if secret:
                data = data.replace(secret, b"[secret]")
        text = data[:LONGEST_TEXT].decode("utf-8", "replace")
        return text if len(data) <= LONGEST_TEXT else f"{text}\n[cut: {len(data)} bytes in all]"


def _measure(content: bytes | None) -> dict[str, object]:
    if content is None:
        return {"size": 0, "sha256": "absent"}
    return {"size": len(content), "sha256": hashlib.sha256(content).hexdigest()}
