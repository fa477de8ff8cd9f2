"""Writes that survive a crash: every change to a CA directory and to the audit folder goes through here.

A file appears whole or not at all: its bytes are written beside it, synced, renamed, and the directory synced.
All functions raise OSError.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from pathlib import Path

_CHUNK_OCTETS = 1024 * 1024


def temporary_name(path: Path) -> Path:
    """Where the bytes of ``path`` lie until they are complete: a fixed name, so that left-overs can be found."""
    return path.with_name(f".{path.name}.new")


def write(path: Path, data: bytes, *, mode: int) -> None:
    """Make or replace a file in one step, with ``mode`` whatever the umask."""
    write_pieces(path, (data,), mode=mode)


def write_pieces(path: Path, pieces: Iterable[bytes], *, mode: int, owner: tuple[int, int] | None = None) -> None:
    """As `write`, for content that is made piece by piece; whatever making it raises leaves the file as it was.

    ``owner``: the user and group (numbers) that the file is to belong to, where that is not who writes it.
    """
    beside = temporary_name(path)
    try:
        descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        try:
            if owner is not None and owner != (os.geteuid(), os.getegid()):
                os.fchown(descriptor, *owner)
            os.fchmod(descriptor, mode)
            for chunk in _in_chunks(pieces):
                _write_all(descriptor, chunk)
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        os.rename(beside, path)  # noqa: PTH104 - system calls by their names: what this module is about
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
    sync_directory(path.parent)


def append(path: Path, data: bytes) -> None:
    """Add bytes at the end of a file; on failure the file is cut back to what it was."""
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND)
    try:
        size = os.fstat(descriptor).st_size
        try:
            _write_all(descriptor, data)
            os.fsync(descriptor)
        except OSError:
            os.ftruncate(descriptor, size)
            raise
    finally:
        os.close(descriptor)


def truncate(path: Path, size: int) -> None:
    """Cut a file to its first ``size`` bytes."""
    descriptor = os.open(path, os.O_WRONLY)
    try:
        os.ftruncate(descriptor, size)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def remove(path: Path) -> None:
    """Remove a file if it is there."""
    try:
        os.unlink(path)  # noqa: PTH108
    except FileNotFoundError:
        return
    sync_directory(path.parent)


def make_directory(path: Path, *, mode: int) -> None:
    """Make a directory with ``mode`` whatever the umask; its parent must exist."""
    os.mkdir(path, 0o700)  # noqa: PTH102
    os.chmod(path, mode)  # noqa: PTH101


def rename_directory(source: Path, target: Path) -> None:
    """Give a complete directory its final name, where nothing or an empty directory may be."""
    os.rename(source, target)  # noqa: PTH104
    sync_directory(target.parent)


def sync_directory(path: Path) -> None:
    """Make the names in a directory durable."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _in_chunks(pieces: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces worth a system call each."""
    waiting: list[bytes] = []
    size = 0
    for piece in pieces:
        waiting.append(piece)
        size += len(piece)
        if size >= _CHUNK_OCTETS:
            yield b"".join(waiting)
            waiting, size = [], 0
    yield b"".join(waiting)


def _write_all(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]
