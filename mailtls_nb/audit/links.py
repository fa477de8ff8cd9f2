"""Whether the lines of a chain follow each other, and what was done to them where they do not. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from mailtls_nb.audit.chain import LOG_NAME, START, Entry, digest_of

Kind = Literal["altered", "removed", "inserted", "reordered", "cut off", "signature"]


@dataclass(frozen=True)
class Problem:
    """What is not as it was: ``kind`` says in which way, ``where`` names the file, the line or the run."""

    kind: Kind
    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.kind}: {self.where}: {self.what}"


@dataclass(frozen=True)
class Line:
    """A line of the log: its number from 1, its SHA-256, and its entry, or None where it cannot be read."""

    number: int
    digest: str
    entry: Entry | None

    @property
    def where(self) -> str:
        run = f" ({self.entry.run})" if self.entry else ""
        return f"{LOG_NAME}, line {self.number}{run}"


def parse_lines(lines: Sequence[bytes]) -> list[Line]:
    """The lines as `chain.read_lines` gives them."""
    parsed = []
    for number, line in enumerate(lines, 1):
        try:
            entry = Entry.parse(line)
        except ValueError:
            entry = None
        parsed.append(Line(number, digest_of(line), entry))
    return parsed


def check_links(lines: Sequence[Line]) -> Iterator[Problem]:
    """Each link that does not hold, told by the numbers and digests that the lines hold of each other."""
    at = {line.digest: index for index, line in enumerate(lines)}
    numbers = sorted(line.entry.n for line in lines if line.entry)
    all_there = numbers == list(range(1, len(lines) + 1))
    for index, line in enumerate(lines):
        if line.entry is None:
            yield Problem("altered", line.where, "is no line of a chain")
            continue
        before = lines[index - 1] if index else None
        if line.entry.previous != (before.digest if before else START):
            meant = at.get(line.entry.previous)
            if all_there and meant is not None:
                yield Problem("reordered", line.where, f"it followed {lines[meant].where}")
            else:
                yield _broken(line, before, meant, lines)
        elif line.entry.n != (before.entry.n + 1 if before and before.entry else line.number):
            yield Problem("altered", line.where, f"calls itself number {line.entry.n}")


def check_runs(lines: Sequence[Line]) -> Iterator[Problem]:
    """Each run that is not begun once and then ended at most once."""
    begun: dict[str, Entry] = {}
    ended: set[str] = set()
    for line in lines:
        if (entry := line.entry) is None:
            continue
        if entry.what == "begun":
            if entry.run in begun:
                yield Problem("inserted", line.where, "the run had begun before")
            begun[entry.run] = entry
            continue
        first = begun.get(entry.run)
        if first is None:
            yield Problem("removed", line.where, "the line of its beginning is not there")
        elif (first.runbook, first.operator, first.begun) != (entry.runbook, entry.operator, entry.begun):
            yield Problem("altered", line.where, "runbook, operator or time are not those of the line of its beginning")
        if entry.run in ended:
            yield Problem("inserted", line.where, "the run had ended before")
        ended.add(entry.run)


def _broken(line: Line, before: Line | None, meant: int | None, lines: Sequence[Line]) -> Problem:
    """What a broken link comes from; ``meant`` is the index of the line that this one followed, where it is there."""
    entry = line.entry
    assert entry is not None  # noqa: S101  said to the type checker
    n_before = before.entry.n if before and before.entry else line.number - 1
    if meant is not None and meant >= line.number - 1:
        return Problem("reordered", line.where, f"it followed {lines[meant].where}, which stands after it now")
    if entry.n < n_before + 1:
        where = before.where if before else line.where
        return Problem("inserted", where, f"it stands before {line.where}, which has number {entry.n}")
    if meant is not None:
        inserted = lines[meant + 1 : line.number - 1]
        return Problem(
            "inserted", inserted[0].where, f"{_lines(len(inserted))} not there when {line.where} was written"
        )
    if entry.n > n_before + 1:
        missing = entry.n - n_before - 1
        return Problem("removed", line.where, f"{_lines(missing)} missing before it: number {n_before + 1} on")
    if before is None:
        return Problem("altered", line.where, "the first line follows another one, or was altered")
    return Problem("altered", before.where, f"it is not what it was when {line.where} was written")


def _lines(count: int) -> str:
    return f"{count} lines are" if count > 1 else "a line is"
