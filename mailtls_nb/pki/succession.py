"""A CA that follows another: two small files by which each directory knows the other, and how far the change is.

The old CA signs until certificates are reissued; from then on whoever names its directory gets the new one, so that
scripts which name it go on as they are.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mailtls_nb import durable
from mailtls_nb.errors import CADirectoryError
from mailtls_nb.pki.adoption import not_sound
from mailtls_nb.pki.configuration import Layout, default_layout

# both: hosts and partners come to trust both. reissue: certificates come from the new one. withdrawn: nobody of ours
# trusts the old one.
Stage = Literal["both", "reissue", "withdrawn"]


@dataclass(frozen=True)
class Succession:
    """The directory of the CA that follows, and how far the change has come."""

    directory: Path
    stage: Stage


def successor(layout: Layout) -> Succession | None:
    """What follows this CA; None where nothing does. Raises CADirectoryError for a file that says neither."""
    try:
        said = json.loads(layout.successor.read_text("utf-8"))
        stage = next(stage for stage in get_args(Stage) if stage == said["stage"])
        return Succession(Path(said["directory"]), stage)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, KeyError, TypeError, StopIteration) as error:
        raise not_sound(
            f"{layout.successor} cannot be read",
            layout.path,
            do="run 09-replace-ca again, or remove it if no other CA follows this one",
        ) from error


def write_successor(layout: Layout, succession: Succession) -> None:
    """Say in the old directory what follows it. Raises CADirectoryError."""
    said = json.dumps({"directory": str(succession.directory), "stage": succession.stage}) + "\n"
    _write(layout.successor, said.encode())


def remove_successor(layout: Layout) -> None:
    """Nothing follows it any more. Raises CADirectoryError."""
    try:
        durable.remove(layout.successor)
    except OSError as error:
        raise not_sound(f"{layout.successor}: {error.strerror}", layout.path) from error


def write_predecessor(layout: Layout, predecessor: Path) -> None:
    """Say in the new directory what it follows. Raises CADirectoryError."""
    _write(layout.predecessor, f"{predecessor}\n".encode())


def predecessor(layout: Layout) -> Path | None:
    """The directory of the CA that this one follows, None where there is none."""
    try:
        return Path(layout.predecessor.read_text("utf-8").strip())
    except FileNotFoundError:
        return None


def signing_directory(path: Path, *, once: Stage = "reissue") -> Path:
    """The directory that signs for whoever names ``path``: the last of those that have taken over from it.

    ``once``: the stage from which on one counts as having taken over, reissue or withdrawn.
    The two files lie in the directory itself, whatever its openssl.cnf names. Raises CADirectoryError where directories
    follow each other in a circle.
    """
    seen = [path]
    while True:
        follows = successor(default_layout(seen[-1]))
        if follows is None or follows.stage not in (once, "withdrawn"):
            return seen[-1]
        if follows.directory in seen:
            raise not_sound(f"{path} and {follows.directory} follow each other", path)
        seen.append(follows.directory)


def predecessors(path: Path) -> Iterator[Path]:
    """The directories of the CAs before this one that are still there, the latest first."""
    seen = {path}
    while (before := predecessor(default_layout(path))) is not None and before not in seen and before.is_dir():
        yield before
        seen.add(before)
        path = before


def _write(path: Path, content: bytes) -> None:
    try:
        durable.write(path, content, mode=0o644)
    except OSError as error:
        raise CADirectoryError(
            f"{path} cannot be written: {error.strerror}",
            left="it is as it was",
            do=f"make {path.parent} writable, with space left, and run again",
        ) from error
