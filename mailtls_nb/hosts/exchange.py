"""One exchange with a client program: bytes in, framed bytes out, with two deadlines.

The client (``docker exec``, ``ssh``, or the shell itself) carries the streams of a wrapper on the host. The
wrapper frames each stream: a marker line when it has started, the command's own bytes, a marker with the
exit status. So what the client says (login messages, its own errors, its exit status) is never taken for what
the command said, and the exchange is over when the command is, even if a daemon keeps the streams open.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO

from mailtls_nb.hosts.scripts import GRACE_S

# A client that has ended, or whose command has, gets this long to go by itself.
_LEAVE_TAKING_S = 0.5
_CHUNK = 65536


@dataclass
class FramedStream:
    """One output stream of the wrapper. ``nonce`` makes its markers unlike anything the command prints.

    With ``take`` the command's own bytes go there as they come, and none stay in ``payload``.
    """

    nonce: bytes
    take: Callable[[bytes], None] | None = None
    preamble: bytes = b""  # what came before the wrapper started: the client's own words
    payload: bytearray = field(default_factory=bytearray)
    wrapper_pid: int | None = None
    ended: str | None = None  # the exit status in decimal, or "timeout"
    _scanned: int = 0

    def feed(self, data: bytes) -> None:
        """Take in what was read from the stream."""
        if self.ended is not None:
            return
        self.payload += data
        if self.wrapper_pid is None:
            found = self._marker(b"started")
            if found is None:
                return
            begin, end, word = found
            self.wrapper_pid = int(word)
            self.preamble = bytes(self.payload[:begin])
            del self.payload[:end]
            self._scanned = 0
        found = self._marker(b"ended")
        if found is not None:
            begin, _, self.ended = found
            del self.payload[begin:]
        if self.take is not None:
            # What may be the beginning of the end marker waits for more.
            certain = self._scanned if self.ended is None else len(self.payload)
            if certain:
                self.take(bytes(self.payload[:certain]))
                del self.payload[:certain]
                self._scanned = 0

    def _marker(self, word: bytes) -> tuple[int, int, str] | None:
        marker = b"\x1e" + self.nonce + b" " + word + b" "
        begin = self.payload.find(marker, self._scanned)
        if begin < 0:
            self._scanned = max(0, len(self.payload) - len(marker))
            return None
        end = self.payload.find(b"\n", begin)
        if end < 0:
            self._scanned = begin
            return None
        return begin, end + 1, self.payload[begin + len(marker) : end].decode("ascii", "replace")


@dataclass(frozen=True)
class Exchange:
    """What became of an exchange. ``client_status`` is None when the client had to be ended here."""

    stdout: FramedStream
    stderr: FramedStream
    client_status: int | None

    @property
    def started(self) -> bool:
        """Whether the wrapper's start marker came through on both streams."""
        return self.stdout.wrapper_pid is not None and self.stderr.wrapper_pid is not None

    @property
    def outcome(self) -> str | None:
        """The exit status in decimal, ``timeout``, or None when the end marker never came."""
        return self.stdout.ended if self.stderr.ended is not None else None

    @property
    def client_said(self) -> str:
        """What the client printed before the wrapper started; all it printed when the wrapper never did."""
        parts = (stream.payload if stream.wrapper_pid is None else stream.preamble for stream in _streams(self))
        return b"".join(parts).decode("utf-8", "replace").strip()


def _streams(exchange: Exchange) -> tuple[FramedStream, FramedStream]:
    return exchange.stderr, exchange.stdout


def exchange(
    client_argv: Sequence[bytes],
    nonce: bytes,
    stdin: bytes,
    *,
    environment: Mapping[str, str],
    start_within_s: float,
    end_within_s: float,
    abandon: Callable[[int], None] | None = None,
    take: Callable[[bytes], None] | None = None,
) -> Exchange:
    """Run the client, feed it ``stdin`` and collect its framed output; ``take`` gets the standard output as it comes.

    Returns as soon as both end markers were seen, the client has closed its streams, the wrapper has not
    started within ``start_within_s`` or has not ended ``end_within_s`` after its start; in every case the
    client is gone on return. When interrupted (Ctrl-C), ``abandon`` is called with the wrapper's process id on the
    host, to end the command there. Raises OSError when the client program cannot be run.
    """
    process = subprocess.Popen(
        list(client_argv),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=dict(environment),
        # No terminal: the client cannot ask anything, and Ctrl-C comes to us alone.
        start_new_session=True,
        bufsize=0,
    )
    out, err = FramedStream(nonce, take), FramedStream(nonce)
    try:
        _pump(process, stdin, out, err, start_within_s, end_within_s)
    except BaseException:
        wrapper_pid = out.wrapper_pid or err.wrapper_pid
        if abandon is not None and wrapper_pid is not None:
            abandon(wrapper_pid)
            # Locally the client is the wrapper, which now needs its grace period.
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(GRACE_S + 1)
        raise
    finally:
        status = _dismiss(process)
    return Exchange(out, err, status)


def _pump(
    process: subprocess.Popen[bytes],
    stdin: bytes,
    out: FramedStream,
    err: FramedStream,
    start_within_s: float,
    end_within_s: float,
) -> None:
    assert process.stdin is not None  # noqa: S101 - all three are pipes
    assert process.stdout is not None  # noqa: S101
    assert process.stderr is not None  # noqa: S101
    unsent = memoryview(stdin)
    started = False
    deadline = time.monotonic() + start_within_s
    with selectors.DefaultSelector() as selector:
        selector.register(process.stdout, selectors.EVENT_READ, out)
        selector.register(process.stderr, selectors.EVENT_READ, err)
        os.set_blocking(process.stdin.fileno(), False)
        selector.register(process.stdin, selectors.EVENT_WRITE, None)
        reading = 2
        while reading and (out.ended is None or err.ended is None):
            remaining_s = deadline - time.monotonic()
            if remaining_s <= 0:
                return
            # Asked before the streams are: what a client wrote before it ended is there to be read.
            client_is_gone = process.poll() is not None
            events = selector.select(min(remaining_s, _LEAVE_TAKING_S))
            if client_is_gone and not any(key.data for key, _ in events):
                # A process that the client left behind (an ssh master) may hold the streams open for ever.
                return
            for key, _ in events:
                stream: FramedStream | None = key.data
                if stream is None:
                    unsent = _send(process.stdin, unsent)
                    if not unsent:
                        selector.unregister(process.stdin)
                        process.stdin.close()
                    continue
                data = os.read(key.fd, _CHUNK)
                if data:
                    stream.feed(data)
                else:
                    selector.unregister(key.fileobj)
                    reading -= 1
            if not started and out.wrapper_pid is not None and err.wrapper_pid is not None:
                started = True
                deadline = time.monotonic() + end_within_s


def _send(pipe: IO[bytes], unsent: memoryview) -> memoryview:
    """Write what the pipe takes; what is left to send, nothing when nobody reads it any more."""
    try:
        return unsent[os.write(pipe.fileno(), unsent[:_CHUNK]) :] if unsent else unsent
    except BlockingIOError:
        return unsent
    except BrokenPipeError:
        # The command does not want its standard input: its right.
        return unsent[:0]


def _dismiss(process: subprocess.Popen[bytes]) -> int | None:
    """Let the client go, then make it go. Its exit status if it went by itself."""
    for pipe in (process.stdin, process.stdout, process.stderr):
        if pipe is not None:
            pipe.close()
    for end in (None, process.terminate, process.kill):
        if end is not None:
            end()
        try:
            status = process.wait(_LEAVE_TAKING_S)
        except subprocess.TimeoutExpired:
            continue
        return status if end is None else None
    process.wait()
    return None
