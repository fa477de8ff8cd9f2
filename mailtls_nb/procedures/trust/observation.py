"""What is there before 03 changes anything: what the partner offers and shows, and what the host trusts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from mailtls_nb.observe.certificate_files import FileStatus
from mailtls_nb.observe.port25 import Presented
from mailtls_nb.observe.trust_store import StoreDirectory, TrustStore
from mailtls_nb.pki.certificates import certificate_pem, fingerprint, is_issued_by
from mailtls_nb.pki.hashed_directory import Entry
from mailtls_nb.sendmail.cf import options
from mailtls_nb.sendmail.layout import Layout

# CRLPath came with 8.16.1 (its RELEASE_NOTES); before, one CRL at most can be used.
_CRL_PATH_SINCE = (8, 16, 1)


@dataclass(frozen=True)
class Offered:
    """What the operator offers, checked for itself: CA certificates, and the CRLs that they signed.

    ``remarks`` are about them.
    """

    certificates: tuple[x509.Certificate, ...]
    crls: tuple[tuple[x509.Certificate, x509.CertificateRevocationList], ...] = ()
    remarks: tuple[str, ...] = ()

    @property
    def pem(self) -> bytes:
        """All CA certificates, one after the other."""
        return certificate_pem(self.certificates)


@dataclass(frozen=True)
class HostLook:
    """The host's configuration and whom it trusts.

    ``access`` is the text of its access map, which may hold passwords; empty where there is none. ``access_name`` is
    its file.
    """

    layout: Layout
    mc: bytes
    mc_status: FileStatus
    cf: bytes
    store: TrustStore
    access: bytes = field(repr=False)
    access_name: str

    @property
    def options(self) -> Mapping[str, str]:
        return options(self.cf)

    @property
    def ca_path(self) -> str:
        """The directory of hash links: the one in use, else the one that will be."""
        return self.store.ca_path.path

    @property
    def ca_file(self) -> str:
        return self.options.get("CACertFile", "")

    @property
    def is_server(self) -> bool:
        """Whether it has a certificate to do STARTTLS with as a server."""
        return "ServerCertFile" in self.options

    @property
    def knows_crl_path(self) -> bool:
        return self.layout.version >= _CRL_PATH_SINCE

    @property
    def crl_directory(self) -> StoreDirectory:
        """Where CRLs with their links lie, or will."""
        return self.store.crl_path or self.store.ca_path

    @property
    def verifies(self) -> bool:
        """Whether sendmail verifies anybody: it loads CACertFile and CACertPath only together (8.17.1, measured)."""
        return self.store.ca_file is not None and "CACertPath" in self.options

    @property
    def trusted(self) -> tuple[x509.Certificate, ...]:
        """The CA certificates that sendmail trusts."""
        return self.store.trusted if self.verifies else ()

    def missing(self, offered: Offered) -> tuple[x509.Certificate, ...]:
        """The certificates offered that sendmail does not trust yet."""
        return tuple(certificate for certificate in offered.certificates if certificate not in self.trusted)

    def entries_of(self, certificate: x509.Certificate) -> tuple[Entry, ...]:
        """Every name in the directory that leads to this certificate, whether OpenSSL finds it or not."""
        return tuple(entry for entry in self.store.ca_path.entries if certificate in entry.certificates)

    def hash_of(self, offered: Offered, certificate: x509.Certificate) -> str:
        """The hash of its name by the host's OpenSSL."""
        return self.store.hashes[offered.certificates.index(certificate)].current


@dataclass(frozen=True)
class Seen:
    """What the partner and the host are to each other at one moment.

    ``presented`` is what the partner's port 25 shows to the host, verified by the CAs that its sendmail trusts.
    ``in_store`` and ``own_in_store`` say, by those CAs, of the CA offered and of the host's own certificate: OK, or
    the reason why not; the latter is empty where there is none. ``as_client`` and ``as_server`` are what the host's
    sendmail logged for a message to the partner and one from it (``verify=OK``); empty where none was sent.
    """

    presented: Presented
    in_store: str
    own_in_store: str = ""
    as_client: str = ""
    as_server: str = ""

    @property
    def verifies(self) -> bool:
        """Whether the chain shown on port 25 leads to a CA that the host trusts."""
        return self.presented.verified.startswith("0 ")


@dataclass(frozen=True)
class TrustBefore:
    """Everything before the change.

    ``leads`` says of the chain shown on the partner's port 25 whether it leads to the CA offered: OK, or why not; empty
    where no chain was shown.
    """

    at: datetime
    offered: Offered
    host: HostLook
    seen: Seen
    leads: str

    @property
    def shown_by_partner(self) -> x509.Certificate | None:
        """The certificate that the partner's server shows."""
        return self.seen.presented.chain[0] if self.seen.presented.chain else None

    @property
    def revoked(self) -> bool:
        """Whether the CRL offered revokes the certificate that the partner shows."""
        shown = self.shown_by_partner
        return shown is not None and any(
            is_issued_by(shown, ca) and crl.get_revoked_certificate_by_serial_number(shown.serial_number) is not None
            for ca, crl in self.offered.crls
        )


def offered_fingerprints(offered: Offered) -> str:
    """What the plan rests on: all fingerprints, and the digests of the CRLs."""
    digests = [fingerprint(certificate) for certificate in offered.certificates]
    digests += [crl.fingerprint(hashes.SHA256()).hex() for _, crl in offered.crls]
    return ",".join(digests)
