"""01-create-ca: the CA and the pack for partners, judged by openssl and cryptography; and again."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa

from mailtls_nb.testbed import Testbed
from tests.procedures.conftest import Ran, Runbooks

PASSPHRASE = "correct horse battery staple"


def openssl(*argv: str | Path, stdin: str = "", status: int | None = 0) -> str:
    done = subprocess.run(["openssl", *map(str, argv)], input=stdin, capture_output=True, text=True, check=False)
    assert status in (None, done.returncode), done.stderr
    return done.stdout + done.stderr


def listing(directory: Path) -> list[tuple[str, int, int, bytes]]:
    return [
        (str(path), path.stat().st_mode, path.stat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in [directory, *sorted(directory.rglob("*"))]
    ]


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str | int]:
    directory = tmp_path_factory.mktemp("made")
    (directory / "passphrase").write_text(f"{PASSPHRASE}\n")
    return {
        "common_name": "Bücher Mail CA",
        "organization": "Example + Sons, Ltd.",
        "country": "DE",
        "valid_days": 400,
        "name_constraints": "example.test,192.0.2.0/24",
        "ca_dir": f"{directory}/ca",
        "ca_passphrase": f"file:{directory}/passphrase",
        "approve": "auto",
        "reason": "ticket 7",
    }


@pytest.fixture(scope="module")
def made(given: dict[str, str | int], runbooks: Runbooks) -> Ran:
    """The runbook with every parameter, in a directory of one's own."""
    planned = runbooks("01", **{**given, "approve": ""})
    assert (planned.outcome, planned.exit_status) == ("planned", 0)
    assert not Path(str(given["ca_dir"])).exists()
    ran = runbooks("01", **{**given, "approve": planned.digest})
    assert ran.error is None
    return ran


@pytest.fixture
def ca_dir(made: Ran, given: dict[str, str | int]) -> Path:
    return Path(str(given["ca_dir"]))


def test_the_record_says_what_was_done_and_seen(made: Ran) -> None:
    assert (made.outcome, made.exit_status, made.actions) == ("changed", 0, ["create-ca"])
    assert made.claims == {
        "the CA certificate is sound": ("OK", "inspection"),
        "it may sign certificates": ("yes", "inspection"),
        "its private key opens with the passphrase and belongs to it": ("yes", "inspection"),
        "its private key does not open without the passphrase": ("refused", "inspection"),
        "nobody but its owner can read the private key": ("0600 in 0700", "inspection"),
    }
    assert made.record["parameters"]["reason"] == "ticket 7"
    assert "5 claims hold." in made.shown["verdict"]


def test_the_certificate_is_what_was_asked_for(ca_dir: Path) -> None:
    text = openssl("x509", "-in", ca_dir / "cacert.pem", "-noout", "-text", "-nameopt", "utf8,sep_comma_plus")
    for part in (
        "C=DE",
        "Bücher Mail CA",
        "CA:TRUE, pathlen:1",
        "Certificate Sign, CRL Sign",
        "DNS:example.test",
        "IP:192.0.2.0/255.255.255.0",
    ):
        assert part in text
    certificate = x509.load_pem_x509_certificate((ca_dir / "cacert.pem").read_bytes())
    # It begins a little before it was made, for clocks that are slow.
    assert (certificate.not_valid_after_utc - certificate.not_valid_before_utc).days in (400, 401)


def test_the_key_opens_with_the_passphrase_only(ca_dir: Path) -> None:
    key = ca_dir / "private" / "cakey.pem"
    assert "ENCRYPTED PRIVATE KEY" in key.read_text()
    public = openssl("pkey", "-in", key, "-passin", "stdin", "-pubout", stdin=f"{PASSPHRASE}\n")
    assert public == openssl("x509", "-in", ca_dir / "cacert.pem", "-noout", "-pubkey")
    assert "BEGIN PUBLIC" not in openssl(
        "pkey", "-in", key, "-passin", "stdin", "-pubout", stdin="another\n", status=None
    )


def test_the_pack_for_partners_holds_the_certificate_and_its_fingerprint(made: Ran, ca_dir: Path) -> None:
    pack = {path.suffix: path for path in (made.folder / "partner-pack").iterdir()}
    assert set(pack) == {".pem", ".der", ".txt", ".md"}
    assert {f"partner-pack/{path.name}" for path in pack.values()} == set(made.record["artifacts"])
    fingerprint = (
        openssl("x509", "-in", ca_dir / "cacert.pem", "-noout", "-fingerprint", "-sha256").split("=")[1].strip()
    )
    for argv in (("-in", pack[".pem"]), ("-inform", "DER", "-in", pack[".der"])):
        assert fingerprint in openssl("x509", *argv, "-noout", "-fingerprint", "-sha256")
    assert fingerprint in pack[".txt"].read_text()
    assert fingerprint in made.shown["evidence"]
    instructions = pack[".md"].read_text()
    assert all(word in instructions for word in ("sendmail", "Postfix", "Exim", "smtpd_tls_CAfile"))
    assert not [path for path in pack.values() if b"PRIVATE KEY" in path.read_bytes()]


def test_a_second_run_says_unchanged_and_touches_nothing(
    made: Ran, ca_dir: Path, given: dict[str, str | int], runbooks: Runbooks
) -> None:
    before = listing(ca_dir)
    again = runbooks("01", **given)
    assert listing(ca_dir) == before
    assert (again.outcome, again.actions, again.claims) == ("unchanged", [], made.claims)
    pack = {path.name: path.read_bytes() for path in (again.folder / "partner-pack").iterdir()}
    assert pack == {path.name: path.read_bytes() for path in (made.folder / "partner-pack").iterdir()}


def test_a_ca_made_by_openssl_is_adopted_as_it_is(runbooks: Runbooks, tmp_path: Path) -> None:
    """Its directory as CA.pl makes it."""
    ca_dir = tmp_path / "ca"
    (ca_dir / "private").mkdir(parents=True, mode=0o700)
    (ca_dir / "newcerts").mkdir()
    (ca_dir / "index.txt").touch()
    (ca_dir / "serial").write_text("01\n")
    new = ("-newkey", "rsa:3072", "-keyout", ca_dir / "private" / "cakey.pem", "-passout", f"pass:{PASSPHRASE}")
    extensions = ("-addext", "keyUsage=critical,keyCertSign,cRLSign")
    openssl("req", "-x509", *new, "-subj", "/CN=Elder CA", "-days", "900", *extensions, "-out", ca_dir / "cacert.pem")
    (ca_dir / "private" / "cakey.pem").chmod(0o600)
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    given = {"ca_dir": str(ca_dir), "ca_passphrase": f"file:{tmp_path}/passphrase", "common_name": "Elder CA"}
    before = listing(ca_dir)
    ran = runbooks("01", **given, key_type="rsa-3072")
    assert ran.outcome == "unchanged"
    assert listing(ca_dir) == before
    other_type = runbooks("01", **given, key_type="ec-p384")
    assert other_type.exit_status == 2
    assert "its key type is rsa-3072, asked for is ec-p384" in other_type.said


def test_an_rsa_ca(runbooks: Runbooks, given: dict[str, str | int], tmp_path: Path) -> None:
    assert runbooks("01", **{**given, "ca_dir": str(tmp_path / "ca")}, key_type="rsa-3072").outcome == "changed"
    key = x509.load_pem_x509_certificate((tmp_path / "ca" / "cacert.pem").read_bytes()).public_key()
    assert isinstance(key, rsa.RSAPublicKey)
    assert key.key_size == 3072


@pytest.mark.testbed
def test_the_testbeds_ca_needs_no_approval_and_no_other_ca_has_it(
    pristine: Testbed, runbooks: Runbooks, tmp_path: Path
) -> None:
    ran = runbooks("01")
    assert (ran.outcome, ran.record["approval"]["how"]) == ("changed", "testbed")
    assert (pristine.ca_dir / "cacert.pem").is_file()
    (tmp_path / "passphrase").write_text(PASSPHRASE)
    own = runbooks("01", ca_dir=str(tmp_path / "ca"), ca_passphrase=f"file:{tmp_path}/passphrase")
    assert (own.outcome, own.exit_status) == ("planned", 3)
    assert not (tmp_path / "ca").exists()
