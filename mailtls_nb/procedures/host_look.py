"""A host's configuration and whom its sendmail trusts, as every runbook needs it that changes either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from cryptography import x509

from mailtls_nb.errors import NotReady
from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.certificate_files import FileStatus, file_status
from mailtls_nb.observe.layout import observe_layout
from mailtls_nb.observe.needed_file import needed_file
from mailtls_nb.observe.trust_store import StoreDirectory, TrustStore, observe_trust_store
from mailtls_nb.pki.hashed_directory import Entry
from mailtls_nb.sendmail.cf import access_database, options
from mailtls_nb.sendmail.layout import Layout

# CRLPath came with 8.16.1 (its RELEASE_NOTES); before, one CRL at most can be used.
_CRL_PATH_SINCE = (8, 16, 1)


@dataclass(frozen=True)
class HostLook:
    """The host's configuration and whom it trusts.

    ``access`` is the text of its access map, which may hold passwords; empty where there is none. ``access_name`` is
    its file. ``asked`` are the certificates whose hashes the host was asked for.
    """

    layout: Layout
    mc: bytes
    mc_status: FileStatus
    cf: bytes
    store: TrustStore
    access: bytes = field(repr=False)
    access_name: str
    asked: tuple[x509.Certificate, ...] = ()

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

    def missing(self, certificates: Sequence[x509.Certificate]) -> tuple[x509.Certificate, ...]:
        """Those of the certificates that sendmail does not trust yet."""
        return tuple(certificate for certificate in certificates if certificate not in self.trusted)

    def entries_of(self, certificate: x509.Certificate) -> tuple[Entry, ...]:
        """Every name in the directory that leads to this certificate, whether OpenSSL finds it or not."""
        return tuple(entry for entry in self.store.ca_path.entries if certificate in entry.certificates)

    def hash_of(self, certificate: x509.Certificate) -> str:
        """The hash of its name by the host's OpenSSL: of one that the host was asked about."""
        return self.store.hashes[self.asked.index(certificate)].current


def look_at_host(host: Host, asked: Sequence[x509.Certificate]) -> HostLook:
    """Read it all; changes nothing. ``asked`` are certificates whose hashes are to be known. Raises NotReady."""
    layout = observe_layout(host)
    mc, cf = needed_file(host, layout.mc), needed_file(host, layout.cf)
    mc_status = file_status(host, layout.mc)
    if mc_status is None:
        raise NotReady(f"{host.name}: {layout.mc} cannot be looked at", left="nothing was touched")
    set_there = options(cf)
    store = observe_trust_store(
        host,
        ca_path=_absolute(host, "CACertPath", set_there.get("CACertPath", "")) or layout.cert_dir,
        ca_file=set_there.get("CACertFile", ""),
        crl_path=_absolute(host, "CRLPath", set_there.get("CRLPath", "")),
        crl_file=set_there.get("CRLFile", ""),
        own=set_there.get("ServerCertFile", "") or set_there.get("ClientCertFile", ""),
        offered=asked,
    )
    return HostLook(layout, mc, mc_status, cf, store, *_access(host, cf), tuple(asked))


def _absolute(host: Host, option: str, path: str) -> str:
    if path and not path.startswith("/"):
        raise NotReady(
            f"{host.name}: {option} in sendmail.cf is {path!r}, which is no whole path",
            left="nothing was touched",
            do=f"set {option} to a path that starts with /",
        )
    return path.rstrip("/") if path != "/" else path


def _access(host: Host, cf: bytes) -> tuple[bytes, str]:
    """The text of the access map, and its file; a map of another kind than makemap's has none."""
    database = access_database(cf)
    if database is None or not database.made_by_makemap:
        return b"", ""
    return host.read(database.text) or b"", database.text
