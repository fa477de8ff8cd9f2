"""Revoking in a CA directory: the index, the CRL and its number, each written whole, in an order that a crash respects.

First the index, then ``crlnumber``, then the CRL. So whatever is cut short, the index tells what is revoked, no number
is given out twice, and the next CRL completes it. The index is read once and rewritten at most once.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime
from pathlib import Path

from cryptography import x509

from mailtls_nb import durable
from mailtls_nb.errors import CADirectoryError, NotReady
from mailtls_nb.locking import locked
from mailtls_nb.pki import recovery
from mailtls_nb.pki.adoption import not_sound
from mailtls_nb.pki.clock import refuse_clock_behind
from mailtls_nb.pki.crl import check_crl_days, check_own_crl, crl_number, crl_pem, is_signed_by, sign_crl
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import Row, serial_text
from mailtls_nb.pki.index_changes import IndexChange, Rewriting, refuse_missing
from mailtls_nb.pki.revocation import Reason, Revocation
from mailtls_nb.secret import Secret

_WAIT_S = 30.0


def revoke(ca: CADirectory, serials: Collection[int], reason: Reason, *, now: datetime) -> tuple[Row, ...]:
    """Mark the certificates revoked in the index; returns the rows that this changed. No CRL is signed.

    One that is revoked already keeps its date and, unless ``reason`` is a compromise of its key, its reason. Raises
    CADirectoryError, with nothing changed, for a serial that is not in the index.
    """
    revocation = Revocation.of(now, reason)
    return change_index(ca, IndexChange(revoke=dict.fromkeys(serials, revocation)), doing="revokes certificates")


def update_index(ca: CADirectory, *, now: datetime) -> tuple[Row, ...]:
    """Mark what has expired as such, as ``openssl ca -updatedb`` does; returns the rows that this changed."""
    return change_index(ca, IndexChange(expire_at=now), doing="marks expired certificates")


def change_index(ca: CADirectory, change: IndexChange, *, doing: str) -> tuple[Row, ...]:
    """Carry out a change of many rows, under the lock; returns the rows that it changed. Raises CADirectoryError."""
    with writing(ca, doing):
        return tuple(rewrite(ca, change).changed)


def sign_new_crl(
    ca: CADirectory,
    *,
    days: int,
    passphrase: Secret | None,
    now: datetime,
    change: IndexChange | None = None,
    at_least: int = 1,
) -> x509.CertificateRevocationList:
    """Carry out the change of the index, if any, and sign a CRL of all that is revoked then; it lies at ``layout.crl``.

    ``days`` is its lifetime, ``at_least`` the lowest number that it may have. Raises BadParameter(crl_days,
    ca_passphrase), NotReady where the CA has expired or the clock is wrong, and CADirectoryError.
    """
    check_crl_days(days)
    key = ca.signing_key(passphrase)
    _refuse_ended(ca, now)
    refuse_clock_behind(now, ca=ca.ca_certificate, newest=None, crl=newest_crl(ca), where=str(ca.path))
    with writing(ca, "signs a certificate revocation list"):
        revoked = rewrite(ca, change).revoked if change else revoked_rows(ca)
        number = max(next_crl_number(ca), at_least)
        crl = sign_crl(ca.ca_certificate, key, revoked, number=number, now=now, days=days)
        durable.write(number_file(ca), f"{serial_text(number + 1)}\n".encode(), mode=0o644)
        durable.write(ca.layout.crl, crl_pem(crl), mode=0o644)
    return crl


def revoked_rows(ca: CADirectory) -> list[Row]:
    """Every row that is revoked; reads the index once."""
    rewriting = Rewriting(IndexChange(), str(ca.layout.database))
    with ca.layout.database.open("rb") as lines:
        for _ in rewriting.lines(lines):
            pass
    return rewriting.revoked


def newest_crl(ca: CADirectory) -> x509.CertificateRevocationList | None:
    """The CRL at ``layout.crl``, if it is one of this CA's, in date or not; else None."""
    try:
        data = ca.layout.crl.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise not_sound(f"{ca.layout.crl}: {error.strerror}", ca.path) from error
    try:
        crl = x509.load_pem_x509_crl(data)
    except ValueError:
        return None
    return crl if crl.issuer == ca.ca_certificate.subject and is_signed_by(crl, ca.ca_certificate) else None


def checked_crl(ca: CADirectory, *, now: datetime) -> x509.CertificateRevocationList | None:
    """The CRL at ``layout.crl`` as mail servers may be given it; None without one. Raises CertificateRefused."""
    try:
        data = ca.layout.crl.read_bytes()
    except FileNotFoundError:
        return None
    return check_own_crl(data, ca.ca_certificate, now=now, where=str(ca.layout.crl))


def number_file(ca: CADirectory) -> Path:
    """Where the next CRL's number stands; beside the others where openssl.cnf names no place for it."""
    return ca.layout.crl_number or ca.path / "crlnumber"


def next_crl_number(ca: CADirectory) -> int:
    """The number of the next CRL: what ``crlnumber`` says, and higher than that of the newest one in any case."""
    path = number_file(ca)
    try:
        text = path.read_text("ascii", "replace").strip()
        counted = int(text or "1", 16)
    except FileNotFoundError:
        counted = 1
    except ValueError as error:
        raise not_sound(f"{path} holds no number in hex", ca.path, do="write the next CRL's number there") from error
    newest = newest_crl(ca)
    # Not "if newest": a CRL without entries counts as false.
    given_out = 0 if newest is None else crl_number(newest) or 0
    return max(counted, given_out + 1)


def rewrite(ca: CADirectory, change: IndexChange) -> Rewriting:
    """Carry out a change; the caller is `writing`. An index that stays as it is, is not written."""
    database = ca.layout.database
    rewriting = Rewriting(change, str(database))
    status = database.stat()
    with database.open("rb") as lines, suppress(_NothingToWrite):
        durable.write_pieces(
            database, _judged(rewriting, lines), mode=status.st_mode & 0o777, owner=(status.st_uid, status.st_gid)
        )
    return rewriting


class _NothingToWrite(Exception):
    """No error: it ends the writing before the rename."""


def _judged(rewriting: Rewriting, lines: Iterable[bytes]) -> Iterator[bytes]:
    """The new lines; what is raised at their end comes before the new index takes the place of the old one."""
    yield from rewriting.lines(lines)
    refuse_missing(rewriting.missing(), rewriting.where)
    if not rewriting.is_needed:
        raise _NothingToWrite


@contextmanager
def writing(ca: CADirectory, doing: str) -> Iterator[None]:
    """Hold the lock of the directory, whatever was left unfinished finished; OSError becomes CADirectoryError."""
    try:
        with locked(ca.layout.lock, doing=doing, wait_s=_WAIT_S, error=CADirectoryError):
            recovery.recover(ca.layout)
            yield
    except OSError as error:
        raise CADirectoryError(
            f"{error.filename or ca.path}: {error.strerror}: it was not written",
            left="each file is as it was or whole as it is to be; running again completes it",
            do=f"make {ca.path} writable, with space left, and run again",
        ) from error


def _refuse_ended(ca: CADirectory, now: datetime) -> None:
    end = ca.ca_certificate.not_valid_after_utc
    if now > end:
        raise NotReady(
            f"the CA {ca.name} ended on {end:%Y-%m-%d %H:%M:%S} UTC: no CRL of it makes anybody verified again",
            left="nothing was changed",
            do="check this machine's clock; if it is right, replace the CA (runbook 09)",
        )
