"""What ends first in an index, against a slow and obvious way over the parsed rows."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtls_nb.errors import CADirectoryError
from mailtls_nb.pki import index_ends as module
from mailtls_nb.pki.index import Row, Status, parse_rows
from mailtls_nb.pki.index_ends import NAMED, IndexEnds, index_ends

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
_serials = count(1)


def row(name: str, days: float, status: Status = "V") -> Row:
    revocation = "261101000000Z" if status == "R" else ""
    return Row(status, NOW + days * DAY, revocation, next(_serials), f"/CN={name}")


def read(*rows: Row, warn_days: int = 30, tail: bytes = b"") -> IndexEnds:
    """With a CRL that lists the even serials."""
    lines, listed = [*(row.line() for row in rows), tail], {row.serial for row in rows if row.serial % 2 == 0}
    return index_ends(lines, now=NOW, warn=warn_days * DAY, where="index.txt", listed=listed)


def test_the_first_to_end_come_first() -> None:
    later, soon, revoked, expired = row("later", 300), row("soon", 3), row("revoked", 1, "R"), row("old", 1, "E")
    found = read(later, soon, revoked, expired)
    assert replace(found, revoked=0, untold=0, untold_first=()) == IndexEnds(first=(soon, later), soon=1)


def test_one_that_was_renewed_is_counted_and_not_named() -> None:
    old, other, new = row("a", 3), row("b", 4), row("a", 368)
    assert read(old, other, new) == IndexEnds(first=(other, new), soon=1, superseded=1)
    # Not when the newer one was revoked.
    revoked = row("a", 368, "R")
    found = read(old, other, revoked)
    assert (found.first, found.soon, found.superseded) == ((old, other), 2, 0)


def test_revoked_ones_that_the_crl_does_not_list_are_named() -> None:
    told = next(r for r in (row("a", 9, "R"), row("a", 9, "R")) if r.serial % 2 == 0)
    untold = [r for r in (row(f"u{number}", 9, "R") for number in range(100)) if r.serial % 2]
    ended = [row("b", -1, "R"), row("b", -1, "R")]
    found = read(told, *ended, *untold)
    assert (found.revoked, found.untold, found.untold_first) == (51, 50, tuple(untold[:NAMED]))


def test_what_expired_and_still_says_valid_is_counted() -> None:
    expired = [row(f"e{number}", -number) for number in range(1, 1001)]
    found = read(*expired, row("a", 300))
    assert (found.expired, found.expired_last) == (1000, tuple(expired[:3]))
    assert [r.subject for r in found.first] == ["/CN=a"]
    assert read(row("now", 0)).expired == 1


def test_of_many_that_end_soon_the_first_are_named() -> None:
    rows = [row(f"h{number}", 1 + number / 100) for number in range(500)]
    found = read(*reversed(rows))
    assert (found.first, found.soon) == (tuple(rows[:NAMED]), 500)


def test_years_of_two_and_of_four_digits_are_in_order() -> None:
    rows = [row("a", 365 * 30), row("b", 365 * 20), row("c", 365 * 10)]
    assert [r.subject for r in read(*rows).first] == ["/CN=c", "/CN=b", "/CN=a"]


def test_a_row_that_is_being_written_is_passed_over() -> None:
    whole = row("a", 10)
    line = row("b", 5).line()
    for cut in (line[:-1], line[:20], b"V\t"):
        assert read(whole, tail=cut).first == (whole,)
    assert len(read(whole, tail=line).first) == 2


@pytest.mark.parametrize("bad", [b"V\t270101000000Z\t\t01\tunknown\n", b"V\t27010100000Z\t\t01\tunknown\t/CN=a\n"])
def test_a_line_that_is_no_row_is_named(bad: bytes) -> None:
    with pytest.raises(CADirectoryError, match=r"index\.txt, line 2: "):
        read(row("a", 1), tail=bad)


def obvious(rows: list[Row], warn: timedelta) -> IndexEnds:
    valid = [r for r in rows if r.status == "V"]  # oldest first, as in the index
    alive = [r for r in valid if r.not_after > NOW]
    expired = sorted((r for r in valid if r.not_after <= NOW), key=lambda r: r.not_after, reverse=True)
    newest = {r.subject: r for r in alive}
    current = [r for r in alive if newest[r.subject] is r]
    old = [r for r in alive if newest[r.subject] is not r]
    current.sort(key=lambda r: r.not_after)
    ending = [r for r in current if r.not_after <= NOW + warn]
    revoked = [r for r in rows if r.status == "R" and r.not_after > NOW]
    untold = [r for r in revoked if r.serial % 2]
    return IndexEnds(
        first=tuple(current[: module.NAMED]),
        soon=len(ending),
        superseded=sum(r.not_after <= NOW + warn for r in old),
        expired=len(expired),
        expired_last=tuple(expired[: module.NAMED_EXPIRED]),
        revoked=len(revoked),
        untold=len(untold),
        untold_first=tuple(untold[: module.NAMED]),
    )


_rows = st.lists(
    st.tuples(st.sampled_from("abcdefgh"), st.integers(-40, 400), st.sampled_from(("V", "V", "V", "R", "E"))),
    max_size=40,
    unique_by=lambda drawn: drawn[1],
)


@given(drawn=_rows, warn_days=st.integers(0, 100), kept=st.integers(2, 6))
def test_reading_once_finds_what_the_obvious_way_finds(
    drawn: list[tuple[str, int, Status]], warn_days: int, kept: int
) -> None:
    """With little kept, some of those that end later may be missing, but what is named is right and in order."""
    rows = [row(*each) for each in drawn]
    assert read(*rows, warn_days=warn_days) == obvious(rows, warn_days * DAY)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_KEPT", kept)
        found, whole = read(*rows, warn_days=warn_days), obvious(rows, warn_days * DAY)
    assert found.first == whole.first[: len(found.first)]
    assert len(found.first) >= min(whole.soon, NAMED)
    assert (found.soon, found.superseded, found.expired) == (whole.soon, whole.superseded, whole.expired)


def test_little_is_kept_of_a_large_index() -> None:
    template = "V\t{}0203040506Z\t\t{:040X}\tunknown\t/CN=h{}.example.test\n"
    lines = (template.format(27 + number % 20, number, number).encode() for number in range(100_000))
    tracemalloc.start()
    found = index_ends(lines, now=NOW, warn=30 * DAY, where="index.txt")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert [r.not_after.year for r in found.first] == [2027] * NAMED
    assert peak < 4_000_000


def test_the_obvious_way_reads_what_openssl_writes() -> None:
    rows = [row("a b", 3), row("ü", 4)]
    assert list(parse_rows([r.line() for r in rows], where="x")) == rows
