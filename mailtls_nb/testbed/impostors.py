"""Certificates that a proof shows in the partner's place: for the partner's name, and none of them the partner's.

Their CAs and keys are made for one proof and gone after it; nobody else ever trusts them.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from mailtls_nb.apply.transaction import Transaction
from mailtls_nb.hosts.base import Host
from mailtls_nb.names import DistinguishedName
from mailtls_nb.pki.profiles import PrivateKey, ca_certificate, key_type, mail_server_certificate

_DIRECTORY = "/var/lib/mailtls-nb-impostors"
_OWNER = "root:root"
_KEY_TYPE = key_type("ec-p256", use="host")


@dataclass(frozen=True)
class Impostors:
    """Files on the partner's host, each with a certificate and its key.

    ``other_ca``: of a CA that the host trusts for the time of the proof; ``expired``: of the same CA, but past its end;
    ``unknown_ca``: of a CA that nobody trusts.
    """

    other_ca: str
    expired: str
    unknown_ca: str


@contextmanager
def impostors(partner: Host, name: str, change: Transaction, ca_path: str) -> Iterator[Impostors]:
    """Make them on the partner's host, and have the host that is changed trust the other CA for as long as this lasts.

    ``ca_path`` is the CACertPath there, which sendmail reads at each handshake. All is undone in the end, by the change
    itself where this process is killed.
    """
    now = datetime.now(UTC)
    other, unknown = _CA.make("Another CA", now), _CA.make("Unknown CA", now)
    files = Impostors(*(f"{_DIRECTORY}/{kind}.pem" for kind in ("other-ca", "expired", "unknown-ca")))
    file, link = f"{ca_path}/mailtls-nb-proof.pem", ""
    try:
        partner.run(("mkdir", "-p", "-m", "0700", _DIRECTORY), timeout_s=30).check("making a directory for a proof")
        for path, ca, since in (
            (files.other_ca, other, now),
            (files.expired, other, now - timedelta(days=10)),
            (files.unknown_ca, unknown, now),
        ):
            partner.write(path, ca.issue(name, since), mode=0o600, owner=_OWNER)
        change.write(file, other.certificate.public_bytes(Encoding.PEM), mode=0o644, owner=_OWNER)
        hashed = change.host.run(("openssl", "x509", "-hash", "-noout", "-in", file), timeout_s=30)
        # No CA that the testbed's hosts trust otherwise has such a name, and so this hash.
        link = f"{ca_path}/{hashed.check('computing the hash of a CA').text.strip()}.0"
        change.link(link, "mailtls-nb-proof.pem")
        yield files
        change.remove(link)
        change.remove(file)
    finally:
        partner.run(("rm", "-rf", _DIRECTORY), timeout_s=30)


@dataclass(frozen=True)
class _CA:
    key: PrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, name: str, now: datetime) -> _CA:
        key = _KEY_TYPE.generate()
        since = now - timedelta(days=30)
        return cls(key, ca_certificate(DistinguishedName(name), key, serial=_serial(), now=since, valid_days=60))

    def issue(self, name: str, since: datetime) -> bytes:
        """A certificate of one day from ``since``, and its key (PEM)."""
        key = _KEY_TYPE.generate()
        certificate = mail_server_certificate(
            key.public_key(),
            (name,),
            roles="both",
            issuer=self.certificate,
            issuer_key=self.key,
            serial=_serial(),
            now=since,
            valid_days=1,
        )
        private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        return certificate.public_bytes(Encoding.PEM) + private


def _serial() -> int:
    return secrets.randbits(127) | 1 << 126
