"""One pass over a CA's index for all that a revocation needs to know; changes nothing."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime

from mailtls_nb.names import openssl_dn
from mailtls_nb.pki.certificates import dns_names, is_ca, names_of
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import Row, parse_row
from mailtls_nb.pki.index_scan import plain_row


@dataclass
class Survey:
    """What was found: the rows asked for, all rows that are revoked, and the newest of the others.

    ``newest`` is neither revoked nor ended, or None. ``named`` says of each row asked for by which names its
    certificate goes; only its subject where the file is gone.
    """

    asked: list[Row] = field(default_factory=list)
    named: dict[int, tuple[str, ...]] = field(default_factory=dict)
    revoked: list[Row] = field(default_factory=list)
    newest: Row | None = None


def survey(ca: CADirectory, *, serials: Collection[int] = (), hostname: str = "", now: datetime) -> Survey:
    """Look for certificates by serial number, or for all that name a host. Raises CADirectoryError.

    Of a host's certificates those that are valid are found by every name in them, so each valid one is read; those that
    are revoked or expired, or whose file is gone, by their common name.
    """
    found = Survey()
    wanted = frozenset(serials)
    common_name = _common_name(hostname)
    newest = b"", 0
    with ca.layout.database.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.startswith(b"#"):
                continue
            # What is not sure to be as openssl writes it is looked at more closely.
            if (plain := plain_row(line)) is not None:
                status, _, serial, subject = plain
                may_name_it = bool(hostname) and (status == b"V" or common_name.search(subject) is not None)
                if status != b"R" and serial not in wanted and not may_name_it:
                    newest = (line, number) if status == b"V" else newest
                    continue
            row = parse_row(line, number=number, where=str(ca.layout.database))
            if row.status == "R":
                found.revoked.append(row)
            if row.serial in wanted or (hostname and _names_host(ca, row, hostname, common_name, now)):
                found.asked.append(row)
                found.named[row.serial] = _names(ca, row)
            elif row.status == "V":
                newest = line, number
    if newest[1]:
        row = parse_row(newest[0], number=newest[1], where=str(ca.layout.database))
        found.newest = row if row.not_after > now else None
    return found


def _common_name(hostname: str) -> re.Pattern[bytes]:
    """Finds the host's name in a subject as openssl writes it: ``/CN=host``, whatever follows it."""
    return re.compile(rb"(?<!\\)[/+]CN=" + re.escape(hostname.encode()) + rb"([/+]|$)", re.IGNORECASE)


def _names_host(ca: CADirectory, row: Row, hostname: str, common_name: re.Pattern[bytes], now: datetime) -> bool:
    if row.status == "V" and row.not_after > now:
        certificate = ca.certificate_for_serial(row.serial)
        if certificate is not None:
            return not is_ca(certificate) and hostname.lower() in names_of(certificate)
    return common_name.search(row.subject.encode("utf-8", "surrogateescape")) is not None


def _names(ca: CADirectory, row: Row) -> tuple[str, ...]:
    certificate = ca.certificate_for_serial(row.serial)
    if certificate is None:
        return (row.subject,)
    return dns_names(certificate) or (openssl_dn(certificate.subject),)
