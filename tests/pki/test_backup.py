"""A backup of the CA directory, restored: sound, and it goes on from where it was; an old one says what it lacks."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mailtls_nb.errors import CADirectoryError
from mailtls_nb.pki import adoption, revoking
from mailtls_nb.pki.crl import crl_number, tells_of
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import serial_text
from mailtls_nb.pki.index_changes import IndexChange
from mailtls_nb.pki.lint import lint
from mailtls_nb.pki.revocation import Revocation
from mailtls_nb.secret import Secret

Openssl = Callable[..., str]
Issue = Callable[..., x509.Certificate]


@pytest.fixture
def issue(passphrase: Secret, now: datetime) -> Issue:
    def issue(ca: CADirectory, name: str = "relay.example.test") -> x509.Certificate:
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        return ca.issue(key, (name,), roles="both", valid_days=30, passphrase=passphrase, now=now)

    return issue


@pytest.fixture
def revoke(passphrase: Secret, now: datetime) -> Callable[..., x509.CertificateRevocationList]:
    def revoke(ca: CADirectory, *certificates: x509.Certificate) -> x509.CertificateRevocationList:
        revocation = Revocation.of(now, "superseded")
        change = IndexChange(revoke={certificate.serial_number: revocation for certificate in certificates})
        return revoking.sign_new_crl(ca, days=30, passphrase=passphrase, now=now, change=change)

    return revoke


def back_up(path: Path, to: Path) -> Path:
    """As the README says, with other tools than ours."""
    lock = path / ".mailtls-nb.lock"
    argv: list[str | Path] = ["flock", lock, "tar", "--create", "--file", to, "--directory", path.parent, path.name]
    subprocess.run(argv, check=True, capture_output=True)
    return to


def restore(backup: Path, into: Path) -> None:
    subprocess.run(["tar", "--extract", "--preserve-permissions", "--file", backup, "--directory", into], check=True)


def names_of_problems(ca: CADirectory, now: datetime) -> list[str]:
    return [problem.name for problem in lint(ca.layout, now=now)]


def goes_on(
    ca: CADirectory, old: x509.Certificate, number: int, issue: Issue, revoke: Issue, now: datetime, openssl: Openssl
) -> None:
    """It issues, revokes and numbers its CRLs on, and openssl agrees with all of it."""
    new = issue(ca, "new.example.test")
    crl = revoke(ca, old)
    assert crl_number(crl) == number  # type: ignore[arg-type]
    path = ca.path
    verify = ("verify", "-crl_check", "-CRLfile", path / "crl.pem", "-CAfile", path / "cacert.pem")
    assert "OK" in openssl(*verify, path / "newcerts" / f"{serial_text(new.serial_number)}.pem")
    of_old = path / "newcerts" / f"{serial_text(old.serial_number)}.pem"
    assert "certificate revoked" in openssl(*verify, of_old, status=2)
    config = ("ca", "-config", path / "openssl.cnf", "-passin", "env:PASS")
    openssl(*config, "-gencrl", "-out", path / "crl.pem")
    theirs = x509.load_pem_x509_crl((path / "crl.pem").read_bytes())
    assert crl_number(theirs) == number + 1
    assert tells_of(theirs, revoking.revoked_rows(ca))
    assert names_of_problems(ca, now) == []


def test_restored_to_its_place(
    ca: CADirectory, issue: Issue, revoke: Issue, now: datetime, openssl: Openssl, tmp_path: Path
) -> None:
    old, gone = issue(ca), issue(ca, "gone.example.test")
    revoke(ca, gone)
    before = {p: (p.stat().st_mode, p.read_bytes()) for p in ca.path.rglob("*") if p.is_file()}
    backup = back_up(ca.path, tmp_path / "backup.tar")
    shutil.rmtree(ca.path)
    restore(backup, tmp_path)
    assert {p: (p.stat().st_mode, p.read_bytes()) for p in ca.path.rglob("*") if p.is_file()} == before
    again = CADirectory.open(ca.path)
    assert again.remarks == ()
    assert names_of_problems(again, now) == []
    goes_on(again, old, 2, issue, revoke, now, openssl)


def test_restored_to_another_place(
    ca: CADirectory, issue: Issue, revoke: Issue, now: datetime, openssl: Openssl, tmp_path: Path
) -> None:
    """`dir` in openssl.cnf has to follow: until then nothing is done in the wrong place."""
    old = issue(ca)
    revoke(ca)
    backup = back_up(ca.path, tmp_path / "backup.tar")
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    restore(backup, elsewhere)
    moved = elsewhere / ca.path.name
    with pytest.raises(CADirectoryError, match=f"set `dir = {moved}`"):
        CADirectory.open(moved)
    configuration = moved / "openssl.cnf"
    configuration.write_text(configuration.read_text().replace(str(ca.path), str(moved)))
    index = ca.layout.database.read_bytes()
    again = CADirectory.open(moved)
    assert names_of_problems(again, now) == []
    goes_on(again, old, 2, issue, revoke, now, openssl)
    assert ca.layout.database.read_bytes() == index


def test_an_old_backup_restored_over_the_directory(
    ca: CADirectory, issue: Issue, revoke: Issue, now: datetime, openssl: Openssl, tmp_path: Path
) -> None:
    """Certificates issued since have no row, and CRL numbers would be given twice: both are named, and cured."""
    old = issue(ca)
    backup = back_up(ca.path, tmp_path / "backup.tar")
    since, lost = issue(ca, "since.example.test"), issue(ca, "lost.example.test")
    for _ in range(3):
        revoke(ca, lost)
    restore(backup, tmp_path)
    again = CADirectory.open(ca.path)
    # The CRL was not in the backup, and stays: the numbers go on after it.
    problems = {problem.name: problem for problem in lint(again.layout, now=now)}
    assert list(problems) == ["crlnumber-behind", "row-missing"]
    for certificate in (since, lost):
        assert serial_text(certificate.serial_number) in problems["row-missing"].what
    with pytest.raises(CADirectoryError, match="has no row for the serial"):
        revoke(again, lost)
    # What the lint says, at its word: rows for them, what had been revoked is revoked again, the number set.
    config = ("ca", "-config", ca.path / "openssl.cnf", "-passin", "env:PASS")
    for certificate in (since, lost):
        openssl(*config, "-valid", ca.path / "newcerts" / f"{serial_text(certificate.serial_number)}.pem")
    assert names_of_problems(again, now) == ["crlnumber-behind"]
    assert crl_number(revoke(again, lost)) == 4  # type: ignore[arg-type]
    assert names_of_problems(again, now) == []
    goes_on(again, old, 5, issue, revoke, now, openssl)


def test_an_old_backup_with_an_old_crl(
    ca: CADirectory, issue: Issue, revoke: Issue, now: datetime, openssl: Openssl, tmp_path: Path
) -> None:
    """Only the hosts have the newest number then: a person writes the next one into crlnumber."""
    old = issue(ca)
    revoke(ca)
    backup = back_up(ca.path, tmp_path / "backup.tar")
    on_hosts = crl_number(max((revoke(ca) for _ in range(3)), key=lambda crl: crl_number(crl) or 0))  # type: ignore[arg-type]
    shutil.rmtree(ca.path)
    restore(backup, tmp_path)
    again = CADirectory.open(ca.path)
    assert on_hosts == 4
    # Nothing in the directory tells of it.
    assert names_of_problems(again, now) == []
    assert revoking.next_crl_number(again) == 2
    (ca.path / "crlnumber").write_text("05\n")
    goes_on(again, old, 5, issue, revoke, now, openssl)


def test_a_backup_and_a_writer_wait_for_each_other(ca: CADirectory, issue: Issue, tmp_path: Path) -> None:
    """flock(1) and our writers use the same lock: a backup never has a certificate without its row."""
    issue(ca)
    lock = ca.layout.lock
    held = tmp_path / "held"
    sleeping = subprocess.Popen(["flock", lock, "sh", "-c", 'touch "$1"; sleep 1', "sh", held])
    while not held.exists():
        time.sleep(0.01)
    began = time.monotonic()
    issue(ca)
    assert sleeping.poll() is not None or time.monotonic() - began > 0.5
    assert sleeping.wait() == 0
    # The other way round: while a writer is at work, a backup does not begin.
    descriptor = os.open(lock, os.O_RDWR)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        argv = ["flock", "--nonblock", "--conflict-exit-code", "7", str(lock), "true"]
        assert subprocess.run(argv, check=False).returncode == 7
    finally:
        os.close(descriptor)
    subprocess.run(["flock", "--nonblock", lock, "true"], check=True)


def test_the_layout_of_a_restored_directory_is_found_without_writing(ca: CADirectory, now: datetime) -> None:
    (ca.path / "openssl.cnf").unlink()
    before = sorted(ca.path.rglob("*"))
    layout, _ = adoption.find_layout(ca.path)
    assert lint(layout, now=now) == ()
    assert sorted(ca.path.rglob("*")) == before
