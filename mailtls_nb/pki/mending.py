"""Curing an index before something is signed, and the way back where what followed has failed."""

from __future__ import annotations

from datetime import datetime

from mailtls_nb import durable
from mailtls_nb.pki import revoking
from mailtls_nb.pki.configuration import Layout
from mailtls_nb.pki.cures import Cures, needed_cures, set_aside_text
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import Row
from mailtls_nb.pki.index_changes import IndexChange
from mailtls_nb.pki.lint import Examined, disagreement, examine
from mailtls_nb.pki.revocation import Revocation


def look(layout: Layout, subject: str, *, now: datetime) -> tuple[Examined, Cures]:
    """What is wrong in a directory, and what of it is to be cured before a certificate for ``subject`` is signed.

    Reads the index once. Raises CADirectoryError where it cannot be told how it is to be cured.
    """
    wished = subject.encode("utf-8", "surrogateescape")
    examined = examine(layout, now=now, subjects=(wished,))
    if examined.scan is None:
        return examined, Cures()
    cures = needed_cures(
        examined.scan,
        lambda row: disagreement(layout, row) == "",
        now=now,
        where=str(layout.database),
    )
    return examined, cures


def cure(ca: CADirectory, cures: Cures, *, now: datetime) -> tuple[Row, ...]:
    """Carry out all cures in one rewrite of the index; returns the rows that were revoked by it.

    Rows that are set aside are on disk before they leave the index. Raises CADirectoryError, with the index as it was.
    """
    change = cures.change(now)
    with revoking.writing(ca, "mends the index"):
        # The LF that a last line lacks is there now.
        if cures.set_aside:
            _set_aside(ca.layout, set_aside_text(cures.set_aside, now=now, where=str(ca.layout.database)))
        changed = revoking.rewrite(ca, change).changed
    ours = change.revoke
    return tuple(row for row in changed if row.serial in ours and row.revocation == ours[row.serial].text)


def take_back(ca: CADirectory, revoked: tuple[Row, ...], issued: int | None, *, now: datetime) -> dict[int, str]:
    """Make valid again what `cure` revoked, and revoke (superseded) the certificate that was issued instead, if any.

    What others know of by now, or revoked for a reason of their own, stays revoked: returns why, by serial number. One
    rewrite, so that no subject has two valid rows at any moment. Raises CADirectoryError.
    """
    with revoking.writing(ca, "takes a revocation back"):
        told = _told_by_crl(ca, revoked)
        change = IndexChange(
            revoke={} if issued is None else {issued: Revocation.of(now, "superseded")},
            reinstate={row.serial: row.revocation for row in revoked if row.serial not in told},
        )
        rewriting = revoking.rewrite(ca, change)
    valid = {row.serial for row in rewriting.changed if row.status == "V"}
    says = {row.serial: row.revocation for row in rewriting.revoked}
    return {
        row.serial: "a CRL that was signed meanwhile tells of it"
        if row.serial in told
        else f"the index says {says.get(row.serial, 'something else')} of it by now"
        for row in revoked
        if row.serial not in valid
    }


def _told_by_crl(ca: CADirectory, rows: tuple[Row, ...]) -> frozenset[int]:
    """Those whose revocation the CRL in the directory tells of."""
    crl = revoking.newest_crl(ca)
    if crl is None:
        return frozenset()
    serials = (row.serial for row in rows)
    return frozenset(serial for serial in serials if crl.get_revoked_certificate_by_serial_number(serial) is not None)


def _set_aside(layout: Layout, text: bytes) -> None:
    path = layout.set_aside
    there = path.read_bytes() if path.exists() else b""
    # A run that was cut short after this, and before the index was written, said the same.
    durable.write(path, there + text, mode=0o600)
