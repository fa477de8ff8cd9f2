"""Whom a host's sendmail trusts: its CACertFile and CACertPath, and the CRLs beside them. Read by one script.

Files may hold private keys as well (certificate and key in one file), so only certificates and CRLs are printed, and
hashes are those of the host's own OpenSSL: they changed with OpenSSL 1.0.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.certificate_files import FileStatus
from mailtls_nb.pki import hashed_directory
from mailtls_nb.pki.hashed_directory import Entry, NameHash, found_by_openssl, is_hash_name

_SCRIPT = r"""
LC_ALL=C; export LC_ALL
ca_path=$1 ca_file=$2 crl_path=$3 crl_file=$4 own=$5
shift 5
section() { printf '\n== mailtls-nb %s\n' "$1"; }
blocks() {
    sed -n -e '/-----BEGIN [A-Z0-9 ]*CERTIFICATE-----/,/-----END [A-Z0-9 ]*CERTIFICATE-----/p' \
        -e '/-----BEGIN X509 CRL-----/,/-----END X509 CRL-----/p' "$1" 2>/dev/null
}
file() {
    section "$1"; ls -ld "$2" 2>/dev/null
    section mode; ls -ldL "$2" 2>/dev/null
    section sha256; test -f "$2" && openssl dgst -sha256 <"$2" 2>/dev/null
    section content; test -f "$2" && blocks "$2"
}
entry() {
    section "entry $1"; ls -ld "$1"
    section mode; ls -ldL "$1" 2>/dev/null
    test -f "$1" || return 0
    case $1 in *.r[0-9]*) kind=crl old=-hash_old ;; *) kind=x509 old=-subject_hash_old ;; esac
    hash=`openssl $kind -noout -hash -in "$1" 2>/dev/null </dev/null`
    section hash; echo "$hash"
    case $1 in
    */$hash.*) ;;
    *) section old-hash; openssl $kind -noout $old -in "$1" 2>/dev/null </dev/null ;;
    esac
    section content; blocks "$1"
}
directory() {
    section "directory $1"; ls -ld "$1/." 2>/dev/null
    for f in "$1"/????????.[0-9]* "$1"/????????.r[0-9]*; do
        if test -h "$f" || test -f "$f"; then entry "$f"; fi
    done
    for f in "$1"/partner-*.pem "$1"/partner-*.crl "$1"/ca-*.crl; do
        if test -h "$f" || test -f "$f"; then file "file $f" "$f"; fi
    done
}
directory "$ca_path"
if test -n "$crl_path" && test "$crl_path" != "$ca_path"; then directory "$crl_path"; fi
if test -n "$ca_file"; then file ca-file "$ca_file"; fi
if test -n "$crl_file"; then file crl-file "$crl_file"; fi
section own; test -n "$own" && openssl x509 -in "$own" 2>/dev/null </dev/null
for pem do
    section offered
    section hash; printf '%s\n' "$pem" | openssl x509 -noout -hash 2>/dev/null
    section old-hash; printf '%s\n' "$pem" | openssl x509 -noout -subject_hash_old 2>/dev/null
done
section end
"""
_TIMEOUT_S = 120
_CERTIFICATE = re.compile(r"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----.*?-----END [A-Z0-9 ]*-----", re.DOTALL)
_CRL = re.compile(r"-----BEGIN X509 CRL-----.*?-----END X509 CRL-----", re.DOTALL)


@dataclass(frozen=True)
class StoredFile:
    """A file with certificates or CRLs. ``status`` is its own, ``mode`` that of what a link leads to."""

    path: str
    status: FileStatus
    mode: int | None
    sha256: str
    certificates: tuple[x509.Certificate, ...]
    crls: tuple[x509.CertificateRevocationList, ...]


@dataclass(frozen=True)
class StoreDirectory:
    """A directory of hash links; ``status`` is None where there is none.

    ``written_files`` are what runbooks write there: partner-*.pem and partner-*.crl (03), ca-*.crl (05).
    """

    path: str
    status: FileStatus | None = None
    entries: tuple[Entry, ...] = ()
    written_files: tuple[StoredFile, ...] = ()

    @property
    def trusted(self) -> tuple[x509.Certificate, ...]:
        """The certificates that OpenSSL finds by their hash."""
        return tuple(dict.fromkeys(c for entry in found_by_openssl(self.entries) for c in entry.certificates))

    @property
    def crls(self) -> tuple[x509.CertificateRevocationList, ...]:
        """The CRLs that OpenSSL finds by the hash of their issuer."""
        return tuple(crl for entry in found_by_openssl(self.entries, "crl") for crl in entry.crls)

    def file(self, path: str) -> StoredFile | None:
        """The file of that path that a runbook wrote, if it is there."""
        return next((file for file in self.written_files if file.path == path), None)


@dataclass(frozen=True)
class TrustStore:
    """What a host's sendmail verifies by.

    ``own`` is the certificate that the host shows itself; ``hashes`` are those of the certificates asked about.
    """

    ca_path: StoreDirectory
    crl_path: StoreDirectory | None
    ca_file: StoredFile | None
    crl_file: StoredFile | None
    own: tuple[x509.Certificate, ...]
    hashes: tuple[NameHash, ...]

    @property
    def trusted(self) -> tuple[x509.Certificate, ...]:
        """Every certificate that counts as trusted: of the file and of the directory."""
        in_file = self.ca_file.certificates if self.ca_file else ()
        return tuple(dict.fromkeys((*in_file, *self.ca_path.trusted)))

    @property
    def problems(self) -> tuple[str, ...]:
        """What is wrong with it, one sentence each."""
        found: tuple[str, ...] = ()
        for directory in (self.ca_path, self.crl_path):
            if directory is not None and (directory is self.ca_path or directory.path != self.ca_path.path):
                mode = directory.status.mode if directory.status else None
                found += hashed_directory.problems(directory.entries, directory_mode=mode, directory=directory.path)
        return found


def observe_trust_store(
    host: Host,
    *,
    ca_path: str,
    ca_file: str = "",
    crl_path: str = "",
    crl_file: str = "",
    own: str = "",
    offered: Sequence[x509.Certificate] = (),
) -> TrustStore:
    """Look at the directory and files that sendmail's options CACertPath, CACertFile, CRLPath and CRLFile name.

    ``own`` is the file of the host's own certificate, ``offered`` are certificates whose hashes are asked for. Changes
    nothing. Raises CommandFailed where the host cannot answer.
    """
    pems = [certificate.public_bytes(Encoding.PEM).decode() for certificate in offered]
    argv = ("sh", "-c", _SCRIPT, "sh", ca_path, ca_file, crl_path, crl_file, own, *pems)
    completed = host.run(argv, timeout_s=_TIMEOUT_S)
    sections = list(_sections(completed.text))
    if not sections or sections[-1][0] != "end":
        completed.check(f"looking at {ca_path}", left="nothing was touched")
    directories: dict[str, StoreDirectory] = {}
    files: dict[str, StoredFile] = {}
    own_certificates: tuple[x509.Certificate, ...] = ()
    hashes: list[NameHash] = []
    here = ""
    for title, parts in _grouped(sections):
        word, _, path = title.partition(" ")
        match word:
            case "directory":
                here = path
                directories[path] = StoreDirectory(path, FileStatus.parse(parts[title]))
            case "entry" if is_hash_name(path.rpartition("/")[2]):
                entry = _entry(path.rpartition("/")[2], parts[title], parts)
                directories[here] = replace(directories[here], entries=(*directories[here].entries, entry))
            case "file":
                if file := _file(path, parts[title], parts):
                    kept = (*directories[here].written_files, file)
                    directories[here] = replace(directories[here], written_files=kept)
            case "ca-file" | "crl-file":
                if file := _file(ca_file if word == "ca-file" else crl_file, parts[title], parts):
                    files[word] = file
            case "own":
                own_certificates = _certificates(parts[title])
            case "offered":
                hashes.append(NameHash(parts.get("hash", ""), parts.get("old-hash", "")))
    return TrustStore(
        ca_path=directories[ca_path],
        crl_path=directories.get(crl_path) if crl_path else None,
        ca_file=files.get("ca-file"),
        crl_file=files.get("crl-file"),
        own=own_certificates,
        hashes=tuple(hashes),
    )


def _sections(text: str) -> Iterator[tuple[str, str]]:
    for section in text.split("\n== mailtls-nb ")[1:]:
        title, _, body = section.partition("\n")
        yield title, body.strip()


def _grouped(sections: Sequence[tuple[str, str]]) -> Iterator[tuple[str, Mapping[str, str]]]:
    """Each thing looked at with what was printed of it: the parts follow their title."""
    parts: dict[str, str] = {}
    title = ""
    for name, body in sections:
        if name in ("mode", "sha256", "hash", "old-hash", "content"):
            parts[name] = body
            continue
        if title:
            yield title, parts
        title, parts = name, {name: body}


def _entry(name: str, ls_line: str, parts: Mapping[str, str]) -> Entry:
    status = FileStatus.parse(parts.get("mode", ""))
    target = ls_line.partition(" -> ")[2] if ls_line.startswith("l") else ""
    content = parts.get("content", "")
    name_hash = NameHash(parts["hash"], parts.get("old-hash", "")) if parts.get("hash") else None
    mode = status.mode if status else None
    return Entry(name, target, mode, _certificates(content), _crls(content), name_hash)


def _file(path: str, ls_line: str, parts: Mapping[str, str]) -> StoredFile | None:
    status, behind = FileStatus.parse(ls_line), FileStatus.parse(parts.get("mode", ""))
    if status is None:
        return None
    content = parts.get("content", "")
    sha256 = parts.get("sha256", "").rpartition("= ")[2] or "absent"
    return StoredFile(path, status, behind.mode if behind else None, sha256, _certificates(content), _crls(content))


def _certificates(text: str) -> tuple[x509.Certificate, ...]:
    return tuple(c for c in map(_certificate, _CERTIFICATE.findall(text)) if c is not None)


def _certificate(pem: str) -> x509.Certificate | None:
    # What a host has trusted for years may be too odd for this library; it is then no certificate that can be read.
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        return None


def _crls(text: str) -> tuple[x509.CertificateRevocationList, ...]:
    return tuple(c for c in map(_crl, _CRL.findall(text)) if c is not None)


def _crl(pem: str) -> x509.CertificateRevocationList | None:
    try:
        return x509.load_pem_x509_crl(pem.encode())
    except ValueError:
        return None
