"""A CA directory made, and used, by nothing but openssl: one valid certificate a subject, serials counted on."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mailtls_nb.pki.directory import CADirectory

Openssl = Callable[..., str]

CONFIGURATION = """
[ca]
default_ca = own
[own]
dir = {directory}
database = $dir/index.txt
new_certs_dir = $dir/newcerts
certificate = $dir/cacert.pem
private_key = $dir/private/cakey.pem
serial = $dir/serial
crlnumber = $dir/crlnumber
crl = $dir/crl.pem
unique_subject = yes
default_md = sha256
default_days = 365
default_crl_days = 30
policy = any
x509_extensions = leaf
[any]
commonName = supplied
[leaf]
basicConstraints = CA:FALSE
[authority]
basicConstraints = critical,CA:TRUE
keyUsage = critical,keyCertSign,cRLSign
subjectKeyIdentifier = hash
[req]
distinguished_name = name
[name]
"""
EC = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")


@dataclass
class OpensslCA:
    path: Path
    openssl: Openssl

    @classmethod
    def make(cls, path: Path, openssl: Openssl) -> OpensslCA:
        for directory in (path, path / "newcerts", path / "private"):
            directory.mkdir()
        (path / "index.txt").touch()
        (path / "serial").write_text("01\n")
        (path / "crlnumber").write_text("01\n")
        (path / "openssl.cnf").write_text(CONFIGURATION.format(directory=path))
        files = ("-keyout", path / "private" / "cakey.pem", "-out", path / "cacert.pem")
        self_signed = ("-x509", "-extensions", "authority", "-days", "3000", "-subj", "/CN=Own CA")
        openssl("req", "-config", path / "openssl.cnf", *EC, *self_signed, *files)
        return cls(path, openssl)

    def ca(self, *what: str | Path, status: int | None = 0) -> str:
        """What `openssl ca` printed; status None: any."""
        return self.openssl("ca", "-config", self.path / "openssl.cnf", "-batch", *what, status=status)

    def sign(self, name: str, *, status: int | None = 0, days: int = 365) -> str:
        files = ("-keyout", self.path.parent / f"{name}.key", "-out", self.path.parent / f"{name}.csr")
        self.openssl("req", "-config", self.path / "openssl.cnf", "-new", *EC, "-subj", f"/CN={name}", *files)
        ends = ("-days", str(days), "-notext", "-in", files[-1], "-out", self.path.parent / f"{name}.pem")
        return self.ca(*ends, status=status)

    def refuses(self, name: str) -> str:
        """What openssl says when it does not sign, whatever its status; nothing was added to the index."""
        before = self.index
        printed = self.sign(name, status=None)
        assert self.index == before, printed
        return printed

    @property
    def index(self) -> str:
        return (self.path / "index.txt").read_bytes().decode()

    @index.setter
    def index(self, text: str) -> None:
        (self.path / "index.txt").write_bytes(text.encode())

    @property
    def ours(self) -> CADirectory:
        return CADirectory.open(self.path)
