"""index.txt, the database of ``openssl ca``: one certificate a row, six TAB-separated fields (openssl-ca(1)). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import datetime
from typing import Literal

from cryptography import x509

from mailtls_nb.errors import CADirectoryError
from mailtls_nb.names import openssl_dn
from mailtls_nb.pki.dates import date_text, parse_date
from mailtls_nb.pki.revocation import Revocation

Status = Literal["V", "R", "E"]
_STATUSES: dict[str, Status] = {"V": "V", "R": "R", "E": "E"}
# A TAB inside a field is written with a backslash before it (crypto/txt_db).
_FIELD_END = re.compile(r"(?<!\\)\t")
_HEX = re.compile("[0-9A-Fa-f]+")


@dataclass(frozen=True, slots=True)
class Row:
    """One certificate: V valid, R revoked, E expired.

    ``status`` is what the row says: V stays until someone runs ``openssl ca -updatedb``, whatever the date.
    ``revocation`` is empty, or ``date[,reason[,extra]]`` as it stands there. ``subject`` is OpenSSL's text, which
    cannot be taken apart again: the certificate itself lies in newcerts/SERIAL.pem.
    """

    status: Status
    not_after: datetime
    revocation: str
    serial: int
    subject: str
    file: str = "unknown"

    @property
    def revoked(self) -> Revocation | None:
        """When and why it was revoked; None for one that is not. Raises CADirectoryError."""
        if self.status != "R":
            return None
        try:
            return Revocation.parse(self.revocation)
        except ValueError as error:
            raise CADirectoryError(
                f"the row of serial {serial_text(self.serial)} in the index: {error}",
                left="nothing was changed",
                do="mend its third field by hand: DATE,REASON as in openssl-ca(1)",
            ) from error

    def line(self) -> bytes:
        """The row as openssl writes it, with its LF."""
        fields = (
            self.status,
            date_text(self.not_after),
            self.revocation,
            serial_text(self.serial),
            self.file,
            self.subject,
        )
        return "\t".join(fields).encode("utf-8", "surrogateescape") + b"\n"


def row_for(certificate: x509.Certificate) -> Row:
    """The row of a certificate just issued."""
    subject = openssl_dn(certificate.subject)
    return Row("V", certificate.not_valid_after_utc, "", certificate.serial_number, subject)


def parse_row(line: bytes, *, number: int, where: str) -> Row:
    """Read one line (with or without its LF); raises CADirectoryError naming ``where`` and the line's number."""
    text = line.decode("utf-8", "surrogateescape").rstrip("\r\n")
    fields = _FIELD_END.split(text) if "\\\t" in text else text.split("\t")
    try:
        if len(fields) != 6:
            raise ValueError(f"{len(fields)} fields instead of 6")  # noqa: TRY301
        status, not_after, revocation, serial, file, subject = fields
        return Row(_status(status), parse_date(not_after), revocation, _serial(serial), subject, file)
    except ValueError as error:
        raise CADirectoryError(
            f"{where}, line {number}: {error}",
            left="nothing was changed",
            do="compare the line with its neighbours and with index.txt.old, and mend it by hand",
        ) from error


def parse_rows(lines: Iterable[bytes], *, where: str) -> Iterator[Row]:
    """The rows of an index, in its order, one at a time; comments and blank lines are passed over."""
    for number, line in enumerate(lines, start=1):
        if line.strip() and not line.startswith(b"#"):
            yield parse_row(line, number=number, where=where)


def rows_holding(lines: Iterable[bytes], text: bytes, *, where: str) -> Iterator[Row]:
    """The rows that hold this text anywhere, in upper or lower case; no other is taken apart, nor checked."""
    text = text.upper()
    for number, line in enumerate(lines, start=1):
        if text in line.upper() and not line.startswith(b"#"):
            yield parse_row(line, number=number, where=where)


def serial_text(serial: int) -> str:
    """A serial number as openssl writes it and names files by: upper-case hex with an even number of digits."""
    digits = f"{serial:X}"
    return digits if len(digits) % 2 == 0 else f"0{digits}"


def _status(text: str) -> Status:
    try:
        return _STATUSES[text]
    except KeyError:
        raise ValueError(f"{text!r} is none of V, R, E") from None


def _serial(text: str) -> int:
    if not _HEX.fullmatch(text):
        raise ValueError(f"{text!r} is not a serial number in hex")
    return int(text, 16)
