"""One pass over an index: what in it openssl, or a person, will stumble over. Pure.

Made for a million rows: rows are passed over without being taken apart, and what is kept of each is its serial and,
where subjects are unique, 64 bits of its subject. Only where something was found twice is the index read a second time.
"""

from __future__ import annotations

from collections import defaultdict, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Set
from dataclasses import dataclass, field
from datetime import datetime
from typing import get_args

from mailtls_nb.errors import CADirectoryError
from mailtls_nb.pki.dates import ended_by
from mailtls_nb.pki.index import Row, parse_row, serial_text
from mailtls_nb.pki.revocation import Reason

# Of a date, in pieces: a regular expression for all of a row takes three times as long.
_MONTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
_DAYS = {b"%02d%02d" % (month, day) for month, last in enumerate(_MONTHS, start=1) for day in range(1, last + 1)}
_TIMES = {b"%02d%02d" % (hour, minute) for hour in range(24) for minute in range(60)}
_SECONDS = {b"%02dZ" % second for second in range(60)}
_OTHERS = (b"V", b"E")
# The third field after its date; reasons with more than a word are looked at more closely.
_REASONS = {b"", *(reason.encode() for reason in get_args(Reason))}
# So many of the newest rows are held against their certificates, and so many of anything else are named.
NEWEST = 2000
MOST_NAMED = 20


@dataclass(frozen=True, slots=True)
class NumberedRow:
    """A row, the number of its line, and the line itself without its LF."""

    number: int
    line: bytes
    row: Row

    @property
    def subject(self) -> bytes:
        return self.row.subject.encode("utf-8", "surrogateescape")


@dataclass
class Listed:
    """The first of very many rows, and how many there are."""

    first: list[NumberedRow] = field(default_factory=list)
    count: int = 0

    def add(self, numbered: NumberedRow) -> None:
        self.count += 1
        if self.count <= MOST_NAMED:
            self.first.append(numbered)


@dataclass(frozen=True)
class BadLine:
    """A line with which openssl refuses the whole index, or which it takes for something else. The first are named."""

    number: int
    name: str
    problem: str


@dataclass
class IndexScan:
    """What one pass found.

    ``ended``: rows still marked valid whose certificates have expired. ``repeated``: all rows of each serial that has
    several. ``clashing``: where subjects are unique, all valid rows of each subject that has several (some of
    ``clashing_count``), and ``wished`` those of the subjects asked for. ``newest``: the last rows, oldest first.
    """

    rows: int = 0
    lacks_lf: bool = False
    serials: set[int] = field(default_factory=set, repr=False)
    blank: list[int] = field(default_factory=list)
    unreadable: list[BadLine] = field(default_factory=list)
    bad: list[BadLine] = field(default_factory=list)
    ended: Listed = field(default_factory=Listed)
    wished: list[NumberedRow] = field(default_factory=list)
    newest: list[NumberedRow] = field(default_factory=list, repr=False)
    repeated: Mapping[int, list[NumberedRow]] = field(default_factory=dict)
    clashing: Mapping[bytes, list[NumberedRow]] = field(default_factory=dict)
    clashing_count: int = 0


def scan_index(
    read: Callable[[], Iterable[bytes]],
    *,
    now: datetime,
    unique_subject: bool,
    subjects: Collection[bytes] = (),
) -> IndexScan:
    """Look at all rows; ``read`` gives the lines of the index, from the first, each time it is called."""
    found = IndexScan()
    serials, ended = found.serials, ended_by(now)
    repeated: set[int] = set()
    seen_subjects: set[int] = set()
    repeated_subjects: set[int] = set()
    newest: deque[tuple[int, bytes]] = deque(maxlen=NEWEST)
    line = b"\n"
    for number, line in enumerate(read(), start=1):
        plain = plain_row(line)
        if plain is not None:
            status, end, serial, subject = plain
            is_valid = status == b"V"
            has_ended = is_valid and ended(end)
        else:
            row = _looked_at(line, number, found)
            if row is None:
                continue
            serial, subject, is_valid = row.serial, row.subject.encode("utf-8", "surrogateescape"), row.status == "V"
            has_ended = is_valid and row.not_after <= now
        found.rows += 1
        newest.append((number, line))
        if serial in serials:
            repeated.add(serial)
        else:
            serials.add(serial)
        if not is_valid:
            continue
        if has_ended:
            found.ended.add(_numbered(number, line))
        # openssl lets any number of certificates have no subject.
        if unique_subject and subject:
            if subject in subjects:
                found.wished.append(_numbered(number, line))
            short = hash(subject)
            if short in seen_subjects:
                repeated_subjects.add(short)
            else:
                seen_subjects.add(short)
    found.lacks_lf = not line.endswith(b"\n")
    found.newest = [_numbered(number, text) for number, text in newest]
    if repeated or repeated_subjects:
        found.clashing_count = len(repeated_subjects)
        some = set(sorted(repeated_subjects)[:MOST_NAMED])
        found.repeated, found.clashing = _second_look(read(), repeated, some)
    return found


def plain_row(line: bytes) -> tuple[bytes, bytes, int, bytes] | None:
    """The status, end (without the Z), serial and subject of a row of which no more needs to be known.

    None for whatever is not sure to be as openssl writes it (as on the 29th of February): that is looked at
    more closely.
    """
    fields = line.split(b"\t")
    if len(fields) != 6 or b"\\\t" in line or b"\r" in line:
        return None
    status, end, revocation, text, _, subject = fields
    if not _is_plain_date(end):
        return None
    if status == b"R":
        at, _, reason = revocation.partition(b",")
        if reason not in _REASONS or not _is_plain_date(at):
            return None
    elif revocation or status not in _OTHERS:
        return None
    if len(text) % 2 or not text.isalnum() or text != text.upper() or text[1:2] == b"X":
        return None
    try:
        return status, end[:-1], int(text, 16), subject.rstrip(b"\n")
    except ValueError:
        return None


def _is_plain_date(date: bytes) -> bool:
    return (
        date[-11:-7] in _DAYS
        and date[-7:-3] in _TIMES
        and date[-3:] in _SECONDS
        and len(date) in (13, 15)
        and date[:-11].isdigit()
    )


def rows_of(lines: Iterable[bytes], wanted: Callable[[int], bool]) -> Iterator[NumberedRow]:
    """The rows whose serials are wanted; lines that are no rows are passed over."""
    return (numbered for numbered in _all_rows(lines) if wanted(numbered.row.serial))


def _second_look(
    lines: Iterable[bytes], serials: Set[int], subjects: Set[int]
) -> tuple[Mapping[int, list[NumberedRow]], Mapping[bytes, list[NumberedRow]]]:
    by_serial: defaultdict[int, list[NumberedRow]] = defaultdict(list)
    by_subject: defaultdict[bytes, list[NumberedRow]] = defaultdict(list)
    for numbered in _all_rows(lines):
        if numbered.row.serial in serials:
            by_serial[numbered.row.serial].append(numbered)
        if numbered.row.status == "V" and hash(numbered.subject) in subjects:
            by_subject[numbered.subject].append(numbered)
    # Two subjects may have the same 64 bits.
    return dict(by_serial), {subject: rows for subject, rows in by_subject.items() if subject and len(rows) > 1}


def _all_rows(lines: Iterable[bytes]) -> Iterator[NumberedRow]:
    for number, line in enumerate(lines, start=1):
        try:
            if line.strip() and not line.startswith(b"#"):
                yield _numbered(number, line)
        except CADirectoryError:
            continue


def _numbered(number: int, line: bytes) -> NumberedRow:
    return NumberedRow(number, line.rstrip(b"\n"), parse_row(line, number=number, where="index.txt"))


def _looked_at(line: bytes, number: int, found: IndexScan) -> Row | None:
    """The row of a line that is not plainly one; what openssl would make of it is noted down in ``found``."""
    if line.startswith(b"#"):
        return None
    if not line.strip():
        found.blank.append(number)
        return None
    try:
        row = parse_row(line, number=number, where="index.txt")
    except CADirectoryError as error:
        _note(found.unreadable, number, "not-a-row", error.what.partition(": ")[2])
        return None
    if line.rstrip(b"\n").endswith(b"\r"):
        _note(found.bad, number, "carriage-return", "it ends with CR LF, as written by an editor of another system")
    _, _, revocation, text, *_ = line.split(b"\t")
    if text.decode("ascii", "replace") != serial_text(row.serial):
        problem = f"its serial is written {text.decode('ascii', 'replace')} instead of {serial_text(row.serial)}"
        _note(found.bad, number, "serial-spelling", problem)
    if row.status != "R" and revocation:
        _note(found.bad, number, "revocation-date", f"it says {row.status}, and has a date of revocation")
    elif row.status == "R":
        try:
            row.revoked  # noqa: B018 - read for what it raises
        except CADirectoryError as error:
            _note(found.bad, number, "revocation-date", error.what.partition("index: ")[2])
    return row


def _note(lines: list[BadLine], number: int, name: str, problem: str) -> None:
    if len(lines) < MOST_NAMED:
        lines.append(BadLine(number, name, problem))
