"""Whether an audit folder is what it was when its runs ended: every file, digest, link and signature.

A record holds the digests of its files and of the line before its own. Every signature is seen to be one of its record,
by the key that the record names; whether that key may sign, and whose it is, OpenSSH is asked of the last record of
each key. What came after the last signature, nobody vouches for but those who keep a head elsewhere.
"""

from __future__ import annotations

import fcntl
import os
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path

from mailtls_nb.audit.chain import LOCK_NAME, LOG_NAME, PENDING_NAME, START, Entry, read_lines
from mailtls_nb.audit.links import Line, Problem, check_links, check_runs, parse_lines
from mailtls_nb.audit.run_files import check_begun, check_ended, read_plain
from mailtls_nb.audit.signatures import BadSignature, Signers, check, check_whole
from mailtls_nb.errors import BadParameter, NotReady
from mailtls_nb.record import FILE_NAME, SIGNATURE_NAME

_HEAD = re.compile(r"([0-9]{1,12}) ([0-9a-f]{64})")
# Runs looked at by one worker at a time, and from how many on workers are worth their start.
_CHUNK = 64
_WORTH_WORKERS = 200
# How long a writer is waited for.
_SETTLED_S = 70.0


@dataclass(frozen=True)
class Head:
    """The end of a chain at some time: how many lines it had, and the SHA-256 of the last (64 zeros for none)."""

    n: int
    digest: str

    @classmethod
    def parse_all(cls, text: str) -> tuple[Head, ...]:
        """Read what ``audit head`` has printed, each of them, wherever it stands in the text; raises BadParameter."""
        heads = tuple(cls(int(n), digest) for n, digest in _HEAD.findall(text))
        if not heads:
            raise BadParameter("--head", "holds no head", do="give the number and the digest that `audit head` printed")
        return heads

    @classmethod
    def of(cls, lines: Sequence[Line]) -> Head:
        """The head of a chain as it is now."""
        return cls(len(lines), lines[-1].digest if lines else START)

    def __str__(self) -> str:
        return f"{self.n} {self.digest}"


@dataclass(frozen=True)
class Wanted:
    """What is to be looked at.

    ``signers`` None: nobody knows whose the keys are. ``since`` and ``until`` (RFC 3339 in UTC, the second not
    included) limit the runs whose files are looked at to those that began then, as for an exported part; links are
    looked at from the first line to the last. ``every``: OpenSSH is asked of all signatures, not of each key's last
    one only. ``signed``: a record without a signature is a problem.
    """

    signers: Signers | None = None
    heads: tuple[Head, ...] = ()
    since: str = ""
    until: str = ""
    every: bool = False
    signed: bool = False

    def covers(self, entry: Entry) -> bool:
        return entry.begun >= self.since and (not self.until or entry.begun < self.until)


@dataclass(frozen=True)
class Verified:
    """What was found; ``signers`` counts the signed records of each, by name where it is known, else by key."""

    head: Head
    ended: int
    not_ended: tuple[str, ...]
    unsigned: tuple[str, ...]
    signers: dict[str, int]
    signatures_checked: int
    after_the_last_signature: int
    problems: tuple[Problem, ...]


def verify(
    audit_dir: Path, wanted: Wanted, *, progress: Callable[[Iterable[Entry], int, str], Iterable[Entry]]
) -> Verified:
    """Look at everything that is ``wanted``; nothing is changed.

    ``progress`` wraps what takes long (the runs, how many there are, what is done). Raises NotReady where there is no
    chain, or the allowed signers cannot be read.
    """
    lines = parse_lines(read_lines(audit_dir))
    if not lines:
        raise NotReady(f"{audit_dir} has no chain: there is no {LOG_NAME}, or nothing in it")
    problems = [*check_links(lines), *check_runs(lines), *_check_heads(lines, wanted.heads)]
    entries = [line.entry for line in lines if line.entry and wanted.covers(line.entry)]
    ended = [entry for entry in entries if entry.what == "ended"]
    over = {entry.run for entry in ended}
    not_ended = [entry for entry in entries if entry.what == "begun" and entry.run not in over]
    problems += _check_folders(audit_dir, lines, ended, progress)
    for entry in not_ended:
        problems += _unless_entered_since(audit_dir, entry, check_begun(audit_dir, entry))
    problems += _check_unknown_folders(audit_dir, lines)
    unsigned = tuple(entry.run for entry in ended if not entry.signed_by)
    if wanted.signed:
        problems += (Problem("signature", run, "the record is not signed") for run in unsigned)
    chosen = [entry for entry in ended if entry.signature]
    if not wanted.every:
        chosen = list({entry.signed_by: entry for entry in chosen}.values())
    names: dict[str, str] = {}
    for entry in progress(chosen, len(chosen), "signatures"):
        problems += _check_signature(audit_dir, entry, wanted.signers, names)
    return Verified(
        head=Head.of(lines),
        ended=len(ended),
        not_ended=tuple(entry.run for entry in not_ended),
        unsigned=unsigned,
        signers=dict(Counter(names.get(entry.signed_by, entry.signed_by) for entry in ended if entry.signed_by)),
        signatures_checked=len(chosen),
        after_the_last_signature=len(lines) - max((entry.n for entry in entries if entry.signature), default=0),
        problems=tuple(dict.fromkeys(problems)),
    )


def _check_heads(lines: Sequence[Line], heads: Sequence[Head]) -> Iterator[Problem]:
    for head in heads:
        if head.n > len(lines):
            what = f"the head kept elsewhere is of line {head.n}, and there are only {len(lines)}"
            yield Problem("cut off", LOG_NAME, what)
        elif head.digest != (lines[head.n - 1].digest if head.n else START):
            yield Problem("altered", lines[head.n - 1].where, "it is not the line of the head kept elsewhere")


def _check_folders(
    audit_dir: Path,
    lines: Sequence[Line],
    ended: Sequence[Entry],
    progress: Callable[[Iterable[Entry], int, str], Iterable[Entry]],
) -> Iterator[Problem]:
    """The files of all runs that have ended, by several processes where there are many."""
    before: dict[int, str | None] = {}
    last = None
    for line in lines:
        if line.entry and line.entry.what == "ended":
            before[line.entry.n] = last
            last = line.entry.record
    lasts = [before[entry.n] for entry in ended]
    look = partial(check_ended, audit_dir)
    workers = os.cpu_count() or 1
    if len(ended) < _WORTH_WORKERS or workers == 1:
        for entry, last in zip(progress(ended, len(ended), "runs"), lasts, strict=True):
            yield from look(entry, last)
        return
    with ProcessPoolExecutor(workers, mp_context=get_context("spawn")) as pool:
        found = pool.map(look, ended, lasts, chunksize=_CHUNK)
        for _entry, problems in zip(progress(ended, len(ended), "runs"), found, strict=True):
            yield from problems


def _settled(audit_dir: Path) -> list[Entry]:
    """What the log tells of when nobody is writing to it, and what is half entered there."""
    with _shared_lock(audit_dir / LOCK_NAME):
        lines = read_lines(audit_dir)
        with suppress(OSError):
            lines.append((audit_dir / PENDING_NAME).read_bytes())
    return [line.entry for line in parse_lines(lines) if line.entry]


@contextmanager
def _shared_lock(path: Path) -> Iterator[None]:
    """Hold it with others who read; where that may not be, or writers take too long, go on without."""
    try:
        file = path.open("rb")
    except OSError:
        yield
        return
    with file:
        deadline = time.monotonic() + _SETTLED_S
        while time.monotonic() < deadline:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                time.sleep(0.05)
        yield


def _unless_entered_since(audit_dir: Path, entry: Entry, problems: list[Problem]) -> list[Problem]:
    """A run may have ended while others were looked at, or was killed when it was entered: the log says so then."""
    if problems and any(other.run == entry.run and other.what == "ended" for other in _settled(audit_dir)):
        return []
    return problems


def _check_unknown_folders(audit_dir: Path, lines: Sequence[Line]) -> Iterator[Problem]:
    """Folders with something in them that no line of the chain tells of; raises NotReady."""
    known = {line.entry.run for line in lines if line.entry}
    try:
        folders = [path for path in audit_dir.iterdir() if path.is_dir() and path.name not in known]
        unknown = [path for path in folders if path.is_symlink() or any(path.iterdir())]
    except OSError as error:
        raise NotReady(f"{error.filename} cannot be read: {error.strerror}") from error
    if unknown:
        # Some may have begun since the log was read.
        known |= {entry.run for entry in _settled(audit_dir)}
    for path in sorted(unknown):
        if path.name not in known:
            yield Problem("inserted", path.name, "no line of the chain tells of it")


def _check_signature(audit_dir: Path, entry: Entry, signers: Signers | None, names: dict[str, str]) -> list[Problem]:
    """Have OpenSSH judge one signature; the signer's name is noted by key."""
    where = f"{entry.run}/{SIGNATURE_NAME}"
    data = read_plain(audit_dir / entry.run / FILE_NAME)
    signature = read_plain(audit_dir / entry.run / SIGNATURE_NAME)
    if data is None or signature is None:
        return []  # told already
    try:
        if signers is None:
            check_whole(data, signature)
        else:
            names[entry.signed_by] = check(data, signature, signers, at=entry.ended).principal
    except BadSignature as error:
        return [Problem("signature", where, error.what)]
    return []
