"""What an index needs before a certificate can be signed, in the right order: mend, update, revoke, sign. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from mailtls_nb.errors import CADirectoryError
from mailtls_nb.pki.index import Row, serial_text
from mailtls_nb.pki.index_changes import IndexChange
from mailtls_nb.pki.index_scan import IndexScan, NumberedRow
from mailtls_nb.pki.revocation import Revocation

# Of two rows of one certificate, the one that says more of it is kept: a revocation is never lost.
_SAYS_MORE = ("V", "E", "R")


@dataclass(frozen=True)
class Cures:
    """What is to be done to an index, all of it in one rewrite. False when there is nothing.

    ``drop`` are the lines that go, by number: repetitions and blank lines. ``set_aside`` are those among them that
    differ from the row that is kept, and are kept elsewhere. ``expired`` and ``superseded`` are the valid rows of the
    subject that is to be signed for, where subjects are unique. ``where`` is the index.
    """

    drop: Mapping[int, bytes] = field(default_factory=dict)
    set_aside: tuple[NumberedRow, ...] = ()
    repeated: tuple[int, ...] = ()
    blank: int = 0
    lacks_lf: bool = False
    expired: tuple[Row, ...] = ()
    superseded: tuple[Row, ...] = ()
    where: str = ""

    def __bool__(self) -> bool:
        return self.mends or bool(self.expired or self.superseded)

    @property
    def mends(self) -> bool:
        """Whether lines are put right, apart from what they say."""
        return bool(self.drop) or self.lacks_lf

    def change(self, now: datetime) -> IndexChange:
        """All of it as one change. What has expired is marked in all rows, as by ``openssl ca -updatedb``."""
        superseded = Revocation.of(now, "superseded")
        return IndexChange(
            revoke={row.serial: superseded for row in self.superseded},
            expire_at=now if self.expired else None,
            drop=self.drop,
        )


def needed_cures(scan: IndexScan, agrees: Callable[[Row], bool], *, now: datetime, where: str) -> Cures:
    """The cures for an index; ``scan`` was asked for the subject that is to be signed for.

    ``agrees`` says whether a row is that of its certificate in newcerts. Raises CADirectoryError where rows share a
    serial and it cannot be told which one is right, and for a line that is no row.
    """
    if scan.unreadable:
        line = scan.unreadable[0]
        raise CADirectoryError(
            f"{where}, line {line.number}: {line.problem}",
            left="nothing was changed",
            do="compare the line with its neighbours and with index.txt.old, and mend it by hand",
        )
    drop = dict.fromkeys(scan.blank, b"")
    set_aside: list[NumberedRow] = []
    for serial, rows in scan.repeated.items():
        kept = _kept(serial, rows, agrees, where)
        drop |= {row.number: row.line for row in rows if row is not kept}
        set_aside += [row for row in rows if row.line != kept.line]
    wished = [numbered.row for numbered in scan.wished if numbered.number not in drop]
    return Cures(
        drop=drop,
        set_aside=tuple(set_aside),
        repeated=tuple(sorted(scan.repeated)),
        blank=len(scan.blank),
        lacks_lf=scan.lacks_lf,
        expired=tuple(row for row in wished if row.not_after <= now),
        superseded=tuple(row for row in wished if row.not_after > now),
        where=where,
    )


def _kept(serial: int, rows: list[NumberedRow], agrees: Callable[[Row], bool], where: str) -> NumberedRow:
    """Of the rows of one serial, the one that stays: the first where all are the same."""
    if len({numbered.line for numbered in rows}) == 1:
        return rows[0]
    right = [numbered for numbered in rows if agrees(numbered.row)]
    most = max((_SAYS_MORE.index(numbered.row.status) for numbered in right), default=0)
    best = [numbered for numbered in right if numbered.row.status == _SAYS_MORE[most]]
    if len({numbered.line for numbered in best}) != 1:
        lines = ", ".join(str(numbered.number) for numbered in rows)
        why = "none of them agrees with" if not right else "more than one agrees with"
        raise CADirectoryError(
            f"{where}: the serial {serial_text(serial)} has several rows that differ (lines {lines}), and {why} "
            f"newcerts/{serial_text(serial)}.pem",
            left="nothing was changed",
            do="find out which certificate was given that serial (both may be in use), put it into newcerts and take "
            "the other row out by hand; a certificate without a row is replaced by a new one",
        )
    return best[0]


def set_aside_text(rows: Iterable[NumberedRow], *, now: datetime, where: str) -> bytes:
    """What is appended to the file of rows that were taken out."""
    lines = (
        f"# {now:%Y-%m-%d %H:%M:%S} UTC, from line {numbered.number} of {where}: another row has this serial, and is "
        "that of the certificate\n".encode()
        + numbered.line
        + b"\n"
        for numbered in rows
    )
    return b"".join(lines)
