"""Changes to many rows of an index at once: it is read once, row by row, and written once. Pure.

Only rows that change are taken apart: an index may hold a million of them.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime

from mailtls_nb.errors import CADirectoryError
from mailtls_nb.pki.dates import ended_by
from mailtls_nb.pki.index import Row, parse_row, serial_text
from mailtls_nb.pki.index_scan import plain_row
from mailtls_nb.pki.revocation import Revocation


@dataclass(frozen=True)
class IndexChange:
    """What is to become of the rows.

    ``revoke``: by serial number. ``reinstate``: which revocation is taken back, by serial number, as it stands in the
    index (`Revocation.text`); a row that says another one by now stays revoked. ``expire_at``: valid rows that have
    ended at that time become E, as by ``openssl ca -updatedb``. ``drop``: lines that are taken out, by their number
    from 1, each as it stands there without its LF.
    """

    revoke: Mapping[int, Revocation] = field(default_factory=dict)
    reinstate: Mapping[int, str] = field(default_factory=dict)
    expire_at: datetime | None = None
    drop: Mapping[int, bytes] = field(default_factory=dict)

    def applied(self, row: Row) -> Row:
        """The row as it is to be; the very same object where nothing changes."""
        if row.status == "R" and row.revocation == self.reinstate.get(row.serial):
            return replace(row, status="V", revocation="")
        wanted = self.revoke.get(row.serial)
        if wanted is not None:
            return _revoked(row, wanted)
        if self.expire_at is not None and row.status == "V" and row.not_after <= self.expire_at:
            return replace(row, status="E")
        return row


def _revoked(row: Row, wanted: Revocation) -> Row:
    there = row.revoked
    if there is None:
        return replace(row, status="R", revocation=wanted.text)
    if there.outdone_by(wanted.reason):
        # It is refused since then, whatever is known of it now.
        return replace(row, revocation=Revocation.of(there.at, wanted.reason).text)
    return row


@dataclass
class Rewriting:
    """One pass over an index.

    After ``lines`` was read to its end, ``changed`` are the rows that changed as they are now, and ``revoked`` all rows
    that are revoked, in the order of the index; ``dropped`` says how many lines were taken out.
    """

    change: IndexChange
    where: str
    changed: list[Row] = field(default_factory=list)
    revoked: list[Row] = field(default_factory=list)
    dropped: int = 0

    @property
    def is_needed(self) -> bool:
        """Whether anything is another than it was."""
        return bool(self.changed or self.dropped)

    def lines(self, before: Iterable[bytes]) -> Iterator[bytes]:
        """The lines as they are to be; raises CADirectoryError, naming the line, for one that is no row."""
        revoke, reinstate, drop = self.change.revoke, self.change.reinstate, self.change.drop
        ended = ended_by(self.change.expire_at) if self.change.expire_at else None
        for number, line in enumerate(before, start=1):
            if number in drop:
                self._drop(number, line)
                continue
            # All that is revoked is told of in the end.
            plain = None if line.startswith(b"R") else plain_row(line)
            if plain is not None:
                status, end, serial, _ = plain
                if serial not in revoke and serial not in reinstate and not (ended and status == b"V" and ended(end)):
                    yield line
                    continue
            if not line.strip() or line.startswith(b"#"):
                yield line
                continue
            row = parse_row(line, number=number, where=self.where)
            after = self.change.applied(row)
            if after.status == "R":
                self.revoked.append(after)
            if after is row:
                yield line
            else:
                self.changed.append(after)
                yield after.line()

    def _drop(self, number: int, line: bytes) -> None:
        if line.strip() != self.change.drop[number].strip():
            raise CADirectoryError(
                f"{self.where}, line {number} has changed since it was looked at",
                left="nothing was changed",
                do="run again: the index is looked at anew",
            )
        self.dropped += 1

    def missing(self) -> tuple[int, ...]:
        """Serials that were to be revoked and have no row that is revoked now."""
        there = {row.serial for row in self.revoked}
        return tuple(sorted(set(self.change.revoke) - there))


def compromised_rows(lines: Iterable[bytes], *, where: str) -> Iterator[Row]:
    """The rows whose key may be in other hands; raises CADirectoryError."""
    for number, line in enumerate(lines, start=1):
        # keyCompromise, CACompromise, keyTime and CAkeyTime, in any case; most rows are not taken apart.
        if line.startswith(b"R\t") and (b"compromise" in (lower := line.lower()) or b"keytime" in lower):
            row = parse_row(line, number=number, where=where)
            if row.revoked is not None and row.revoked.is_compromise:
                yield row


def refuse_missing(missing: Iterable[int], where: str) -> None:
    """Raise CADirectoryError where a serial to be revoked is not in the index."""
    if serials := ", ".join(serial_text(serial) for serial in missing):
        raise CADirectoryError(
            f"{where} has no row for the serial {serials}",
            left="nothing was changed",
            do="look at the serials in index.txt; a certificate that was issued elsewhere is revoked there",
        )
