"""A lock between processes, held on a file."""

from __future__ import annotations

import fcntl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mailtls_nb.errors import SetUpError
from mailtls_nb.testbed.progress import say


@contextmanager
def locked(path: Path, waiting_for: str) -> Iterator[None]:
    """Hold the lock; waits for another process that has it, and says so. The kernel frees it with the process."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        file = path.open("a")
    except OSError as error:
        raise SetUpError(f"{path}: {error.strerror}", do="make the directory writable") from error
    with file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say(f"waiting for another process, which {waiting_for}")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
