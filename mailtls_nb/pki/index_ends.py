"""What ends first of all that a CA has issued, and what its CRL does not tell: the index read once, line by line.

Little of it is kept. Pure.
"""

from __future__ import annotations

import heapq
from collections.abc import Collection, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from mailtls_nb.pki.dates import date_text
from mailtls_nb.pki.index import Row, parse_row

# How many certificates are named, and how many of those that expired last.
NAMED = 20
NAMED_EXPIRED = 3
# As many of those that end later are kept while reading, since a newer certificate may follow for some of them.
_KEPT = 1000


@dataclass(frozen=True)
class IndexEnds:
    """What an index says as of a time ``now``.

    Of the rows with status V:
    ``first`` are the first to end, at most NAMED, and ``soon`` is how many end within the time to be warned of; both
    without those for whose subject a newer certificate follows in the index: ``superseded`` is how many of these end
    soon. ``expired`` is how many have ended and still say V; ``expired_last`` the last of them, the latest first.

    ``revoked`` is how many with status R have not ended, ``untold`` how many of these the CRL does not list;
    ``untold_first`` are these, at most NAMED, in the order of the index.
    """

    first: tuple[Row, ...] = ()
    soon: int = 0
    superseded: int = 0
    expired: int = 0
    expired_last: tuple[Row, ...] = ()
    revoked: int = 0
    untold: int = 0
    untold_first: tuple[Row, ...] = ()


# What is kept of a row: its end as text that sorts, the number of its line, and the line.
_Kept = tuple[bytes, int, bytes]


@dataclass
class _Reading:
    now: bytes
    horizon: bytes
    # By subject. All that end soon; and the first of the others, complete up to ``cutoff`` (None: to the end).
    soon: dict[bytes, _Kept] = field(default_factory=dict)
    later: dict[bytes, _Kept] = field(default_factory=dict)
    cutoff: _Kept | None = None
    superseded: int = 0
    expired: int = 0
    expired_last: list[_Kept] = field(default_factory=list)
    revoked: int = 0
    untold: int = 0
    untold_first: list[_Kept] = field(default_factory=list)

    def take(self, subject: bytes, row: _Kept) -> None:
        end = row[0]
        if end <= self.now:
            self.expired += 1
            heapq.heappush(self.expired_last, row)
            if len(self.expired_last) > NAMED_EXPIRED:
                heapq.heappop(self.expired_last)
            return
        if self.soon.pop(subject, None) is not None:
            self.superseded += 1
        self.later.pop(subject, None)
        if end <= self.horizon:
            self.soon[subject] = row
        elif self.cutoff is None or row < self.cutoff:
            self.later[subject] = row
            if len(self.later) > 2 * _KEPT:
                self._keep_the_first()

    def take_revoked(self, row: _Kept, *, is_listed: bool) -> None:
        if row[0] <= self.now:
            return
        self.revoked += 1
        if not is_listed:
            self.untold += 1
            if len(self.untold_first) < NAMED:
                self.untold_first.append(row)

    def _keep_the_first(self) -> None:
        ordered = sorted(self.later.items(), key=lambda item: item[1])
        self.cutoff = ordered[_KEPT][1]
        self.later = dict(ordered[:_KEPT])


def index_ends(
    lines: Iterable[bytes], *, now: datetime, warn: timedelta, where: str, listed: Collection[int] = frozenset()
) -> IndexEnds:
    """Read the lines of an index; ``listed`` are the serials in the CRL.

    Raises CADirectoryError, naming ``where`` and the line, for one that is no row. A last line without its LF is passed
    over: it is being written, or was cut short (openssl drops it as well).
    """
    reading = _Reading(_sortable(date_text(now).encode()), _sortable(date_text(now + warn).encode()))
    for number, line in enumerate(lines, start=1):
        fields = line.split(b"\t")
        # A backslash before a TAB makes the fields hard to tell apart, and what is no row is to be named.
        if len(fields) != 6 or b"\\\t" in line or not _is_date(fields[1]):
            if not line.strip() or line.startswith(b"#") or not line.endswith(b"\n"):
                continue
            fields = _fields(parse_row(line, number=number, where=where))
        if fields[0] == b"V" and line.endswith(b"\n"):
            reading.take(fields[5], (_sortable(fields[1]), number, line))
        elif fields[0] == b"R" and line.endswith(b"\n"):
            row = parse_row(line, number=number, where=where)
            reading.take_revoked((_sortable(fields[1]), number, line), is_listed=row.serial in listed)

    def rows(kept: Iterable[_Kept]) -> tuple[Row, ...]:
        return tuple(parse_row(line, number=number, where=where) for _, number, line in kept)

    return IndexEnds(
        first=rows(heapq.nsmallest(NAMED, (*reading.soon.values(), *reading.later.values()))),
        soon=len(reading.soon),
        superseded=reading.superseded,
        expired=reading.expired,
        expired_last=rows(sorted(reading.expired_last, reverse=True)),
        revoked=reading.revoked,
        untold=reading.untold,
        untold_first=rows(reading.untold_first),
    )


def _fields(row: Row) -> list[bytes]:
    subject = row.subject.encode("utf-8", "surrogateescape") + b"\n"
    return [row.status.encode(), date_text(row.not_after).encode(), b"", b"", b"", subject]


def _is_date(text: bytes) -> bool:
    return len(text) in (13, 15) and text.endswith(b"Z") and text[:-1].isdigit()


def _sortable(date: bytes) -> bytes:
    """A date with all four digits of its year (RFC 5280 4.1.2.5.1)."""
    if len(date) == 15:
        return date
    return (b"19" if date[:2] >= b"50" else b"20") + date
