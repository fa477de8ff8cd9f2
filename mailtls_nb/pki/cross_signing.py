"""The cross-signed certificate of a CA that follows another: issued by the old one, kept in the new one's directory."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from cryptography import x509

from mailtls_nb import durable
from mailtls_nb.errors import CADirectoryError
from mailtls_nb.pki.certificates import certificate_pem, is_ca, is_issued_by, key_info
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.succession import predecessor, successor
from mailtls_nb.pki.transition_pack import CROSS_FILE
from mailtls_nb.secret import Secret


def cross_of(old: CADirectory, new: CADirectory, *, now: datetime) -> x509.Certificate | None:
    """The new CA's certificate by the old one, as it lies in its directory or in the old one's newcerts.

    None where there is none in date. Raises CADirectoryError.
    """
    wanted = key_info(new.ca_certificate.public_key())
    for certificate in (*_kept(new), *old.find(new.ca_certificate.public_key(), now=now)):
        is_its = is_ca(certificate) and key_info(certificate.public_key()) == wanted
        if is_its and is_issued_by(certificate, old.ca_certificate) and certificate.not_valid_after_utc > now:
            return certificate
    return None


def cross_sign(old: CADirectory, new: CADirectory, *, passphrase: Secret | None, now: datetime) -> x509.Certificate:
    """Have the old CA certify the new one, and keep that in the new one's directory. One that is there is taken.

    Raises BadParameter(ca_passphrase), NotReady where the old CA may certify no CA, and CADirectoryError.
    """
    certificate = cross_of(old, new, now=now) or old.certify_successor(
        new.ca_certificate, passphrase=passphrase, now=now
    )
    path = new.path / CROSS_FILE
    try:
        durable.write(path, certificate_pem((certificate,)), mode=0o644)
    except OSError as error:
        raise CADirectoryError(
            f"{path}: {error.strerror}",
            left=f"{old.path} has certified the new CA, which the next run finds",
            do=f"make {new.path} writable, with space left, and run again",
        ) from error
    return certificate


def _kept(new: CADirectory) -> tuple[x509.Certificate, ...]:
    try:
        return (x509.load_pem_x509_certificate((new.path / CROSS_FILE).read_bytes()),)
    except (FileNotFoundError, ValueError):
        return ()


@dataclass(frozen=True)
class Transition:
    """What belongs to a CA as long as it takes the place of another: the old CA, and the certificate by it."""

    old: x509.Certificate
    cross: x509.Certificate | None


def transition(new: CADirectory, *, now: datetime) -> Transition | None:
    """The change by which this CA takes the place of another, until that one is withdrawn; else None.

    Raises CADirectoryError.
    """
    path = predecessor(new.layout)
    if path is None or not path.is_dir():
        return None
    old = CADirectory.open(path)
    follows = successor(old.layout)
    if follows is None or follows.directory != new.path or follows.stage == "withdrawn":
        return None
    return Transition(old.ca_certificate, cross_of(old, new, now=now))
