"""The certificate directory of a host: what lies there, and the certificate in service without its key.

The file in service holds certificate and private key together. It is therefore never read as a whole: the host's
own openssl prints the certificate and the public half of the key.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from mailtls_nb.hosts.base import Host

_SCRIPT = r"""
LC_ALL=C; export LC_ALL
section() { printf '\n== mailtls-nb %s\n' "$1"; }
dir=$1 pem=$2 new_key=$3
section directory; ls -ld "$dir/." 2>/dev/null
section names; ls -A "$dir" 2>/dev/null
section file; ls -ld "$pem" 2>/dev/null
section certificate; test -s "$pem" && openssl x509 -in "$pem" 2>/dev/null
section public-key; test -s "$pem" && openssl pkey -in "$pem" -passin pass: -pubout 2>/dev/null </dev/null
section ca-file; ls -ld "$dir/cacert.pem" 2>/dev/null
section new-public-key; test -s "$new_key" && openssl pkey -in "$new_key" -passin pass: -pubout 2>/dev/null </dev/null
section end
"""
_LS = re.compile(r"^(?P<mode>[-dlpsb][-rwxsStT]{9})\S*\s+\d+\s+(?P<owner>\S+)\s+(?P<group>\S+)\s")


@dataclass(frozen=True)
class FileStatus:
    """Mode (permission bits) and owner (``user:group``) of a file or directory; ``is_link`` for a symbolic link."""

    mode: int
    owner: str
    is_link: bool = False

    @classmethod
    def parse(cls, ls_line: str) -> FileStatus | None:
        """Read a line of ``ls -ld``, the one portable way to ask; None for an empty one."""
        match = _LS.match(ls_line)
        if match is None:
            return None
        bits = match["mode"][1:]
        mode = sum(1 << (8 - place) for place, bit in enumerate(bits) if bit not in "-ST")
        mode |= sum(extra for place, extra in ((2, 0o4000), (5, 0o2000), (8, 0o1000)) if bits[place] in "sStT")
        return cls(mode, f"{match['owner']}:{match['group']}", match["mode"][0] == "l")


@dataclass(frozen=True)
class CertificateFiles:
    """What lies in the certificate directory. ``public_key`` is that of the private key in the file."""

    directory: FileStatus | None
    names: tuple[str, ...]
    file: FileStatus | None
    certificate: x509.Certificate | None
    public_key: PublicKeyTypes | None
    ca_file: FileStatus | None
    ca_certificates: bytes | None
    new_public_key: PublicKeyTypes | None

    @property
    def key_matches(self) -> bool:
        """Whether the key in the file is the certificate's."""
        return self.certificate is not None and self.public_key == self.certificate.public_key()


def observe_certificate_files(host: Host, directory: str, certificate_path: str, new_key_path: str) -> CertificateFiles:
    """Look at the certificate directory without changing it, and without a private key leaving the host."""
    completed = host.run(("sh", "-c", _SCRIPT, "sh", directory, certificate_path, new_key_path), timeout_s=60)
    answers: dict[str, str] = {}
    for section in completed.text.split("\n== mailtls-nb ")[1:]:
        name, _, body = section.partition("\n")
        answers[name] = body.strip()
    if "end" not in answers:
        completed.check(f"looking at {directory}", left="nothing was touched")
    return CertificateFiles(
        directory=FileStatus.parse(answers["directory"]),
        names=tuple(answers["names"].splitlines()),
        file=FileStatus.parse(answers["file"]),
        certificate=_certificate(answers["certificate"]),
        public_key=_public_key(answers["public-key"]),
        ca_file=FileStatus.parse(answers["ca-file"]),
        ca_certificates=host.read(f"{directory}/cacert.pem") if answers["ca-file"] else None,
        new_public_key=_public_key(answers["new-public-key"]),
    )


def file_status(host: Host, path: str) -> FileStatus | None:
    """Mode and owner of a file, None where there is none."""
    return FileStatus.parse(host.run(("ls", "-ld", path), timeout_s=30).text)


def _certificate(pem: str) -> x509.Certificate | None:
    return x509.load_pem_x509_certificate(pem.encode()) if "BEGIN CERTIFICATE" in pem else None


def _public_key(pem: str) -> PublicKeyTypes | None:
    return load_pem_public_key(pem.encode()) if "BEGIN PUBLIC KEY" in pem else None
