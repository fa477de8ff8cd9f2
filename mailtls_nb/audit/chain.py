"""The chain of an audit folder: ``log.jsonl``, to which every run adds a line when it begins and one when it has ended.

Each line holds the SHA-256 of the line before it (64 zeros in the first), its line feed included, and that of the
run's record as it was then. So a run that was killed shows as begun and not ended, and what is altered, removed,
reordered or inserted afterwards breaks a link. A record holds the line before its own as well (``record.Previous``):
its signature vouches for everything before it, whoever wrote that.

A line is first written to a file of its own, synced, and only then appended: what a crash leaves half done, the next
run brings to its end. Lines are never changed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from mailtls_nb import durable
from mailtls_nb.audit.run_summary import NOT_ENDED, RunSummary
from mailtls_nb.errors import FileAccessFailed, NotReady
from mailtls_nb.locking import locked
from mailtls_nb.record import DRAFT_NAME, FILE_NAME, SIGNATURE_NAME, Previous, Record

LOG_NAME = "log.jsonl"
LOCK_NAME = ".lock"
# Holds the line that is being entered.
PENDING_NAME = ".entering"
# What the first line holds in place of the digest of a line before it.
START = "0" * 64
# Not bytes.splitlines: that breaks lines at carriage returns, too.
_LINE = re.compile(rb"[^\n]*\n|[^\n]+")
# As folder.folder_name makes them; nothing else may be looked for on the disk.
_RUN_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]*")
_MOST_LINES = 10**12
_DIGEST, _TIME = re.compile(r"[0-9a-f]{64}"), re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ")
_PATTERNS: Mapping[str, re.Pattern[str]] = {
    "begun": _TIME,
    "ended": re.compile(f"({_TIME.pattern})?"),
    "record": _DIGEST,
    "previous": _DIGEST,
    "signature": re.compile(f"({_DIGEST.pattern})?"),
    "signed_by": re.compile(r"(SHA256:[A-Za-z0-9+/]{43})?"),
}
# Another run may be waiting for a person to touch a security key.
_WAIT_S = 300.0


@dataclass(frozen=True)
class Entry:
    """One line of log.jsonl.

    ``record`` is the SHA-256 of the run's record.json, ``signature`` that of record.json.sig, or empty; ``operator``
    is the login with where it came from. A ``begun`` line has neither ``ended``, ``outcome``, ``signature`` nor
    ``signed_by``.
    """

    n: int
    what: Literal["begun", "ended"]
    run: str
    runbook: str
    hosts: tuple[str, ...]
    operator: str
    begun: str
    record: str
    previous: str
    ended: str = ""
    outcome: str = ""
    signature: str = ""
    signed_by: str = ""

    @classmethod
    def parse(cls, line: bytes) -> Entry:
        """Read a line; raises ValueError for anything that is none."""
        try:
            data = json.loads(line)
        except RecursionError as error:
            raise ValueError("the line is nested too deeply") from error
        if not isinstance(data, dict) or not _KINDS.get(str(data.get("what")), frozenset()) == data.keys():
            raise ValueError("the line has not the members of an entry")
        hosts, n = data.pop("hosts"), data.pop("n")
        if type(n) is not int or not 0 < n < _MOST_LINES or not _all_text(hosts) or not _all_text(list(data.values())):
            raise ValueError("a member of the entry is of another type")
        if not _RUN_NAME.fullmatch(data["run"]):
            raise ValueError("the name of the run is no name of a folder")
        if not all(pattern.fullmatch(data[name]) for name, pattern in _PATTERNS.items() if name in data):
            raise ValueError("a digest, a fingerprint or a time of the entry has another form")
        return cls(n=n, hosts=tuple(hosts), **data)

    def as_line(self) -> bytes:
        data = {**asdict(self), "hosts": list(self.hosts)}
        return json.dumps({name: data[name] for name in data if name in _KINDS[self.what]}).encode() + b"\n"


_ENDED = frozenset(field.name for field in fields(Entry))
_KINDS: Mapping[str, frozenset[str]] = {
    "ended": _ENDED,
    "begun": _ENDED - {"ended", "outcome", "signature", "signed_by"},
}


def _all_text(values: object) -> bool:
    return isinstance(values, list) and all(isinstance(value, str) for value in values)


def digest_of(data: bytes) -> str:
    """SHA-256 in hex: of a line (its line feed included), or of a file."""
    return hashlib.sha256(data).hexdigest()


def read_lines(audit_dir: Path) -> list[bytes]:
    """The lines of the log with their line feeds; none where there is no log yet. Raises NotReady."""
    path = audit_dir / LOG_NAME
    try:
        return _LINE.findall(path.read_bytes())
    except FileNotFoundError:
        return []
    except OSError as error:
        raise NotReady(f"{path} cannot be read: {error.strerror}") from error


def _entries(lines: Iterable[bytes]) -> Iterator[Entry]:
    """The entries of the lines, one at a time; lines that cannot be read are left out."""
    for line in lines:
        with suppress(ValueError):
            yield Entry.parse(line)


def summaries(lines: list[bytes]) -> list[RunSummary]:
    """The runs of a log in the order in which they began; lines that cannot be read are left out."""
    runs: dict[str, RunSummary] = {}
    for entry in _entries(lines):
        runs[entry.run] = RunSummary(
            folder=entry.run,
            runbook=entry.runbook,
            hosts=entry.hosts,
            outcome=entry.outcome or NOT_ENDED,
            begun=entry.begun,
            ended=entry.ended,
            operator=entry.operator,
            signed_by=entry.signed_by,
        )
    return list(runs.values())


@contextmanager
def opened(audit_dir: Path, *, doing: str) -> Iterator[OpenChain]:
    """The chain, for this process alone; what a killed one left half entered is finished first.

    Raises NotReady when another process has it for too long, or the folder cannot be written.
    """
    try:
        with locked(audit_dir / LOCK_NAME, doing=doing, wait_s=_WAIT_S, error=NotReady):
            chain = OpenChain(audit_dir)
            chain.finish_pending()
            yield chain
    except OSError as error:
        raise FileAccessFailed(
            f"{error.filename or audit_dir} cannot be written: {error.strerror}",
            left="the chain is whole: what was begun in it is finished or taken back by the next run",
            do="make room, or the folder writable: without its record a run does not go on",
        ) from error


class OpenChain:
    """A chain that this process alone may add to."""

    def __init__(self, audit_dir: Path) -> None:
        self._dir = audit_dir
        self._log = audit_dir / LOG_NAME
        self._pending = audit_dir / PENDING_NAME

    @cached_property
    def _lines(self) -> list[bytes]:
        return read_lines(self._dir)

    @property
    def lines(self) -> list[bytes]:
        """The lines as they are now."""
        return list(self._lines)

    @property
    def previous(self) -> Previous:
        """What a record that ends now has before it. There is a line: that of its own beginning."""
        return Previous(len(self._lines), self._last_digest(), self._last_record())

    def enter_begun(self, folder: Path, record: Record) -> None:
        """Write the record of a run that begins, and its line."""
        data = record.as_bytes()
        entry = Entry(what="begun", **self._members(folder, record, data))
        self._enter(entry, folder, lambda: durable.write(folder / FILE_NAME, data, mode=0o600))

    def enter_ended(self, folder: Path, record: Record, signature: bytes) -> None:
        """Write the finished record, its signature where it is not empty, and its line."""
        data = record.as_bytes()

        def write() -> None:
            if signature:
                durable.write(folder / SIGNATURE_NAME, signature, mode=0o600)
            durable.write(folder / FILE_NAME, data, mode=0o600)

        entry = Entry(
            what="ended",
            **self._members(folder, record, data),
            ended=record.ended or "",
            outcome=record.outcome,
            signature=digest_of(signature) if signature else "",
            signed_by=record.signed_by,
        )
        self._enter(entry, folder, write)

    def finish_pending(self) -> None:
        """Bring to its end, or take back, what a killed process had begun to enter."""
        try:
            line = self._pending.read_bytes()
            entry = Entry.parse(line)
        except (FileNotFoundError, ValueError):
            # Without it, or before it was whole, nothing had been written.
            durable.remove(self._pending)
            return
        folder = self._dir / entry.run
        self._cut_unfinished(line)
        if not self._lines or self._lines[-1] != line:
            if _holds(folder / FILE_NAME, entry.record):
                self._append(line)
            elif entry.what == "ended":
                durable.remove(folder / SIGNATURE_NAME)
        if entry.what == "ended" and _holds(folder / FILE_NAME, entry.record):
            durable.remove(folder / DRAFT_NAME)
        durable.remove(self._pending)

    def _members(self, folder: Path, record: Record, data: bytes) -> dict[str, Any]:
        return {
            "n": len(self._lines) + 1,
            "run": folder.name,
            "runbook": record.runbook.id,
            "hosts": record.hosts_named,
            "operator": str(record.operator),
            "begun": record.started,
            "record": digest_of(data),
            "previous": self._last_digest() if self._lines else START,
        }

    def _enter(self, entry: Entry, folder: Path, write: Callable[[], None]) -> None:
        line = entry.as_line()
        Entry.parse(line)  # raises ValueError for what nobody could read afterwards
        durable.write(self._pending, line, mode=0o600)
        write()
        self._append(line)
        durable.remove(folder / DRAFT_NAME)
        durable.remove(self._pending)

    def _append(self, line: bytes) -> None:
        if not self._log.exists():
            os.close(os.open(self._log, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
            durable.sync_directory(self._dir)
        elif self._lines and not self._lines[-1].endswith(b"\n"):
            # Not ours: what we write is whole or journaled. It stays, and verify names it.
            durable.append(self._log, b"\n")
        durable.append(self._log, line)
        del self._lines

    def _cut_unfinished(self, line: bytes) -> None:
        """Take the beginning of a line that a crash left at the end away; the whole of it is at hand."""
        if self._lines and not self._lines[-1].endswith(b"\n") and line.startswith(self._lines[-1]):
            durable.truncate(self._log, self._log.stat().st_size - len(self._lines[-1]))
            del self._lines

    def _last_digest(self) -> str:
        # A last line that somebody left without its line feed gets one before the next is written.
        return digest_of(self._lines[-1].removesuffix(b"\n") + b"\n")

    def _last_record(self) -> str | None:
        return next((entry.record for entry in _entries(reversed(self._lines)) if entry.what == "ended"), None)


def _holds(path: Path, digest: str) -> bool:
    try:
        return digest_of(path.read_bytes()) == digest
    except FileNotFoundError:
        return False
