"""How an issue that was cut short is brought to its end: no certificate without its row, no half file.

An issue goes: `pending` names the serial; the certificate is written; its row is appended; `pending` goes away. So
whatever a crash left is found from `pending` and the last line of the index, without reading all of either.
"""

from __future__ import annotations

import os
from pathlib import Path

from cryptography import x509

from mailtls_nb import durable
from mailtls_nb.errors import CADirectoryError
from mailtls_nb.pki.configuration import Layout
from mailtls_nb.pki.index import Row, parse_row, row_for, rows_holding, serial_text

# Longer than any row: a subject of openssl's text form stays far below it.
_LONGEST_ROW = 64 * 1024


def certificate_path(layout: Layout, serial: int) -> Path:
    """Where the certificate of a serial lies."""
    return layout.new_certificates / f"{serial_text(serial)}.pem"


def is_needed(layout: Layout) -> bool:
    """Whether a crash, or a process at work at this moment, left something unfinished. Cheap; raises OSError.

    A last row that lacks nothing but its LF was left by an editor: it can be read, and the next writer mends it.
    """
    return layout.pending.exists() or _is_cut_short(layout.database) or any(_leftovers(layout))


def recover(layout: Layout) -> None:
    """Finish or take back what was left unfinished. The caller holds the lock; raises OSError, CADirectoryError."""
    serial = _pending_serial(layout)
    certificate = _read_certificate(certificate_path(layout, serial)) if serial is not None else None
    row = row_for(certificate).line() if certificate else b""
    _repair_last_line(layout.database, row)
    if serial is not None:
        durable.remove(durable.temporary_name(certificate_path(layout, serial)))
        if certificate and not has_serial(layout, serial):
            durable.append(layout.database, row)
    for leftover in _leftovers(layout):
        durable.remove(leftover)
    durable.remove(layout.pending)


def store(layout: Layout, certificate: x509.Certificate, pem: bytes) -> None:
    """Write a new certificate and its row, in the order that `recover` relies on; puts all back when it fails.

    The caller holds the lock and has recovered before. Raises OSError.
    """
    path = certificate_path(layout, certificate.serial_number)
    size = layout.database.stat().st_size
    try:
        durable.write(layout.pending, f"{serial_text(certificate.serial_number)}\n".encode(), mode=0o600)
        durable.write(path, pem, mode=0o644)
        durable.append(layout.database, row_for(certificate).line())
        durable.remove(layout.pending)
    except BaseException:
        if layout.database.stat().st_size != size:
            durable.truncate(layout.database, size)
        durable.remove(path)
        durable.remove(layout.pending)
        raise


def has_serial(layout: Layout, serial: int) -> bool:
    """Whether the index has a row of that serial; reads the whole index."""
    return bool(rows_of_serial(layout, serial))


def rows_of_serial(layout: Layout, serial: int) -> tuple[Row, ...]:
    """The rows of that serial, of which a sound index has one at most; reads the whole index."""
    with layout.database.open("rb") as lines:
        candidates = rows_holding(lines, f"{serial:X}".encode(), where=str(layout.database))
        return tuple(row for row in candidates if row.serial == serial)


def valid_rows_of_subject(layout: Layout, subject: str) -> tuple[Row, ...]:
    """The rows of that subject that are marked valid, whatever the date; reads the whole index."""
    with layout.database.open("rb") as lines:
        text = subject.encode("utf-8", "surrogateescape")
        candidates = rows_holding(lines, text, where=str(layout.database))
        return tuple(row for row in candidates if row.status == "V" and row.subject == subject)


def _pending_serial(layout: Layout) -> int | None:
    try:
        return int(layout.pending.read_text("ascii"), 16)
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _not_ours(layout.pending) from error


def _read_certificate(path: Path) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise _not_ours(path) from error


def _not_ours(path: Path) -> CADirectoryError:
    return CADirectoryError(
        f"{path} was not left by an issue that was cut short: its content is none of ours",
        left="nothing was changed",
        do="find out who wrote it, and move it away",
    )


def _leftovers(layout: Layout) -> list[Path]:
    whole = [layout.pending, layout.configuration, layout.database, layout.crl, layout.successor, layout.predecessor]
    if layout.crl_number:
        whole.append(layout.crl_number)
    return [beside for path in whole if (beside := durable.temporary_name(path)).exists()]


def _unfinished_line(database: Path) -> bytes:
    """What stands after the last LF of the index: openssl would drop it silently at its next write."""
    with database.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - _LONGEST_ROW))
        return file.read().rpartition(b"\n")[2]


def _is_cut_short(database: Path) -> bool:
    try:
        if unfinished := _unfinished_line(database):
            parse_row(unfinished, number=0, where=str(database))
    except CADirectoryError:
        return True
    return False


def _repair_last_line(database: Path, pending_row: bytes) -> None:
    unfinished = _unfinished_line(database)
    if not unfinished:
        return
    if pending_row.startswith(unfinished):
        durable.truncate(database, database.stat().st_size - len(unfinished))
        return
    # Not ours: whole, only its LF is missing (an editor), or something that only a person can judge.
    with database.open("rb") as file:
        number = sum(1 for _ in file)
    try:
        parse_row(unfinished, number=number, where=str(database))
    except CADirectoryError as error:
        raise CADirectoryError(f"{error.what} (the line is cut short)", left=error.left, do=error.do) from error
    durable.append(database, b"\n")
