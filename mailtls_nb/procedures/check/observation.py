"""What 07 saw of a host."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from cryptography import x509

from mailtls_nb.finding import Finding
from mailtls_nb.observe.clock import Clock
from mailtls_nb.observe.own_certificate import OwnCertificate, Role
from mailtls_nb.observe.port25 import Presented
from mailtls_nb.observe.trust_store import StoreDirectory, TrustStore
from mailtls_nb.pki.certificates import is_issued_by
from mailtls_nb.pki.inspection import Inspected
from mailtls_nb.sendmail.cf import AccessDatabase
from mailtls_nb.sendmail.layout import Layout


@dataclass(frozen=True)
class AccessLook:
    """The access map: ``text`` is None where its file is missing; ``problem`` says why makemap would not take it.

    ``in_service``: the database is there; ``is_current``: it holds what the text says. ``addresses`` and
    ``reverse_names`` are what the host's resolver says of the names and addresses that have rules.
    """

    database: AccessDatabase
    text: bytes | None = field(repr=False)
    problem: str = ""
    in_service: bool = True
    is_current: bool = True
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reverse_names: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class CALook:
    """A CA directory of this machine; ``further`` is what was found in it beyond what ``directory`` tells."""

    directory: Inspected
    further: tuple[Finding, ...] = ()


@dataclass(frozen=True)
class CheckBefore:
    """One host as it is.

    ``options`` are those of its sendmail.cf. ``own`` holds the certificate of each role that is configured.
    ``greeting`` is what the server said first where it offered no STARTTLS. ``access`` is None without
    FEATURE(access_db). ``clocks`` are those of the host and, where that is another machine, of the probe; ``cas`` are
    the CA directories that were to be looked at too.
    """

    at: datetime
    layout: Layout
    options: Mapping[str, str]
    own: Mapping[Role, OwnCertificate]
    store: TrustStore
    presented: Presented
    greeting: str
    access: AccessLook | None
    clocks: tuple[Clock, ...] = ()
    cas: tuple[CALook, ...] = ()

    @property
    def trusted(self) -> tuple[tuple[str, x509.Certificate], ...]:
        """The CA certificates in the file and the directory that sendmail is told to trust, with where each lies."""
        ca_file = self.store.ca_file
        found = [(ca_file.path, certificate) for certificate in ca_file.certificates] if ca_file else []
        if "CACertPath" in self.options:
            path = self.store.ca_path.path
            found += [(path, c) for c in self.store.ca_path.trusted if all(c != other for _, other in found)]
        return tuple(found)

    @property
    def our_cas(self) -> tuple[x509.Certificate, ...]:
        """The CAs that are ours: those that this host's own certificates lead up to, and those looked at here."""
        found = [ca.directory.certificate for ca in self.cas if ca.directory.certificate is not None]
        below = [own.certificate for own in self.own.values() if own.certificate is not None] + found
        while below:
            signers = [c for _, c in self.trusted if any(is_issued_by(certificate, c) for certificate in below)]
            below = [c for c in dict.fromkeys(signers) if c not in found]
            found += below
        return tuple(found)

    @property
    def hash_directories(self) -> tuple[StoreDirectory, ...]:
        """The directories of hash links in use, each once."""
        named = ((self.store.ca_path, "CACertPath"), (self.store.crl_path, "CRLPath"))
        used = [directory for directory, option in named if directory is not None and option in self.options]
        return tuple({directory.path: directory for directory in used}.values())

    @property
    def crls(self) -> Iterator[tuple[str, x509.CertificateRevocationList]]:
        """The CRLs that count, with where each lies: of several in CRLFile only the first is read."""
        if self.store.crl_file is not None:
            yield from ((self.store.crl_file.path, crl) for crl in self.store.crl_file.crls[:1])
        if "CRLPath" in self.options and self.store.crl_path is not None:
            yield from ((self.store.crl_path.path, crl) for crl in self.store.crl_path.crls)
