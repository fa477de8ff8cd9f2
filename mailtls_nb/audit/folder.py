"""The folder of one run: its name, its place, and the log of commands in it."""

from __future__ import annotations

import itertools
import json
import os
import re
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path

from mailtls_nb.errors import BadParameter, FileAccessFailed, NotReady
from mailtls_nb.library import checkout

NOTEBOOK_NAME = "notebook.ipynb"
PAGE_NAME = "notebook.html"
COMMANDS_NAME = "commands.jsonl"

_UNSAFE = re.compile(r"[^A-Za-z0-9.]+")


def stamp(now: datetime) -> str:
    """An aware time as ``20261122T203025Z``."""
    return now.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")


def folder_name(now: datetime, runbook: str, target: str) -> str:
    """``<UTC stamp>-<runbook>-<target>``, both reduced to letters, digits, points and hyphens."""
    safe = (_UNSAFE.sub("-", part).strip("-.")[:80] for part in (runbook, target))
    return "-".join(part for part in (stamp(now), *safe) if part)


def default_audit_dir() -> Path:
    """$MAILTLS_AUDIT_DIR, else ``audit/`` of the checkout, else ``~/.local/state/mailtls-nb/audit``."""
    named = os.environ.get("MAILTLS_AUDIT_DIR", "")
    if named:
        if not Path(named).is_absolute():
            raise BadParameter("audit_dir", f"MAILTLS_AUDIT_DIR is {named!r}, which is not a whole path")
        return Path(named)
    top = checkout()
    return top / "audit" if top else Path.home() / ".local/state/mailtls-nb/audit"


def create_run_folder(audit_dir: Path, now: datetime, runbook: str, target: str) -> Path:
    """Make the folder of one run (mode 0700); of two within a second the later one gets ``-2`` at its end.

    Raises NotReady when it cannot be made.
    """
    name = folder_name(now, runbook, target)
    try:
        audit_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        folder = audit_dir / name
        for count in itertools.count(2):
            try:
                folder.mkdir(mode=0o700)
                break
            except FileExistsError:
                folder = audit_dir / f"{name}-{count}"
    except OSError as error:
        raise NotReady(
            f"the audit folder {audit_dir / name} cannot be made: {error.strerror}",
            left="nothing was touched",
            do="give audit_dir, or set MAILTLS_AUDIT_DIR, to a directory where you may write",
        ) from error
    return folder


class CommandLog:
    """Appends one JSON line for each command to ``commands.jsonl`` (mode 0600).

    The first line that cannot be written raises FileAccessFailed, so that a run which cannot be recorded
    stops. Later ones do not: the commands that put a host back must run.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._failed = False
        self._append(b"")

    def __call__(self, entry: Mapping[str, object]) -> None:
        """Append the entry; anything in it that JSON has no form for is written as text."""
        self._append(json.dumps(entry, default=str).encode() + b"\n")

    def _append(self, line: bytes) -> None:
        try:
            # One write to a file opened for appending: lines of several threads do not mix.
            descriptor = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                written = os.write(descriptor, line)
            finally:
                os.close(descriptor)
            problem = "" if written == len(line) else "no space left"
        except OSError as error:
            problem = error.strerror or str(error)
        if problem and not self._failed:
            self._failed = True
            raise FileAccessFailed(
                f"{self._path} cannot be written: {problem}",
                do="make room, then run again: without its record a run does not go on",
            )
