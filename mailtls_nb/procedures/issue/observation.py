"""What is there before 02 changes anything: on the host, on its port 25, and in the CA directory."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mailtls_nb.errors import CADirectoryError
from mailtls_nb.observe.certificate_files import CertificateFiles, FileStatus
from mailtls_nb.observe.port25 import Presented
from mailtls_nb.pki.certificates import dns_names, extended_key_usage, is_issued_by
from mailtls_nb.pki.cross_signing import Transition
from mailtls_nb.pki.cures import Cures
from mailtls_nb.pki.profiles import BACKDATED, key_word
from mailtls_nb.procedures.issue.wish import IssueWish, whole_days
from mailtls_nb.sendmail.cf import options
from mailtls_nb.sendmail.layout import Layout
from mailtls_nb.sendmail.mc import managed_settings, tls_settings


@dataclass(frozen=True)
class SignerBefore:
    """The certificates that the host will trust as its own CA, our CA's first.

    ``installed_status`` is what the CA's index says of the certificate now installed (``V``, ``R``, ``E``, empty);
    ``cures`` what the index needs before anything is signed, or why that cannot be told. ``transition``: our CA takes
    the place of another, which the host is to trust as well.
    """

    certificates: tuple[x509.Certificate, ...]
    installed_status: str
    remarks: tuple[str, ...] = ()
    cures: Cures | CADirectoryError = field(default_factory=Cures)
    transition: Transition | None = None


@dataclass(frozen=True)
class HostBefore:
    """One host before the change.

    ``trusted_elsewhere`` are the CA certificates (PEM) of the file in use, where that is not the one we write;
    ``logged`` says whether the host's mail log told of the connection that ``presented`` was seen on; ``wanted`` is
    the certificate that a CA elsewhere sent back.
    """

    at: datetime
    layout: Layout
    files: CertificateFiles
    mc: bytes
    mc_status: FileStatus
    cf: bytes
    trusted_elsewhere: bytes
    presented: Presented
    logged: bool
    signer: SignerBefore
    wanted: x509.Certificate | None = None

    def wished_settings(self, wish: IssueWish) -> dict[str, str]:
        """The managed settings after the change.

        Those of a role that this run is not about stay as they are, and so does the directory of hash links in use:
        partners' CAs may be trusted by it.
        """
        wished = tls_settings(
            roles=wish.roles,
            certificate=wish.certificate_path,
            ca_certificate=wish.ca_certificate_path,
            ca_path=options(self.cf).get("CACertPath") or wish.cert_dir,
        )
        return (managed_settings(self.mc, name=self.layout.mc) or {}) | wished


def reasons_to_issue(wish: IssueWish, before: HostBefore) -> tuple[str, ...]:
    """Why the certificate on the host is not the one wished for; empty when it is."""
    installed = before.files.certificate
    if installed is None:
        return ("there is none",)
    reasons = []
    if not before.files.key_matches:
        reasons.append("its private key does not belong to it")
    if wish.way == "external":
        return (*reasons, *(() if installed == before.wanted else ("it is not the one that was sent back",)))
    if not any(is_issued_by(installed, issuer) for issuer in before.signer.certificates):
        reasons.append("it was issued by another CA")
    elif before.signer.installed_status not in ("V", ""):
        reasons.append("the CA has revoked it" if before.signer.installed_status == "R" else "the CA says it expired")
    if set(dns_names(installed)) != set(wish.names):
        reasons.append(f"its names are {', '.join(dns_names(installed)) or 'none'}")
    if purposes(installed) != wish.roles:
        reasons.append(f"it is for the roles {purposes(installed) or 'of no mail server'}")
    if key_word(installed.public_key()) != wish.key_type.word:
        reasons.append(f"its key is {key_word(installed.public_key())}")
    if not is_made_for(wish, installed):
        reasons.append(f"it was made for {lifetime_days(installed)} days")
    if not installed.not_valid_before_utc <= before.at <= installed.not_valid_after_utc:
        reasons.append("it is not valid today")
    if wish.renewal is not None and installed == wish.renewal.replaces:
        reasons.append(wish.renewal.reason)
    return tuple(dict.fromkeys(reasons))


def purposes(certificate: x509.Certificate) -> str:
    """``both``, ``server`` or ``client`` by the certificate's extended key usage; empty when it has neither."""
    usage = extended_key_usage(certificate)
    if usage is None:
        return "both"
    server, client = ExtendedKeyUsageOID.SERVER_AUTH in usage, ExtendedKeyUsageOID.CLIENT_AUTH in usage
    return "both" if server and client else "server" if server else "client" if client else ""


def is_made_for(wish: IssueWish, certificate: x509.Certificate) -> bool:
    """Whether a certificate has the lifetime that is wished for, whenever it was made."""
    if lifetime_days(certificate) == wish.valid_days:
        return True
    # Made for whole days, it ends within the CA's last one.
    return wish.ca_end is not None and whole_days(certificate.not_valid_after_utc, wish.ca_end) == 0


def lifetime_days(certificate: x509.Certificate) -> int:
    """The whole days that the certificate was made for (it starts a little before it was made)."""
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    return (lifetime - min(lifetime % timedelta(days=1), BACKDATED)) // timedelta(days=1)
