"""What is there before 05 changes anything: in the CA directory, and on each host that is to have its CRL."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from mailtls_nb.hosts.address import HostAddress
from mailtls_nb.observe.own_certificate import OwnCertificate
from mailtls_nb.pki.certificates import fingerprint, is_issued_by
from mailtls_nb.pki.crl import crl_number, is_signed_by, lifetime_days, tells_of
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import Row
from mailtls_nb.pki.survey import Survey
from mailtls_nb.procedures.host_look import HostLook
from mailtls_nb.procedures.issue.observation import purposes
from mailtls_nb.procedures.revoke.wish import RevokeWish


@dataclass(frozen=True)
class OtherCA:
    """The other CA of a replacement that goes on (09-replace-ca), as far as it has issued what is asked for.

    ``signs``: it is the one that certificates come from now.
    """

    directory: CADirectory
    found: Survey
    signs: bool

    def valid(self, at: datetime) -> tuple[Row, ...]:
        """What of that is valid."""
        return tuple(row for row in self.found.asked if row.status == "V" and row.not_after > at)


@dataclass(frozen=True)
class CABefore:
    """The CA directory. ``crl`` is the newest CRL there; ``crl_problem`` says why no host may be given it.

    ``others`` are the CAs before and behind it that hosts may trust too.
    """

    directory: CADirectory
    survey: Survey
    crl: x509.CertificateRevocationList | None
    crl_problem: str = ""
    others: tuple[OtherCA, ...] = ()

    @property
    def certificate(self) -> x509.Certificate:
        return self.directory.ca_certificate


@dataclass(frozen=True)
class CrlHost:
    """One host. ``own`` are the certificates in service there, as server and as client, each file once.

    ``crl_file_is_unread``: the file of CRLFile was written after the daemon started.
    """

    address: HostAddress
    look: HostLook
    own: tuple[OwnCertificate, ...]
    crl_file_is_unread: bool = False

    @property
    def where(self) -> str:
        return str(self.address)

    def installed(self, ca: x509.Certificate) -> tuple[x509.CertificateRevocationList, ...]:
        """The CRLs of this CA that its sendmail reads: of CRLFile the first, and those of CRLPath."""
        look = self.look
        found = look.store.crl_file.crls[:1] if look.store.crl_file else ()
        if "CRLPath" in look.options:
            found += look.crl_directory.crls
        return tuple(crl for crl in found if crl.issuer == ca.subject and is_signed_by(crl, ca))

    def shown_by_clients(self, ca: x509.Certificate) -> tuple[tuple[str, x509.Certificate], ...]:
        """The certificates of this CA in service there that a client can show, each with its file, the key in it too.

        Not one for servers only: to whoever verifies a client it is verify=FAIL, whatever a CRL says.
        """
        return tuple(
            (own.path, own.certificate)
            for own in self.own
            if own.certificate is not None
            and own.path == own.key_path
            and purposes(own.certificate) in ("both", "client")
            and is_issued_by(own.certificate, ca)
        )


@dataclass(frozen=True)
class RevokeBefore:
    """Everything before the change. ``lost`` is the file of the testbed's lost key, where it is about that."""

    at: datetime
    ca: CABefore
    hosts: tuple[CrlHost, ...]
    lost: Path | None = None

    def to_revoke(self, wish: RevokeWish) -> tuple[Row, ...]:
        """The rows that the wish changes: of a host all that are valid.

        Of serials those that are not revoked yet, or for a reason that says less of the key: expired ones too, whose
        key may be known to others.
        """
        if not wish.serials:
            return tuple(row for row in self.ca.survey.asked if row.status == "V" and row.not_after > self.at)
        return tuple(
            row for row in self.ca.survey.asked if (revoked := row.revoked) is None or revoked.outdone_by(wish.reason)
        )

    @property
    def next_number(self) -> int:
        """Higher than that of every CRL that a host has: none is replaced by one with a lower number."""
        return 1 + max((crl_number(crl) or 0 for _, crl in self._installed), default=0)

    @property
    def _installed(self) -> list[tuple[CrlHost, x509.CertificateRevocationList]]:
        return [(host, crl) for host in self.hosts for crl in host.installed(self.ca.certificate)]

    def _outdone(self, crl: x509.CertificateRevocationList) -> str:
        """Which host has a newer CRL than the directory, or another with its number; empty for none.

        So it is where the directory came back from a backup, or counted anew when it was adopted.
        """
        number = crl_number(crl) or 0
        ahead = [
            (crl_number(there) or 0, host.where)
            for host, there in self._installed
            if (crl_number(there) or 0) > number or ((crl_number(there) or 0) == number and there != crl)
        ]
        highest, where = max(ahead, default=(0, ""))
        return f"{where} has {'one with ' if highest > number else 'another with '}number {highest}" if where else ""

    def reasons_to_sign(self, wish: RevokeWish) -> tuple[str, ...]:
        """Why a new CRL is needed; empty while the one in the directory says all and is fresh."""
        crl = self.ca.crl
        if self.to_revoke(wish):
            return ("it is to list what is revoked now",)
        if crl is None or crl.next_update_utc is None:
            return (self.ca.crl_problem or "there is none",)
        reasons = [self.ca.crl_problem] if self.ca.crl_problem else []
        if not tells_of(crl, self.ca.survey.revoked):
            reasons.append("it does not list what is revoked in the index")
        if outdone := self._outdone(crl):
            reasons.append(f"its number is {crl_number(crl) or 0}, and {outdone} already")
        if lifetime_days(crl) != wish.crl_days:
            reasons.append(f"it was made for {lifetime_days(crl)} days")
        elif crl.next_update_utc - self.at < (crl.next_update_utc - crl.last_update_utc) / 2:
            # So that a run a day is enough, and no run makes a new one of each.
            reasons.append("more than half of its time is over")
        return tuple(reasons)


def crl_words(crl: x509.CertificateRevocationList) -> str:
    """A CRL in one line."""
    end = f"{crl.next_update_utc:%Y-%m-%d %H:%M:%S} UTC" if crl.next_update_utc else "an end that it does not say"
    return f"number {crl_number(crl)}, {len(crl)} revoked, until {end}"


def crl_file_name(ca: x509.Certificate) -> str:
    """The name of our CRL's file on a host."""
    return f"ca-{fingerprint(ca)[:12]}.crl"
