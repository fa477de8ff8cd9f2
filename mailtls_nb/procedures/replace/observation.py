"""What is there before 09 changes anything: both CAs, and each host with whom it trusts and what it shows."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509

from mailtls_nb.hosts.address import HostAddress
from mailtls_nb.observe.own_certificate import OwnCertificate
from mailtls_nb.pki.certificates import is_issued_by
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.succession import Succession
from mailtls_nb.procedures.host_look import HostLook
from mailtls_nb.procedures.issue.observation import HostBefore
from mailtls_nb.procedures.issue.wish import IssueWish
from mailtls_nb.procedures.replace.wish import Stage
from mailtls_nb.sendmail.access.block import managed_groups

# The name of a partner's CA certificate on a host, as 03 writes it.
_PARTNER_FILE = re.compile(r"partner-(?P<partner>.+)-[0-9a-f]{12}\.pem")


@dataclass(frozen=True)
class Showing:
    """A certificate of one of both CAs in service on a host, and what 02 is to make of it by the other CA."""

    certificate: x509.Certificate
    wish: IssueWish
    before: HostBefore


@dataclass(frozen=True)
class OurHost:
    """One of our mail servers. ``own`` are the certificates in service there, each file once.

    ``ca_file_content`` is what CACertFile holds, a file that 02 has written: no key is in it.
    """

    address: HostAddress
    look: HostLook
    own: tuple[OwnCertificate, ...]
    ca_file_content: bytes
    to_reissue: tuple[Showing, ...] = ()

    @property
    def where(self) -> str:
        return str(self.address)

    def shows_one_of(self, ca: x509.Certificate) -> bool:
        """Whether it has a certificate of this CA in service."""
        return any(own.certificate is not None and is_issued_by(own.certificate, ca) for own in self.own)

    def trusts(self, ca: x509.Certificate) -> bool:
        """Whether its sendmail trusts this CA by the file of CACertFile."""
        found = self.look.store.ca_file
        return found is not None and ca in found.certificates

    @property
    def partners(self) -> frozenset[str]:
        """The partners that this host knows by 03 (their CAs) and 04 (their rules)."""
        files = (file.path.rpartition("/")[2] for file in self.look.store.ca_path.written_files)
        by_file = {match["partner"] for name in files if (match := _PARTNER_FILE.fullmatch(name))}
        return frozenset({*by_file, *managed_groups(self.look.access, name=self.look.access_name)})


@dataclass(frozen=True)
class ReplaceBefore:
    """Everything before the change. ``new`` is None where the new CA is still to be made, at ``new_path``.

    ``cross`` is the new CA's certificate by the old one; ``succession`` how far the change has come. ``still_old`` are
    host names that valid certificates of the old CA are for, and none of the new one's. ``new_crl_is_good``: the new CA
    has a CRL that is in date and lists all that it has revoked.
    """

    at: datetime
    old: CADirectory
    new: CADirectory | None
    new_path: Path
    cross: x509.Certificate | None
    succession: Succession | None
    hosts: tuple[OurHost, ...]
    still_old: tuple[str, ...] = ()
    new_crl_is_good: bool = False

    @property
    def stage(self) -> Stage | None:
        """How far it has come, in the words of the parameter; None before the first stage."""
        if self.succession is None:
            return None
        return "withdraw" if self.succession.stage == "withdrawn" else self.succession.stage

    @property
    def partners(self) -> tuple[str, ...]:
        """Every partner that one of our hosts knows."""
        return tuple(sorted(frozenset().union(*(host.partners for host in self.hosts))))
