"""A CA directory looked at without writing into it: what ends, what was signed last, what cannot be read."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from pathlib import Path

from cryptography import x509

from mailtls_nb.errors import CADirectoryError
from mailtls_nb.pki import adoption, recovery, succession
from mailtls_nb.pki.adoption import not_sound
from mailtls_nb.pki.configuration import Layout, default_layout
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index_ends import IndexEnds, index_ends
from mailtls_nb.pki.revoking import newest_crl


@dataclass(frozen=True)
class Inspected:
    """A CA directory as it is; what could not be read is None or empty, and one of ``problems`` says why.

    ``newest`` is the certificate issued last. ``is_unfinished``: an issue was cut short, or is going on.
    """

    layout: Layout
    certificate: x509.Certificate | None = None
    crl: x509.CertificateRevocationList | None = field(default=None, repr=False)
    newest: x509.Certificate | None = None
    ends: IndexEnds = field(default_factory=IndexEnds)
    is_unfinished: bool = False
    problems: tuple[CADirectoryError, ...] = ()


def inspect(path: Path, *, now: datetime, warn: timedelta) -> Inspected:
    """Look at a CA directory as of ``now``. Unlike `CADirectory.open` it finishes nothing that a crash left.

    Takes no lock: openssl and the runbooks put whole files in place, and a row that is being appended is passed over.
    """
    found = Inspected(default_layout(path))
    try:
        layout, _ = adoption.find_layout(path)
        found = Inspected(layout)
        certificate = x509.load_pem_x509_certificate(layout.certificate.read_bytes())
    except (CADirectoryError, OSError, ValueError) as error:
        return Inspected(found.layout, problems=(_problem(error, found.layout.certificate, path),))
    ca = CADirectory(layout, certificate)
    problems: list[CADirectoryError] = []
    crl = newest = None
    ends, is_unfinished = IndexEnds(), False
    try:
        if (crl := newest_crl(ca)) is None and layout.crl.exists():
            problems.append(not_sound(f"{layout.crl} holds no CRL of this CA that can be read", path))
    except CADirectoryError as error:
        problems.append(error)
    listed = frozenset(entry.serial_number for entry in crl) if crl is not None else frozenset()
    try:
        is_unfinished = recovery.is_needed(layout)
        with layout.database.open("rb") as lines:
            ends = index_ends(lines, now=now, warn=warn, where=str(layout.database), listed=listed)
        newest = ca.newest_certificate()
    except (CADirectoryError, OSError) as error:
        problems.append(_problem(error, layout.database, path))
    return Inspected(layout, certificate, crl, newest, ends, is_unfinished, tuple(problems))


def directories_in_use(path: Path) -> tuple[Path, ...]:
    """The CA directories that whoever names ``path`` has to look after: it, those before it and those that follow.

    One that was withdrawn is left out, since nobody trusts it any more. Raises CADirectoryError.
    """
    chain = [*reversed(tuple(succession.predecessors(path))), path]
    while (follows := succession.successor(default_layout(chain[-1]))) is not None and follows.directory not in chain:
        chain.append(follows.directory)
    withdrawn = {d for d in chain if (f := succession.successor(default_layout(d))) and f.stage == "withdrawn"}
    return tuple(directory for directory in chain if directory not in withdrawn)


def _problem(error: CADirectoryError | OSError | ValueError, file: Path, path: Path) -> CADirectoryError:
    if isinstance(error, CADirectoryError):
        return error
    if isinstance(error, OSError):
        return not_sound(f"{error.filename or path}: {error.strerror}", path)
    return not_sound(f"{file} holds no certificate that can be read", path)
