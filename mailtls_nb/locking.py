"""One writer at a time: locks that end with the process that holds them, however it ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

from mailtls_nb.errors import MailTLSError
from mailtls_nb.interruption import interrupt_if_asked

_POLL_S = 0.05


@contextlib.contextmanager
def locked(lock_file: Path, *, doing: str, wait_s: float, error: type[MailTLSError]) -> Iterator[None]:
    """Hold the lock; raises ``error`` naming the holder after ``wait_s`` seconds, and OSError.

    The file stays behind: removing it would let two writers in. openssl itself locks nothing.
    """
    descriptor = _held(lock_file, wait_s, error)
    try:
        # Only for the message above: a full disk must not get in the way of it.
        with contextlib.suppress(OSError):
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on {socket.gethostname()} ({doing})\n".encode(), 0)
        yield
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def locked_directory(directory: Path, *, wait_s: float, error: type[MailTLSError]) -> Iterator[None]:
    """Hold a lock on a directory itself, for what is made inside it; raises ``error``, and OSError."""
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if not _acquired(descriptor, wait_s):
            raise error(
                f"another process has been making something in {directory} for {wait_s:g} s",
                left="nothing was changed",
                do="wait for it to end, then run again",
            )
        yield
    finally:
        os.close(descriptor)


def _held(lock_file: Path, wait_s: float, error: type[MailTLSError]) -> int:
    """The descriptor of the locked file, which is still the one of that name."""
    deadline = time.monotonic() + wait_s
    while True:
        descriptor = os.open(lock_file, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600)
        acquired = False
        try:
            acquired = _acquired(descriptor, max(0.0, deadline - time.monotonic()))
            if acquired and _is_still(lock_file, descriptor):
                return descriptor
            holder = os.pread(descriptor, 500, 0).decode("utf-8", "replace").strip() or "another process"
        except BaseException:
            os.close(descriptor)
            raise
        os.close(descriptor)
        if not acquired:
            raise error(
                f"{lock_file.parent} is in use by {holder}; waited {wait_s:g} s",
                left="nothing was changed",
                do="wait for it to end, then run again",
            )
        # Somebody removed the file while it was waited for: whoever comes next would lock another one.


def _is_still(path: Path, descriptor: int) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), path.stat())
    except FileNotFoundError:
        return False


def _acquired(descriptor: int, wait_s: float) -> bool:
    deadline = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= deadline:
                return False
            interrupt_if_asked()
            time.sleep(_POLL_S)
        else:
            return True
