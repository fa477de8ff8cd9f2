"""What `index_scan` found, as problems with openssl's own words, which operators search for. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mailtls_nb.pki.configuration import Layout
from mailtls_nb.pki.index import serial_text
from mailtls_nb.pki.index_scan import BadLine, IndexScan, NumberedRow
from mailtls_nb.pki.problem import IndexProblem, named

# What openssl says of a clash, in its versions; docs and questions on the web name it by the first.
_CLASH = "`TXT_DB error number 2` or `There is already a certificate for`"
_ISSUE = "02-issue-certificate does that before it signs"
_BAD = {
    "carriage-return": "openssl takes the CR for a part of the subject, and no longer sees two rows of one subject.",
    "serial-spelling": "openssl compares serials as they are written, and refuses the whole index if the number of "
    "digits is odd (`bad serial number length`).",
    "revocation-date": "openssl refuses the whole index for it (`not revoked yet, but has a revocation date`, or "
    "`in entry`).",
}


def index_problems(scan: IndexScan, layout: Layout, *, unique_subject: bool) -> Iterator[IndexProblem]:
    """All that is wrong with the index as such."""
    database = str(layout.database)
    yield from (_unreadable(line, database) for line in scan.unreadable)
    yield from (_bad(line, database) for line in scan.bad)
    if scan.blank:
        yield IndexProblem(
            "blank-line",
            "error",
            f"{_lines([*map(str, scan.blank)], len(scan.blank))} blank.",
            "openssl refuses the whole index for it (`could not load/parse file`).",
            f"{database}, line {scan.blank[0]}",
            f"Take it out; {_ISSUE}.",
        )
    if scan.lacks_lf:
        yield IndexProblem(
            "no-final-newline",
            "error",
            "The last line does not end with LF.",
            "openssl drops that row silently at its next write: nobody could revoke that certificate any more.",
            database,
            f"Add the LF, before openssl writes there again; {_ISSUE}.",
        )
    yield from (_repeated(serial, rows, database) for serial, rows in scan.repeated.items())
    if unique_subject:
        yield from (
            _clashing(rows, scan.clashing_count - len(scan.clashing), layout) for rows in scan.clashing.values()
        )
    yield from _ended(scan, layout, unique_subject=unique_subject)


def _unreadable(line: BadLine, database: str) -> IndexProblem:
    return IndexProblem(
        "not-a-row",
        "error",
        f"The line is no row: {line.problem}.",
        "openssl refuses the whole index for it (`could not load/parse file`, `TXT_DB error number 5`), and so do we.",
        f"{database}, line {line.number}",
        f"Compare it with its neighbours and with {database}.old, and mend it by hand.",
    )


def _bad(line: BadLine, database: str) -> IndexProblem:
    return IndexProblem(
        line.name,
        "warning" if line.name == "carriage-return" else "error",
        f"The row is not as openssl writes it: {line.problem}.",
        _BAD[line.name],
        f"{database}, line {line.number}",
        "Mend that line by hand, while no openssl is at work.",
    )


def _repeated(serial: int, rows: list[NumberedRow], database: str) -> IndexProblem:
    same = "the same row" if len({row.line for row in rows}) == 1 else "rows that differ"
    return IndexProblem(
        "serial-twice",
        "error",
        f"The serial {serial_text(serial)} has {len(rows)} rows, {same}: lines {_numbers(rows)}.",
        "openssl then does nothing more in this directory (`Error creating serial number index:(2,...)`, which is "
        "TXT_DB error number 2). It comes of several `openssl ca` at once, since openssl locks nothing, or of an edit.",
        f"{database}, line {rows[0].number}",
        f"Keep the row that agrees with newcerts/{serial_text(serial)}.pem; {_ISSUE}, and keeps the other one in "
        f"{database}.set-aside.",
    )


def _clashing(rows: list[NumberedRow], more: int, layout: Layout) -> IndexProblem:
    others = f" (one of {more + 1} such subjects)" if more > 0 else ""
    return IndexProblem(
        "unique-subject-twice",
        "error",
        f"{rows[0].row.subject} has {len(rows)} rows that are marked valid, on lines {_numbers(rows)}, and subjects "
        f"are to be unique{others}.",
        "openssl then does nothing more in this directory, not even -updatedb or -revoke (`Error creating name "
        f"index:(2,...)`, which is TXT_DB error number 2); {_CLASH} is what it says when it is asked for one more.",
        f"{layout.database}, line {rows[0].number}",
        f"Issue for that name with 02-issue-certificate, which marks the expired and revokes what is superseded; or "
        f"write `unique_subject = no` into {layout.attributes} and {layout.configuration}.",
    )


def _ended(scan: IndexScan, layout: Layout, *, unique_subject: bool) -> Iterator[IndexProblem]:
    if not scan.ended.count:
        return
    serials = named([serial_text(row.row.serial) for row in scan.ended.first], scan.ended.count)
    what = f"Certificates that have expired are still marked valid (V): {serials}."
    where = f"{layout.database}, line {scan.ended.first[0].number}"
    do = f"Run `openssl ca -updatedb -config {layout.configuration}`"
    if unique_subject:
        yield IndexProblem(
            "unique-subject-expired",
            "warning",
            what,
            f"Subjects are to be unique, so that openssl signs nothing for the same names again: {_CLASH}.",
            where,
            f"{do}; {_ISSUE}, where its names are concerned.",
        )
    else:
        yield IndexProblem("expired-valid", "note", what, "Lists made of the index call them valid.", where, f"{do}.")


def _numbers(rows: list[NumberedRow]) -> str:
    return named([str(row.number) for row in rows], len(rows))


def _lines(numbers: list[str], count: int) -> str:
    return f"Line {numbers[0]} is" if count == 1 else f"Lines {named(numbers, count)} are"
