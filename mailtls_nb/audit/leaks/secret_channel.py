"""How a notebook's kernel tells the process that seals the run which secrets it resolved: through a pipe.

The values stand on no disk, in no argument list and in no environment; only the descriptor's number does, with the
pipe's identity, so that another file which has that number in some process further down never gets them.

A frame is: length of the name (4 bytes, big-endian), name (UTF-8), length of the value (4 bytes), value.
"""

from __future__ import annotations

import os
import select
import struct
import threading
from types import TracebackType
from typing import Self

from mailtls_nb.errors import NotReady
from mailtls_nb.secret import Secret

VARIABLE = "MAILTLS_SECRET_CHANNEL"
_LENGTH = struct.Struct(">I")
_PIECE = 1 << 16
# More than a pipe holds, in bytes: what is read of one that a left-over process goes on to fill.
_MOST_AFTER_THE_END = 1 << 21


class SecretChannel:
    """The end of the pipe where the run is sealed. Use it in a ``with`` around the kernel's whole life.

    ``pass_fds`` and ``environment`` are what each kernel is started with; there may be several, one after another.
    Raises OSError where no pipe can be made.
    """

    def __enter__(self) -> Self:
        self._read_end, self._write_end = os.pipe()
        self._end_read_end, self._end_write_end = os.pipe()
        os.set_blocking(self._read_end, False)
        about = os.fstat(self._write_end)
        self.pass_fds: tuple[int, ...] = (self._write_end,)
        self.environment = {VARIABLE: f"{self._write_end}:{about.st_dev}:{about.st_ino}"}
        self._received = bytearray()
        self._reader = threading.Thread(target=self._read, name="secret channel", daemon=True)
        self._reader.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._end(wait_s=0.0)

    def secrets(self, *, wait_s: float = 2.0) -> dict[str, Secret]:
        """What was told, by the parameter's name; for when the kernel has ended: none can be started any more.

        A process that the kernel left behind may hold the pipe open. It is waited for at most ``wait_s`` seconds;
        what came until then is there in any case. Of two values for one name the second is called ``name (2)``.
        A frame that a killed kernel left unfinished is no value: a kernel uses a secret after it was told whole.
        """
        self._end(wait_s)
        values: dict[str, bytes] = {}
        for name, value in _frames(bytes(self._received)):
            unique, count = name, 1
            while values.get(unique, value) != value:
                count += 1
                unique = f"{name} ({count})"
            values[unique] = value
        return {name: Secret(value) for name, value in values.items()}

    def _end(self, wait_s: float) -> None:
        if not self.pass_fds:
            return
        self.pass_fds = ()
        os.close(self._write_end)
        self._reader.join(wait_s)
        os.close(self._end_write_end)
        self._reader.join()
        os.close(self._read_end)
        os.close(self._end_read_end)

    def _read(self) -> None:
        """Take in what comes until nobody holds the other end, or until told to end and nothing more lies there."""
        poll = select.poll()
        poll.register(self._read_end, select.POLLIN)
        poll.register(self._end_read_end, select.POLLIN)
        left = _MOST_AFTER_THE_END
        while left > 0:
            has_ended = any(descriptor == self._end_read_end for descriptor, _ in poll.poll())
            try:
                piece = os.read(self._read_end, _PIECE)
            except BlockingIOError:
                if has_ended:
                    return
                continue
            if not piece:
                return
            self._received += piece
            left -= len(piece) * has_ended


def _frames(data: bytes) -> list[tuple[str, bytes]]:
    """Name and value of each whole frame."""
    frames, parts, at = [], [], 0
    while at + _LENGTH.size <= len(data):
        (length,) = _LENGTH.unpack_from(data, at)
        at += _LENGTH.size
        if at + length > len(data):
            break
        parts.append(data[at : at + length])
        at += length
        if len(parts) == 2:
            frames.append((parts[0].decode("utf-8", "replace"), parts[1]))
            parts = []
    return frames


class _Teller:
    """The kernel's end. It is taken out of the environment, so that no process further down looks for it."""

    def __init__(self, where: str) -> None:
        self._lock = threading.Lock()
        self._descriptor: int | None = None
        try:
            descriptor, device, inode = map(int, where.split(":"))
            about = os.fstat(descriptor)
            if (about.st_dev, about.st_ino) == (device, inode):
                os.set_inheritable(descriptor, False)
                self._descriptor = descriptor
        except (ValueError, OSError, OverflowError):
            pass  # told by `tell`, when there is something to be told

    def tell(self, name: str, secret: Secret) -> None:
        value = secret.reveal()
        encoded = name.encode()
        frame = _LENGTH.pack(len(encoded)) + encoded + _LENGTH.pack(len(value)) + value
        with self._lock:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is None:
                raise _untold()
            rest = memoryview(frame)
            try:
                while rest:
                    rest = rest[os.write(descriptor, rest) :]
            except OSError as error:
                raise _untold() from error
            # Only now: after an interruption within a frame the next one would not be understood.
            self._descriptor = descriptor


_teller: _Teller | None = None


def take_over() -> None:
    """Take this process's end of the channel out of its environment, for no other process to inherit or to look for.

    Once in a process, as early as can be; ``tell`` does it otherwise. Without a channel nothing is done.
    """
    global _teller
    where = os.environ.pop(VARIABLE, None)
    if where is not None:
        _teller = _Teller(where)


def tell(name: str, secret: Secret) -> None:
    """Tell the process that seals the run a secret (``name``: of what parameter), before anything is done with it.

    Without such a process, in JupyterLab or under plain papermill, nothing is done. Raises NotReady where it is there
    but cannot be told: what the run writes could not be searched for the secret.
    """
    take_over()
    if _teller is not None:
        _teller.tell(name, secret)


def _untold() -> NotReady:
    return NotReady(
        "the secret cannot be told to the process that seals the run, which would search the run's files for it",
        left="nothing was done with that secret",
        do="run it again with mailtls-nb run, and leave that running until it ends",
    )
