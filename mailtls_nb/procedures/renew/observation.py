"""What is in service on the host before 06 changes anything, and what the CA says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509

from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.procedures.issue.observation import HostBefore
from mailtls_nb.procedures.issue.wish import IssueWish
from mailtls_nb.sendmail.layout import Layout


@dataclass(frozen=True)
class InService:
    """A certificate of our CA in service, or of one that it followed: ``wish`` is what 02 is to make of it.

    ``before`` is the host as 02 sees it for this file; ``reason`` says why it is renewed now, empty when it is not.
    """

    certificate: x509.Certificate
    issuer: CADirectory
    reason: str
    wish: IssueWish
    before: HostBefore

    @property
    def is_due(self) -> bool:
        return bool(self.reason)

    def left(self, now: datetime) -> timedelta:
        return self.certificate.not_valid_after_utc - now


@dataclass(frozen=True)
class Superseded:
    """Valid certificates of one CA directory that others have taken the place of, or are to.

    ``crl_days``: the lifetime of the CRL that is signed of it anew, 0 where none is.
    """

    directory: CADirectory
    serials: tuple[int, ...]
    crl_days: int


@dataclass(frozen=True)
class RenewBefore:
    """The host before the change; ``in_service`` is empty where an interrupted run has to be undone first.

    ``left_alone`` are sentences about certificates in service that this run is not about.
    """

    at: datetime
    layout: Layout
    signer: CADirectory
    in_service: tuple[InService, ...] = ()
    left_alone: tuple[str, ...] = ()
    superseded: tuple[Superseded, ...] = ()

    @property
    def due(self) -> tuple[InService, ...]:
        return tuple(serving for serving in self.in_service if serving.is_due)


def files_in_service(options: Mapping[str, str]) -> dict[tuple[str, str], str]:
    """The certificates that a sendmail.cf names, with their keys (paths): for ``both``, ``server`` or ``client``."""
    named = {
        role: (options[f"{option}CertFile"], options.get(f"{option}KeyFile", ""))
        for role, option in (("server", "Server"), ("client", "Client"))
        if options.get(f"{option}CertFile")
    }
    if len(named) == 2 and len(set(named.values())) == 1:
        return {named["server"]: "both"}
    return {files: role for role, files in named.items()}
