"""What `ca_directory.py` measures, each in a process of its own: `ca_directory_work.py WHAT DIR [ROWS]`."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mailtls_nb.names import DistinguishedName
from mailtls_nb.pki import revoking
from mailtls_nb.pki.cures import Cures
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import Row, row_for, serial_text
from mailtls_nb.pki.index_changes import IndexChange
from mailtls_nb.pki.lint import lint
from mailtls_nb.pki.mending import look
from mailtls_nb.pki.profiles import key_type, mail_server_certificate
from mailtls_nb.pki.revocation import Revocation
from mailtls_nb.secret import Secret

NOW = datetime.now(UTC).replace(microsecond=0)
PASSPHRASE = Secret(os.environb[b"PASS"])
WITH_CERTIFICATES = 2_000


def make_ca(path: Path) -> CADirectory:
    name, kind = DistinguishedName("Bench CA"), key_type("ec-p256", use="ca")
    return CADirectory.create(path, name, kind, valid_days=3650, passphrase=PASSPHRASE, now=NOW)


def rows(count: int, *, revoked: int, expired: int) -> Iterator[Row]:
    """The oldest are revoked, as far as ``revoked`` goes; of the others, one in ``expired`` has (0: none)."""
    chance = random.Random(count)
    text = Revocation.of(NOW - timedelta(days=30), "superseded").text
    for number in range(count):
        end = NOW + timedelta(days=chance.randrange(1, 400), seconds=chance.randrange(86400))
        if number >= revoked and expired and number % expired == 0:
            end -= timedelta(days=500)
        of_it = ("R", end, text) if number < revoked else ("E" if end < NOW else "V", end, "")
        yield Row(*of_it, chance.getrandbits(159) | 1 << 158, f"/CN=mx{number}.example.test")  # type: ignore[arg-type]


def write_index(ca: CADirectory, count: int, *, revoked: int, files: bool) -> None:
    """With ``files``, newcerts has one of each row: real ones for the newest, which are looked at, and empty ones."""
    key, issuer_key = ec.generate_private_key(ec.SECP256R1()).public_key(), ca.signing_key(PASSPHRASE)
    with ca.layout.database.open("wb", buffering=1 << 20) as index:
        for number, row in enumerate(rows(count, revoked=revoked, expired=10 if files else 0)):
            pem = b""
            if files and count - number <= WITH_CERTIFICATES:
                certificate = mail_server_certificate(
                    key,
                    (f"mx{number}.example.test",),
                    roles="both",
                    issuer=ca.ca_certificate,
                    issuer_key=issuer_key,
                    serial=row.serial,
                    now=NOW,
                    valid_days=90,
                )
                row, pem = row_for(certificate), certificate.public_bytes(Encoding.PEM)
            index.write(row.line())
            if files:
                (ca.layout.new_certificates / f"{serial_text(row.serial)}.pem").write_bytes(pem)


def work(what: str, path: Path, *numbers: int) -> None:
    if what == "make":
        count, revoked, files = numbers
        write_index(make_ca(path), count, revoked=revoked, files=bool(files))
        return
    ca = CADirectory.open(path)
    if what == "list":
        print(sum(row.status == "V" and row.not_after > NOW for row in ca.rows()), "valid")
    elif what == "lint":
        print(", ".join(problem.name for problem in lint(ca.layout, now=NOW)) or "no problem")
    elif what == "look":
        _, cures = look(ca.layout, "/CN=mx1.example.test", now=NOW)
        print("cures" if cures != Cures(where=str(ca.layout.database)) else "nothing to cure")
    elif what == "update":
        print(len(revoking.update_index(ca, now=NOW + timedelta(days=100))), "expired")
    elif what == "crl":
        crl = revoking.sign_new_crl(ca, days=30, passphrase=PASSPHRASE, now=NOW)
        print(len(crl), "entries")
    elif what == "revoke":
        serials = [row.serial for row in ca.rows() if row.status == "V"]
        change = IndexChange(revoke=dict.fromkeys(serials, Revocation.of(NOW, "superseded")))
        crl = revoking.sign_new_crl(ca, days=30, passphrase=PASSPHRASE, now=NOW, change=change)
        print(len(serials), "revoked,", len(crl), "entries")


if __name__ == "__main__":
    work(sys.argv[1], Path(sys.argv[2]), *map(int, sys.argv[3:]))
