"""The CA directory: made, opened or adopted, and issuing from it. An `openssl ca` directory at every moment."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from mailtls_nb.errors import BadParameter, CADirectoryError, NotReady
from mailtls_nb.locking import locked, locked_directory
from mailtls_nb.names import DistinguishedName, openssl_dn
from mailtls_nb.pki import adoption, cakey, compromised, creation, cross, profiles, recovery
from mailtls_nb.pki.adoption import not_sound
from mailtls_nb.pki.certificates import is_ca, key_info, names_of
from mailtls_nb.pki.configuration import Layout
from mailtls_nb.pki.index import Row, parse_rows, row_for, serial_text
from mailtls_nb.pki.profiles import KeyType, PrivateKey, Roles
from mailtls_nb.secret import Secret

_WAIT_S = 30.0
# About 2,000 rows: what `find` looks at.
_TAIL_OCTETS = 256 * 1024


@dataclass(frozen=True)
class CADirectory:
    """A CA directory as it was found. ``remarks`` are what its operator should know, one sentence each."""

    layout: Layout
    ca_certificate: x509.Certificate
    remarks: tuple[str, ...] = ()

    @classmethod
    def create(
        cls,
        path: Path,
        name: DistinguishedName,
        key_type: KeyType,
        *,
        valid_days: int,
        name_constraints: tuple[str, ...] = (),
        passphrase: Secret,
        now: datetime,
    ) -> CADirectory:
        """Make a CA, or open the one that `existing` finds. Raises as `existing`, BadParameter, CADirectoryError."""
        if found := cls.existing(path, name, key_type, name_constraints):
            return found
        cakey.check_passphrase(passphrase)
        key = key_type.generate()
        certificate = profiles.ca_certificate(
            name,
            key,
            serial=x509.random_serial_number(),
            now=now,
            valid_days=valid_days,
            name_constraints=name_constraints,
        )
        try:
            with locked_directory(path.parent, wait_s=_WAIT_S, error=CADirectoryError):
                # Another process may have been quicker.
                if found := cls.existing(path, name, key_type, name_constraints):
                    return found
                creation.build(path, certificate, key, passphrase, first_serial=x509.random_serial_number())
        except OSError as error:
            raise CADirectoryError(
                f"{path} cannot be made: {error.strerror}",
                left="nothing was made",
                do=f"make {path.parent} writable, with space left, and run again",
            ) from error
        return cls.open(path)

    @classmethod
    def existing(
        cls, path: Path, name: DistinguishedName, key_type: KeyType, name_constraints: tuple[str, ...] = ()
    ) -> CADirectory | None:
        """The CA that `create` would make, if it is there already; None when there is nothing.

        Raises BadParameter(ca_dir) for a path where nothing can be made, and NotReady when another CA, or
        something else, is there.
        """
        if not path.is_absolute():
            raise BadParameter("ca_dir", f"{path} is a relative path", do="give the whole path")
        if not str(path).isprintable():
            raise BadParameter("ca_dir", f"{str(path)!r} holds a control character")
        if not path.parent.is_dir():
            raise BadParameter("ca_dir", f"{path.parent} is not a directory", do=f"make it: mkdir -p {path.parent}")
        if not path.exists() or (path.is_dir() and not any(path.iterdir())):
            return None
        if not path.is_dir() or not adoption.looks_like_a_ca(path):
            raise NotReady(
                f"{path} exists and is not a CA directory", left="nothing was touched", do="give another path as ca_dir"
            )
        found = cls.open(path)
        if difference := found._difference(name, key_type, name_constraints):
            raise NotReady(
                f"{path} holds another CA: {difference}",
                left="nothing was touched",
                do="give another path as ca_dir, or the parameters of the CA that is there",
            )
        return found

    @classmethod
    def open(cls, path: Path) -> CADirectory:
        """Open a CA directory: ours, one of CA.pl, /etc/pki/CA, or one whose openssl.cnf names other files.

        Finishes what a crash left unfinished and changes nothing else. Raises CADirectoryError.
        """
        try:
            layout, remarks = adoption.find_layout(path)
            certificate = x509.load_pem_x509_certificate(layout.certificate.read_bytes())
            if recovery.is_needed(layout):
                with locked(layout.lock, doing="recovery", wait_s=_WAIT_S, error=CADirectoryError):
                    recovery.recover(layout)
        except OSError as error:
            raise not_sound(f"{error.filename or path}: {error.strerror}", path) from error
        except ValueError as error:
            raise not_sound(f"{layout.certificate} holds no certificate that can be read", path) from error
        if not is_ca(certificate):
            raise not_sound(f"{layout.certificate} is not the certificate of a CA (basicConstraints)", path)
        return cls(layout, certificate, (*remarks, *adoption.key_remarks(layout)))

    @property
    def path(self) -> Path:
        return self.layout.path

    @property
    def name(self) -> str:
        """The CA's name in OpenSSL's form, ``/C=DE/CN=Example Mail CA``."""
        return openssl_dn(self.ca_certificate.subject)

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the CA certificate in hex with colons."""
        return self.ca_certificate.fingerprint(hashes.SHA256()).hex(":").upper()

    def issue(
        self,
        public_key: CertificatePublicKeyTypes,
        names: tuple[str, ...],
        *,
        roles: Roles,
        valid_days: int,
        passphrase: Secret | None,
        now: datetime,
        serial: int | None = None,
        wait_s: float = _WAIT_S,
    ) -> x509.Certificate:
        """Issue a mail server certificate for ``names`` (host names; the first is the common name as well).

        The serial is random unless given. When this returns, certificate and row are on disk. Raises BadParameter,
        or CADirectoryError with everything put back.
        """
        compromised.refuse_compromised(self.layout, public_key, names[0])
        certificate = profiles.mail_server_certificate(
            public_key,
            names,
            roles=roles,
            issuer=self.ca_certificate,
            issuer_key=self.signing_key(passphrase),
            serial=x509.random_serial_number() if serial is None else serial,
            now=now,
            valid_days=valid_days,
        )
        self._store(certificate, names[0], chosen_serial=serial is not None, wait_s=wait_s)
        return certificate

    def certify_successor(
        self, successor: x509.Certificate, *, passphrase: Secret | None, now: datetime, wait_s: float = _WAIT_S
    ) -> x509.Certificate:
        """The cross-signed certificate of the CA that follows this one, entered in the index like any other.

        Raises BadParameter, NotReady where this CA may certify no CA, and CADirectoryError.
        """
        certificate = cross.cross_certificate(
            successor,
            issuer=self.ca_certificate,
            issuer_key=self.signing_key(passphrase),
            serial=x509.random_serial_number(),
            now=now,
        )
        self._store(certificate, openssl_dn(successor.subject), chosen_serial=False, wait_s=wait_s)
        return certificate

    def signing_key(self, passphrase: Secret | None) -> PrivateKey:
        """The CA's private key. Raises BadParameter(ca_passphrase) or CADirectoryError."""
        try:
            pem = self.layout.private_key.read_bytes()
        except OSError as error:
            raise not_sound(f"{self.layout.private_key}: {error.strerror}", self.path) from error
        key = cakey.load(pem, passphrase, where=str(self.layout.private_key))
        if key.public_key() != self.ca_certificate.public_key():
            raise not_sound(f"{self.layout.private_key} is not the key of {self.layout.certificate}", self.path)
        return key

    def valid_for(self, name: str, *, now: datetime) -> tuple[x509.Certificate, ...]:
        """The certificates that name this host and are neither revoked nor expired, oldest first. Reads them all."""
        found = (
            self.certificate_for_serial(row.serial) for row in self.rows() if row.status == "V" and row.not_after > now
        )
        return tuple(c for c in found if c is not None and not is_ca(c) and name.lower() in names_of(c))

    def rows(self) -> Iterator[Row]:
        """The rows of the index, oldest first, read as they are asked for. Raises CADirectoryError."""
        with self.layout.database.open("rb") as lines:
            yield from parse_rows(lines, where=str(self.layout.database))

    def certificate_for_serial(self, serial: int) -> x509.Certificate | None:
        """The certificate of that serial from newcerts, or None. Raises CADirectoryError for a file that is none."""
        path = recovery.certificate_path(self.layout, serial)
        try:
            return x509.load_pem_x509_certificate(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise not_sound(f"{path} holds no certificate that can be read", self.path) from error

    def find(self, public_key: CertificatePublicKeyTypes, *, now: datetime) -> tuple[x509.Certificate, ...]:
        """The certificates for exactly this key that are neither revoked nor expired, newest first.

        Looks at the newest rows only (about 2,000): made to take up an issue that was cut short.
        """
        wanted = key_info(public_key)
        candidates = (
            self.certificate_for_serial(row.serial)
            for row in reversed(self._newest_rows())
            if row.status == "V" and row.not_after > now
        )
        return tuple(c for c in candidates if c and key_info(c.public_key()) == wanted)

    def newest_certificate(self) -> x509.Certificate | None:
        """The certificate issued last of those not revoked, if newcerts has it; looks at the newest rows only."""
        row = next((row for row in reversed(self._newest_rows()) if row.status != "R"), None)
        return self.certificate_for_serial(row.serial) if row else None

    def unmatched(self) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """Serials of certificates without a row, and of rows without a certificate. Reads the whole directory."""
        rows = {row.serial for row in self.rows()}
        files = {int(p.stem, 16) for p in self.layout.new_certificates.glob("*.pem") if _is_hex(p.stem)}
        return tuple(sorted(files - rows)), tuple(sorted(rows - files))

    def _newest_rows(self) -> Sequence[Row]:
        with self.layout.database.open("rb") as file:
            start = max(0, file.seek(0, os.SEEK_END) - _TAIL_OCTETS)
            file.seek(start)
            if start:
                file.readline()
            # What has no LF yet is being written, or was cut short.
            whole = (line for line in file if line.endswith(b"\n"))
            return tuple(parse_rows(whole, where=f"{self.layout.database} (its last part)"))

    def _difference(self, name: DistinguishedName, key_type: KeyType, name_constraints: tuple[str, ...]) -> str:
        there = {
            "name": self.name,
            "key type": profiles.key_word(self.ca_certificate.public_key()),
            "name constraints": ", ".join(profiles.constraints_of(self.ca_certificate)) or "none",
        }
        wanted = {
            "name": str(name),
            "key type": key_type.word,
            "name constraints": ", ".join(name_constraints) or "none",
        }
        return "; ".join(f"its {k} is {there[k]}, asked for is {wanted[k]}" for k in there if there[k] != wanted[k])

    def _store(self, certificate: x509.Certificate, what: str, *, chosen_serial: bool, wait_s: float) -> None:
        """Write a new certificate and its row; CADirectoryError, with everything put back, where that fails."""
        try:
            with locked(
                self.layout.lock, doing=f"issues a certificate for {what}", wait_s=wait_s, error=CADirectoryError
            ):
                recovery.recover(self.layout)
                self._refuse_clash(certificate, whole_index=chosen_serial)
                adoption.write_missing_configuration(self.layout, certificate)
                recovery.store(self.layout, certificate, certificate.public_bytes(Encoding.PEM))
        except OSError as error:
            raise CADirectoryError(
                f"no certificate for {what}: {error.filename or self.path}: {error.strerror}",
                left="everything was put back: no certificate was issued",
                do=f"make {self.path} writable, with space left, and run again",
            ) from error

    def _refuse_clash(self, certificate: x509.Certificate, *, whole_index: bool) -> None:
        """Refuse what would make the index unreadable for openssl: a serial, or a unique subject, used twice."""
        serial = certificate.serial_number
        if recovery.certificate_path(self.layout, serial).exists() or (
            # A random serial of 159 bits is in no row by chance: only one that was chosen is looked for.
            whole_index and recovery.has_serial(self.layout, serial)
        ):
            raise CADirectoryError(f"{self.path}: serial {serial_text(serial)} is in use", left="nothing was changed")
        if not adoption.subjects_are_unique(self.layout):
            return
        subject = row_for(certificate).subject
        if clash := next(iter(recovery.valid_rows_of_subject(self.layout, subject)), None):
            raise CADirectoryError(
                f"{self.path} allows one valid certificate for each subject, and {subject} has one: serial "
                f"{serial_text(clash.serial)}, to {clash.not_after:%Y-%m-%d}",
                left="nothing was changed",
                do="revoke it (superseded) and run again; or, if it has expired, run `openssl ca -updatedb`; or write "
                f"`unique_subject = no` into {self.layout.attributes} and {self.layout.configuration}",
            )


def _is_hex(text: str) -> bool:
    return bool(text) and not set(text) - set("0123456789ABCDEFabcdef")
