"""Finds and names what is wrong in a CA directory: the index, its certificates, and the files beside. Never writes.

A directory that somebody uses with `openssl ca` all along, that was restored from a backup, or that was edited by hand
looks sound until openssl says `TXT_DB error number 2`. Here it is said beforehand, and with the line.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from mailtls_nb.names import openssl_dn
from mailtls_nb.pki import adoption, lint_files, recovery
from mailtls_nb.pki.configuration import Layout
from mailtls_nb.pki.index import Row, serial_text
from mailtls_nb.pki.index_problems import index_problems
from mailtls_nb.pki.index_scan import MOST_NAMED, NEWEST, IndexScan, Listed, NumberedRow, rows_of, scan_index
from mailtls_nb.pki.problem import IndexProblem, gravest_first, named


@dataclass(frozen=True)
class Examined:
    """The problems, gravest first, and what the pass over the index found; None where there is no index."""

    problems: tuple[IndexProblem, ...]
    scan: IndexScan | None


def lint(layout: Layout, *, now: datetime) -> tuple[IndexProblem, ...]:
    """What is wrong in a CA directory, gravest first; empty for a sound one.

    The index is read once (again only where something is in it twice), and the names in newcerts. Certificates are held
    against their rows for the newest 2,000 rows and for those with which something else is wrong. Raises OSError, as
    for a directory that may not be read, and CADirectoryError.
    """
    return examine(layout, now=now).problems


def examine(layout: Layout, *, now: datetime, subjects: Collection[bytes] = ()) -> Examined:
    """As `lint`, for who needs more of the index: the valid rows of ``subjects`` are among what it returns."""
    unique = adoption.subjects_are_unique(layout)
    problems = list(lint_files.file_problems(layout))
    if not layout.database.exists():
        return Examined(gravest_first(problems), None)
    scan = scan_index(lambda: _lines(layout.database), now=now, unique_subject=unique, subjects=subjects)
    problems += index_problems(scan, layout, unique_subject=unique)
    problems += _disagreeing(layout, scan)
    problems += _unmatched(layout, scan, now)
    problems += lint_files.serial_problems(layout, scan.serials)
    return Examined(gravest_first(problems), scan)


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as lines:
        yield from lines


def disagreement(layout: Layout, row: Row) -> str | None:
    """How a row differs from the certificate in newcerts; empty where they agree, None without a certificate."""
    path = recovery.certificate_path(layout, row.serial)
    try:
        certificate = x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError:
        return "it holds no certificate that can be read"
    if certificate.serial_number != row.serial:
        return f"its serial is {serial_text(certificate.serial_number)}"
    subject, end = openssl_dn(certificate.subject), certificate.not_valid_after_utc
    if subject != row.subject:
        return f"it is for {subject}, the row says {row.subject}"
    if end != row.not_after:
        return f"it ends on {end:%Y-%m-%d %H:%M:%S}, the row says {row.not_after:%Y-%m-%d %H:%M:%S}"
    return ""


def _disagreeing(layout: Layout, scan: IndexScan) -> Iterator[IndexProblem]:
    """Of the newest rows and those that are suspect; those that share a serial are a problem of their own."""
    suspect = [*scan.ended.first, *(numbered for rows in scan.clashing.values() for numbered in rows)]
    by_line = {numbered.number: numbered for numbered in (*suspect, *scan.newest)}
    found = 0
    for _, numbered in sorted(by_line.items(), reverse=True):
        if numbered.row.serial in scan.repeated or found == MOST_NAMED:
            continue
        difference = disagreement(layout, numbered.row)
        if difference:
            found += 1
            yield _disagrees(layout, numbered, difference)


def _disagrees(layout: Layout, numbered: NumberedRow, difference: str) -> IndexProblem:
    path = recovery.certificate_path(layout, numbered.row.serial)
    return IndexProblem(
        "row-disagrees",
        "error",
        f"The row is not that of its certificate {path.name}: {difference}.",
        "One of the two is of another time or another CA, and whoever revokes by the one means the other.",
        f"{layout.database}, line {numbered.number}",
        f"Look at {path} with `openssl x509 -noout -text`, and put back the one that is wrong from a backup. Only the "
        f"newest {NEWEST:,} rows were looked at so, and those with which something else is wrong.",
    )


def _unmatched(layout: Layout, scan: IndexScan, now: datetime) -> Iterator[IndexProblem]:
    """Rows without certificates, and certificates without rows."""
    files = 0
    without_row = []
    try:
        with os.scandir(layout.new_certificates) as entries:
            for serial in _serials(entry.name for entry in entries):
                if serial in scan.serials:
                    files += 1
                else:
                    without_row.append(serial)
    except OSError as error:
        yield lint_files.missing(layout.new_certificates, error)
        return
    pending = _pending(layout)
    if without_row := sorted(serial for serial in without_row if serial != pending):
        yield _without_row(layout, without_row)
    # A second set of a million serials is only made where it is needed.
    if files < len(scan.serials):
        yield from _without_file(layout, _missing(layout), now)


def _missing(layout: Layout) -> Iterator[NumberedRow]:
    there = set(_serials(path.name for path in layout.new_certificates.iterdir()))
    return rows_of(_lines(layout.database), lambda serial: serial not in there)


def _serials(names: Iterable[str]) -> Iterator[int]:
    """Of certificates in newcerts, by their names."""
    for name in names:
        stem = name.removesuffix(".pem")
        if stem is not name and stem.isalnum():
            with suppress(ValueError):
                yield int(stem, 16)


def _pending(layout: Layout) -> int | None:
    try:
        return int(layout.pending.read_text("ascii"), 16)
    except (OSError, ValueError):
        return None


def _without_row(layout: Layout, serials: list[int]) -> IndexProblem:
    texts = [serial_text(serial) for serial in serials]
    return IndexProblem(
        "row-missing",
        "warning",
        f"Certificates have no row in the index: {named(texts, len(texts))}.",
        "The index is older than the certificates, as after an old backup was restored. Whether these were revoked is "
        "not known any more, and a serial without a row can be neither looked up nor revoked.",
        str(layout.new_certificates),
        f"For each: `openssl ca -config {layout.configuration} -valid {layout.new_certificates}/{texts[0]}.pem` gives "
        "it a row; then revoke again what had been revoked.",
    )


def _without_file(layout: Layout, rows: Iterable[NumberedRow], now: datetime) -> Iterator[IndexProblem]:
    """One problem for those in use, else one for the others."""
    in_use, others = Listed(), Listed()
    for numbered in rows:
        (in_use if numbered.row.status == "V" and numbered.row.not_after > now else others).add(numbered)
    listed = in_use if in_use.count else others
    if not listed.count:
        return
    texts = [serial_text(numbered.row.serial) for numbered in listed.first]
    yield IndexProblem(
        "certificate-missing",
        "warning" if in_use.count else "note",
        f"{'Rows that are valid' if in_use.count else 'Rows'} have no certificate in {layout.new_certificates}: "
        f"{named(texts, listed.count)}.",
        "The index is newer than the certificates, or they were cleared away. What such a certificate is for is known "
        "from its row alone, and a key of it that was lost could be certified again.",
        f"{layout.database}, line {listed.first[0].number}",
        "Put the files back from a backup, or from where the certificates are in use.",
    )
