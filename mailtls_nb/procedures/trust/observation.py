"""What is there before 03 changes anything: what the partner offers and shows, and what the host trusts."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes

from mailtls_nb.observe.port25 import Presented
from mailtls_nb.pki.certificates import certificate_pem, fingerprint, is_issued_by
from mailtls_nb.procedures.host_look import HostLook


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
