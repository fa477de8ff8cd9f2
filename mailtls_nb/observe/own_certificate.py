"""The certificates that a host shows itself, with the state of their keys; no key is read as a whole.

The host's own openssl prints the certificates of a file and the public half of a key.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.certificate_files import FileStatus

Role = Literal["server", "client"]

# ls -L: sendmail looks at the file behind a link. $1: certificate, $2: key.
_SCRIPT = r"""
LC_ALL=C; export LC_ALL
section() { printf '\n== mailtls-nb %s\n' "$1"; }
section certificate-file; ls -ldL "$1" 2>/dev/null
section certificates
sed -n '/-----BEGIN [A-Z0-9 ]*CERTIFICATE-----/,/-----END [A-Z0-9 ]*CERTIFICATE-----/p' "$1" 2>/dev/null
section key-file; ls -ldL "$2" 2>/dev/null
section encrypted; grep -c ENCRYPTED "$2" 2>/dev/null
section public-key; test -s "$2" && openssl pkey -in "$2" -passin pass: -pubout 2>/dev/null </dev/null
section end
"""
_OPTIONS: Mapping[Role, tuple[str, str]] = {
    "server": ("ServerCertFile", "ServerKeyFile"),
    "client": ("ClientCertFile", "ClientKeyFile"),
}
_CERTIFICATE = re.compile(r"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----.*?-----END [A-Z0-9 ]*-----", re.DOTALL)


@dataclass(frozen=True)
class OwnCertificate:
    """A certificate and its key, by the paths that sendmail's options name.

    The statuses are None where nothing is there. ``certificates`` are those of the file that can be read, the host's
    own first; ``public_key`` is that of the key, None where it cannot be read without a passphrase.
    """

    path: str
    status: FileStatus | None
    certificates: tuple[x509.Certificate, ...]
    key_path: str
    key_status: FileStatus | None
    key_is_encrypted: bool
    public_key: PublicKeyTypes | None

    @property
    def certificate(self) -> x509.Certificate | None:
        return self.certificates[0] if self.certificates else None


def observe_own_certificates(host: Host, options: Mapping[str, str]) -> dict[Role, OwnCertificate]:
    """Those of the roles that a sendmail.cf configures; one file that serves both is looked at once."""
    found: dict[Role, OwnCertificate] = {}
    for role, names in _OPTIONS.items():
        # Of two certificates (RSA and EC, separated by a comma) the first is looked at.
        path, key_path = (options.get(name, "").partition(",")[0] for name in names)
        if path:
            known = next((own for own in found.values() if (own.path, own.key_path) == (path, key_path)), None)
            found[role] = known or observe_own_certificate(host, path, key_path)
    return found


def observe_own_certificate(host: Host, path: str, key_path: str) -> OwnCertificate:
    """Look at a certificate and its key without changing anything, and without the key leaving the host."""
    completed = host.run(("sh", "-c", _SCRIPT, "sh", path, key_path), timeout_s=60)
    answers: dict[str, str] = {}
    for section in completed.text.split("\n== mailtls-nb ")[1:]:
        name, _, body = section.partition("\n")
        answers[name] = body.strip()
    if "end" not in answers:
        completed.check(f"looking at {path}", left="nothing was touched")
    return _read(path, key_path, answers)


def _read(path: str, key_path: str, answers: Mapping[str, str]) -> OwnCertificate:
    public_key = answers["public-key"]
    return OwnCertificate(
        path=path,
        status=FileStatus.parse(answers["certificate-file"]),
        certificates=tuple(c for c in map(_certificate, _CERTIFICATE.findall(answers["certificates"])) if c),
        key_path=key_path,
        key_status=FileStatus.parse(answers["key-file"]),
        key_is_encrypted=answers["encrypted"] not in ("", "0"),
        public_key=load_pem_public_key(public_key.encode()) if "BEGIN PUBLIC KEY" in public_key else None,
    )


def _certificate(pem: str) -> x509.Certificate | None:
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        return None  # garbage in a file is data here
