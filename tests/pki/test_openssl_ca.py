"""`openssl ca` in a directory that we made, and we in directories that openssl made: the contract, both ways."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailtls_nb.errors import CADirectoryError
from mailtls_nb.pki.chain import verify_server
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import Row, serial_text
from mailtls_nb.pki.profiles import PublicKey
from mailtls_nb.secret import Secret

Openssl = Callable[..., str]
Issue = Callable[..., x509.Certificate]


@pytest.fixture
def issue(passphrase: Secret, public_key: PublicKey) -> Issue:
    def issue(path: Path, name: str = "relay.example.test") -> x509.Certificate:
        ca = CADirectory.open(path)
        return ca.issue(public_key, (name,), roles="both", valid_days=365, passphrase=passphrase, now=datetime.now(UTC))

    return issue


@pytest.fixture
def request_file(openssl: Openssl, tmp_path: Path) -> Path:
    """A request for other.example.test that asks to be a CA."""
    options = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "other.key")
    wishes = ("-addext", "subjectAltName=DNS:other.example.test", "-addext", "basicConstraints=critical,CA:TRUE")
    openssl("req", "-new", "-subj", "/O=Others/CN=other.example.test", *options, *wishes, "-out", "other.csr")
    return tmp_path / "other.csr"


def status_of(config: tuple[str | Path, ...], certificate: x509.Certificate, openssl: Openssl) -> str:
    """What `openssl ca -status` prints; it ends with status 1 whatever it finds."""
    serial = serial_text(certificate.serial_number)
    return openssl(*config, "-status", serial, status=None).rpartition(f"{serial}=")[2].strip()


def rows(path: Path) -> list[Row]:
    return list(CADirectory.open(path).rows())


def use_with_openssl(path: Path, request: Path, ours: x509.Certificate, openssl: Openssl, issue: Issue) -> None:
    """Sign, status, revoke, update, CRL by openssl from a foreign directory; then we issue once more."""
    config = ("ca", "-config", path / "openssl.cnf")
    key = ("-passin", "env:PASS")
    before = len(rows(path))

    openssl(*config, *key, "-batch", "-notext", "-in", request, "-out", "theirs.pem")
    theirs = x509.load_pem_x509_certificate((request.parent / "theirs.pem").read_bytes())
    assert not theirs.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
    certificate = CADirectory.open(path).layout.certificate
    verify = ("verify", "-x509_strict", "-CAfile", certificate)
    openssl(*verify, "-purpose", "sslserver", "-verify_hostname", "other.example.test", "theirs.pem")
    openssl(*verify, "-purpose", "sslclient", "theirs.pem")
    assert [row.serial for row in rows(path)[before:]] == [theirs.serial_number]

    serial = serial_text(ours.serial_number)
    assert status_of(config, ours, openssl) == "Valid (V)"
    openssl(*config, *key, "-revoke", path / "newcerts" / f"{serial}.pem", "-crl_reason", "superseded")
    assert status_of(config, ours, openssl) == "Revoked (R)"
    openssl(*config, *key, "-updatedb")
    openssl(*config, *key, "-gencrl", "-out", "crl.pem")
    crl = x509.load_pem_x509_crl((request.parent / "crl.pem").read_bytes())
    assert [revoked.serial_number for revoked in crl] == [ours.serial_number]
    assert crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number >= 1
    chain = ("-crl_check", "-CRLfile", "crl.pem")
    assert "certificate revoked" in openssl(*verify, *chain, path / "newcerts" / f"{serial}.pem", status=2)
    openssl(*verify, *chain, "theirs.pem")

    again = issue(path)
    by_serial = {row.serial: row for row in rows(path)}
    assert by_serial[again.serial_number].status == "V"
    assert by_serial[ours.serial_number].status == "R"
    assert by_serial[ours.serial_number].revocation.endswith(",superseded")
    assert CADirectory.open(path).unmatched() == ((), ())
    assert status_of(config, again, openssl) == "Valid (V)"


@pytest.mark.parametrize("name", ["ca", 'a CA # with "odd" $characters\' \\ and \u00dc'])
def test_openssl_works_in_a_directory_that_we_made(
    name: str,
    create: Callable[..., CADirectory],
    request_file: Path,
    openssl: Openssl,
    issue: Issue,
    tmp_path: Path,
    public_key: PublicKey,
    now: datetime,
) -> None:
    ca = create(tmp_path / name)
    ours = issue(ca.path)
    use_with_openssl(ca.path, request_file, ours, openssl, issue)
    # Revoked certificates are not offered for re-use.
    assert ours not in ca.find(public_key, now=now)


SYSTEM_CNF = """
[ca]
default_ca = CA_default
[CA_default]
dir = ./demoCA
certs = $dir/certs
database = $dir/index.txt
new_certs_dir = ${dir}/newcerts
certificate = $dir/cacert.pem
private_key = $dir/private/cakey.pem   # as in openssl's own openssl.cnf
serial = $dir/serial
crlnumber = $dir/crlnumber
default_md = default
default_days = 365
default_crl_days = 30
policy = policy_match
x509_extensions = usr_cert
[policy_match]
countryName = optional
organizationName = optional
commonName = supplied
[req]
distinguished_name = dn
[dn]
[usr_cert]
basicConstraints = CA:FALSE
[v3_ca]
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid:always,issuer
basicConstraints = critical,CA:true
"""


@pytest.fixture
def demo_ca(openssl: Openssl, tmp_path: Path) -> Path:
    """What `CA.pl -newca` does, step by step, with a key in the traditional encrypted form."""
    path = tmp_path / "demoCA"
    for part in ("certs", "crl", "newcerts", "private"):
        (path / part).mkdir(parents=True)
    (path / "index.txt").touch()
    (path / "crlnumber").write_text("01\n")
    (tmp_path / "system.cnf").write_text(SYSTEM_CNF)
    key = path / "private" / "cakey.pem"
    openssl("genrsa", "-traditional", "-aes128", "-passout", "env:PASS", "-out", key, "2048")
    assert b"Proc-Type: 4,ENCRYPTED" in key.read_bytes()
    new = ("-new", "-key", key, "-passin", "env:PASS", "-subj", "/C=DE/O=Demo/CN=Demo CA", "-out", path / "careq.pem")
    openssl("req", "-config", "system.cnf", *new)
    sign = ("-create_serial", "-days", "1095", "-batch", "-keyfile", key, "-passin", "env:PASS", "-selfsign")
    files = ("-out", path / "cacert.pem", "-in", path / "careq.pem")
    openssl("ca", "-config", "system.cnf", *sign, "-extensions", "v3_ca", *files)
    return path


def test_a_directory_of_ca_pl_is_adopted(demo_ca: Path, openssl: Openssl, issue: Issue) -> None:
    before = {p: p.read_bytes() for p in demo_ca.rglob("*") if p.is_file()}
    ca = CADirectory.open(demo_ca)
    assert ca.name == "/C=DE/O=Demo/CN=Demo CA"
    assert any("openssl.cnf is missing" in remark for remark in ca.remarks)
    # Opening changed nothing at all; issuing adds a row, a certificate, openssl.cnf and the lock.
    assert {p: p.read_bytes() for p in demo_ca.rglob("*") if p.is_file()} == before
    ours = issue(demo_ca)
    after = {p: p.read_bytes() for p in demo_ca.rglob("*") if p.is_file()}
    assert [str(p.relative_to(demo_ca)) for p in before if before[p] != after[p]] == ["index.txt"]
    assert after[demo_ca / "index.txt"].startswith(before[demo_ca / "index.txt"])
    assert {str(p.relative_to(demo_ca)) for p in after if p not in before} == {
        f"newcerts/{serial_text(ours.serial_number)}.pem",
        "openssl.cnf",
        ".mailtls-nb.lock",
    }
    # It goes on as it did: serials counted on, one valid certificate a subject.
    text = (demo_ca / "openssl.cnf").read_text()
    assert "rand_serial" not in text.replace("no rand_serial", "")
    assert "unique_subject    = yes" in text
    with pytest.raises(CADirectoryError, match="one valid certificate for each subject"):
        issue(demo_ca)
    openssl("ca", "-config", demo_ca.parent / "system.cnf", "-updatedb", "-passin", "env:PASS")
    # The profile is what our openssl.cnf gives: the CA itself lacks keyUsage, which -x509_strict minds.
    openssl("verify", "-CAfile", demo_ca / "cacert.pem", "-purpose", "sslclient", issue_path(demo_ca, ours))


def issue_path(path: Path, certificate: x509.Certificate) -> Path:
    return path / "newcerts" / f"{serial_text(certificate.serial_number)}.pem"


def test_openssl_goes_on_in_an_adopted_directory(
    demo_ca: Path, request_file: Path, openssl: Openssl, issue: Issue
) -> None:
    """With the openssl.cnf that adoption wrote; the next serial is the one its serial file names."""
    ours = issue(demo_ca)
    following = int((demo_ca / "serial").read_text(), 16)
    config = ("ca", "-config", demo_ca / "openssl.cnf", "-passin", "env:PASS")
    openssl(*config, "-batch", "-notext", "-in", request_file, "-out", "theirs.pem")
    theirs = x509.load_pem_x509_certificate((request_file.parent / "theirs.pem").read_bytes())
    assert theirs.serial_number == following
    openssl(*config, "-revoke", issue_path(demo_ca, ours))
    openssl(*config, "-gencrl", "-out", "crl.pem")
    assert issue(demo_ca).serial_number != ours.serial_number


def test_a_directory_with_its_own_openssl_cnf_is_used_as_it_says(
    openssl: Openssl, request_file: Path, issue: Issue, tmp_path: Path
) -> None:
    """Other file names, absolute paths, variables, random serials, a key that is not encrypted."""
    path = tmp_path / "pki"
    for part in ("issued", "keys"):
        (path / part).mkdir(parents=True)
    (path / "db.txt").touch()
    (path / "number").write_text("1000\n")
    text = SYSTEM_CNF.replace("./demoCA", str(path)).replace("index.txt", "db.txt").replace("newcerts", "issued")
    text = text.replace("cacert.pem", "root.crt").replace("private/cakey.pem", "keys/root.key")
    text = text.replace("$dir/crlnumber", "$CA_default::dir/number").replace(
        "serial = $dir/serial", "rand_serial = yes"
    )
    text = text.replace(
        "basicConstraints = critical,CA:true", "basicConstraints=critical,CA:true\nkeyUsage=keyCertSign,cRLSign"
    )
    text = text.replace("default_days", "unique_subject = no\ncopy_extensions = copy\ndefault_days")
    (path / "openssl.cnf").write_text(text)
    key = ("-newkey", "rsa:2048", "-nodes", "-keyout", path / "keys" / "root.key", "-days", "1000")
    self_signed = ("-x509", "-extensions", "v3_ca", "-subj", "/CN=Own CA", "-out", path / "root.crt")
    openssl("req", "-config", path / "openssl.cnf", *key, *self_signed)
    before = (path / "openssl.cnf").read_bytes()
    assert any("not encrypted" in remark for remark in CADirectory.open(path).remarks)
    ours = issue(path)
    root = x509.load_pem_x509_certificate((path / "root.crt").read_bytes())
    verify_server(ours, [], [root], hostname="relay.example.test", now=datetime.now(UTC))
    config = ("ca", "-config", path / "openssl.cnf")
    openssl(*config, "-batch", "-in", request_file, "-out", "theirs.pem")
    openssl(*config, "-revoke", path / "issued" / f"{serial_text(ours.serial_number)}.pem")
    openssl(*config, "-gencrl", "-out", "crl.pem")
    issue(path)
    assert (path / "openssl.cnf").read_bytes() == before
    assert [row.status for row in rows(path)] == ["R", "V", "V"]
    assert sorted(p.name for p in path.iterdir() if p.suffix == ".cnf" or p.name == "newcerts") == ["openssl.cnf"]


def test_a_relative_openssl_cnf_of_ca_pl_inside_the_directory(demo_ca: Path, openssl: Openssl, issue: Issue) -> None:
    shutil.copy(demo_ca.parent / "system.cnf", demo_ca / "openssl.cnf")
    assert any("relative paths" in remark for remark in CADirectory.open(demo_ca).remarks)
    issue(demo_ca)
    openssl("ca", "-config", demo_ca / "openssl.cnf", "-updatedb", "-passin", "env:PASS", cwd=demo_ca.parent)


def test_etc_pki_ca_without_crlnumber(
    create: Callable[..., CADirectory], openssl: Openssl, issue: Issue, tmp_path: Path
) -> None:
    """Red Hat's layout: no crlnumber and no openssl.cnf of its own; -gencrl works after adoption."""
    made = create(tmp_path / "CA")
    for name in ("openssl.cnf", "crlnumber", "serial", "index.txt.attr"):
        (made.path / name).unlink()
    (made.path / "certs").mkdir()
    assert any("crlnumber" in remark for remark in CADirectory.open(made.path).remarks)
    certificate = issue(made.path)
    config = ("ca", "-config", made.path / "openssl.cnf", "-passin", "env:PASS")
    openssl(*config, "-gencrl", "-out", "crl.pem")
    openssl(
        "verify",
        "-CAfile",
        "CA/cacert.pem",
        "-crl_check",
        "-CRLfile",
        "crl.pem",
        stdin=certificate.public_bytes(Encoding.PEM),
    )
