"""Certificates that were made long ago, put into service by other hands than the runbooks': so that they are due."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key

from mailtls_nb.names import DistinguishedName
from mailtls_nb.pki import revoking
from mailtls_nb.pki.certificates import dns_names
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.profiles import Roles, key_type
from mailtls_nb.procedures.issue.observation import lifetime_days
from mailtls_nb.secret import Secret
from tests.procedures.conftest import Machine

# $1: the file with certificate and key. The new certificate comes on standard input; the daemon reads it after.
_EXCHANGE = r"""
umask 077
{ cat; sed -n '/PRIVATE KEY/,/PRIVATE KEY/p' "$1"; } >/root/exchanged.pem && mv /root/exchanged.pem "$1"
kill -HUP `sed -n 1p /run/sendmail/mta/sendmail.pid`
"""
# $1: the mail server. Waits until it shows the serial $2, or any where that is empty.
_SERIAL = r"""
for i in `seq 60`; do
    serial=`printf 'QUIT\r\n' | openssl s_client -connect "$1:25" -starttls smtp 2>/dev/null |
        openssl x509 -noout -serial 2>/dev/null`
    case $serial in serial=?*) [ -z "$2" ] || [ "$serial" = "serial=$2" ] && break;; esac
    sleep 0.25
done
echo "$serial"
"""


def old_ca(
    path: Path, passphrase: Secret, *, name: str = "Example Mail CA", days_ago: int = 700, valid_days: int = 3650
) -> CADirectory:
    """A CA that was made so many days ago."""
    return CADirectory.create(
        path,
        DistinguishedName(name),
        key_type("ec-p256", use="ca"),
        valid_days=valid_days,
        passphrase=passphrase,
        now=datetime.now(UTC) - timedelta(days=days_ago),
    )


def serial_on_port(seen_from: Machine, hostname: str, expected: int | None = None) -> int:
    """The serial that openssl is shown on port 25; ``expected`` is waited for."""
    return int(seen_from.sh(_SERIAL, hostname, _hex(expected) if expected else "").strip().removeprefix("serial="), 16)


def _hex(serial: int) -> str:
    digits = f"{serial:X}"
    return digits.zfill(len(digits) + len(digits) % 2)


@dataclass(frozen=True)
class Installed:
    """A file with certificate and key on a machine, as its own openssl reads it."""

    machine: Machine
    path: str

    @property
    def certificate(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.machine.sh(f"openssl x509 -in {self.path}").encode())

    @property
    def serial(self) -> int:
        return self.certificate.serial_number

    @property
    def public_key(self) -> bytes:
        """Of the private key in the file, as PEM."""
        return self.machine.sh(f"openssl pkey -in {self.path} -pubout").encode()

    def age(self, ca: CADirectory, passphrase: Secret, days: int, **others: int) -> int:
        """Exchange the certificate for one like it that was made ``days`` ago; returns its serial.

        The one exchanged is revoked: it was never meant to be.
        """
        there = self.certificate
        roles: Roles = "server" if "-server" in self.path else "client" if "-client" in self.path else "both"
        certificate = ca.issue(
            load_pem_public_key(self.public_key),  # type: ignore[arg-type]
            dns_names(there),
            roles=roles,
            valid_days=others.get("valid_days", lifetime_days(there)),
            passphrase=passphrase,
            now=datetime.now(UTC) - timedelta(days=days),
        )
        revoking.revoke(ca, [there.serial_number], "superseded", now=datetime.now(UTC))
        self.machine.sh(_EXCHANGE, self.path, stdin=certificate.public_bytes(Encoding.PEM).decode())
        return certificate.serial_number


def statuses(ca: CADirectory) -> dict[int, str]:
    """Of each serial in index.txt: its status, with the reason where it is revoked."""
    rows = re.findall(r"^(\w)\t\w+\t([^\t]*)\t(\w+)\t", ca.layout.database.read_text(), re.MULTILINE)
    return {int(serial, 16): f"{status}{revocation.partition(',')[2]}" for status, revocation, serial in rows}
