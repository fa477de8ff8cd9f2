"""The CA directory: made, opened, issued from; bad input and bad disks; many at once."""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mailtls_nb.errors import BadParameter, CADirectoryError, NotReady
from mailtls_nb.names import DistinguishedName
from mailtls_nb.pki.chain import verify_client, verify_server
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.profiles import PublicKey, key_type
from mailtls_nb.secret import Secret

Create = Callable[..., CADirectory]
NAMES = ("relay.example.test",)
P256 = key_type("ec-p256", use="ca")


@pytest.fixture
def issue(passphrase: Secret, now: datetime, public_key: PublicKey) -> Callable[..., x509.Certificate]:
    """issue(ca, **anything that differs)"""

    def issue(ca: CADirectory, **others: object) -> x509.Certificate:
        settings = {"names": NAMES, "roles": "both", "valid_days": 365, "passphrase": passphrase, "now": now, **others}
        return ca.issue(settings.pop("public_key", public_key), settings.pop("names"), **settings)  # type: ignore[arg-type]

    return issue


def content(path: Path) -> dict[str, bytes]:
    """Every file of a directory, the lock apart."""
    files = (p for p in path.rglob("*") if p.is_file() and p.name != ".mailtls-nb.lock")
    return {str(p.relative_to(path)): p.read_bytes() for p in files}


def test_a_new_ca_has_the_layout_of_openssl_and_private_is_private(ca: CADirectory) -> None:
    modes = {str(p.relative_to(ca.path)): oct(stat.S_IMODE(p.stat().st_mode)) for p in ca.path.rglob("*")}
    assert modes == {
        "cacert.pem": "0o644",
        "crl": "0o755",
        "crlnumber": "0o644",
        "index.txt": "0o644",
        "index.txt.attr": "0o644",
        "newcerts": "0o755",
        "openssl.cnf": "0o644",
        "private": "0o700",
        "private/cakey.pem": "0o600",
        "serial": "0o644",
    }
    assert b"BEGIN ENCRYPTED PRIVATE KEY" in ca.layout.private_key.read_bytes()
    assert ca.remarks == ()
    assert [p.name for p in ca.path.parent.iterdir()] == ["ca"]


def test_the_modes_hold_whatever_the_umask(create: Create, tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        ca = create(tmp_path / "ca")
    finally:
        os.umask(before)
    assert stat.S_IMODE(ca.layout.private_key.stat().st_mode) == 0o600
    assert stat.S_IMODE(ca.path.stat().st_mode) == 0o755


def test_creating_the_same_ca_again_changes_nothing(create: Create, tmp_path: Path) -> None:
    first = create(tmp_path / "ca", name_constraints=("example.test",))
    before = content(first.path)
    assert CADirectory.existing(first.path, DistinguishedName("Example Mail CA"), P256, ("example.test",)) is not None
    assert create(first.path, name_constraints=("example.test",)).fingerprint == first.fingerprint
    assert content(first.path) == before


def test_another_ca_is_in_the_way(create: Create, tmp_path: Path) -> None:
    """The error names what is there and what was asked for."""
    ca = create(tmp_path / "ca")
    before = content(ca.path)
    for others, words in (
        ({"name": "Other CA"}, r"name is /CN=Example Mail CA, asked for is /CN=Other CA"),
        ({"key": "ec-p384"}, r"key type is ec-p256, asked for is ec-p384"),
        ({"name_constraints": ("example.test",)}, r"name constraints is none, asked for is example\.test"),
    ):
        with pytest.raises(NotReady, match=words):
            create(ca.path, **others)
    assert content(ca.path) == before


def test_what_is_no_ca_is_left_alone(create: Create, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "file").write_text("x")
    before = content(tmp_path)
    for path, error, words in (
        (tmp_path / "file", NotReady, "not a CA directory"),
        (tmp_path / "full", NotReady, "not a CA directory"),
        (tmp_path / "absent" / "ca", BadParameter, "mkdir -p"),
        (Path("ca"), BadParameter, "relative"),
        (tmp_path / "a\nb", BadParameter, "control character"),
    ):
        with pytest.raises(error, match=words):
            create(path)
    assert content(tmp_path) == before
    (tmp_path / "empty").mkdir()
    assert create(tmp_path / "empty").name == "/CN=Example Mail CA"


def test_a_passphrase_that_openssl_could_not_be_given_is_refused(create: Create, tmp_path: Path) -> None:
    for value in (b"", b"abc", b"two\nlines", b"x" * 1024):
        with pytest.raises(BadParameter, match="ca_passphrase"):
            create(tmp_path / "ca", passphrase=Secret(value))
    assert list(tmp_path.iterdir()) == []


def test_the_passphrase_is_nowhere_in_the_directory(ca: CADirectory, issue: Callable[..., object]) -> None:
    issue(ca)
    files = content(ca.path)
    assert len(files) == 8
    assert not any(b"correct horse" in data for data in files.values())
    assert [name for name, data in files.items() if b"PRIVATE KEY" in data] == ["private/cakey.pem"]


def test_what_is_issued_verifies_and_is_found_again(
    ca: CADirectory, issue: Callable[..., x509.Certificate], public_key: PublicKey, now: datetime
) -> None:
    first, second = issue(ca), issue(ca, names=("relay.example.test", "mail.example.test"))
    again = CADirectory.open(ca.path)
    verify_server(second, [], [again.ca_certificate], hostname="mail.example.test", now=now)
    verify_client(first, [], [again.ca_certificate], now=now)
    assert again.find(public_key, now=now) == (second, first)
    assert again.find(ec.generate_private_key(ec.SECP256R1()).public_key(), now=now) == ()
    assert again.find(public_key, now=now + timedelta(days=400)) == ()
    assert again.certificate_for_serial(first.serial_number) == first
    assert again.certificate_for_serial(1) is None
    assert [row.serial for row in again.rows()] == [first.serial_number, second.serial_number]
    assert again.unmatched() == ((), ())


def test_nothing_is_issued_without_the_right_passphrase(ca: CADirectory, issue: Callable[..., object]) -> None:
    before = content(ca.path)
    for wrong, words in ((None, "is missing"), (Secret(b""), "is missing"), (Secret(b"wrong"), "does not open")):
        with pytest.raises(BadParameter, match=words) as caught:
            issue(ca, passphrase=wrong)
        assert caught.value.parameter == "ca_passphrase"
    for days in (0, 3651):
        with pytest.raises(BadParameter, match="valid_days"):
            issue(ca, valid_days=days)
    assert content(ca.path) == before


def test_a_serial_is_used_once(ca: CADirectory, issue: Callable[..., object]) -> None:
    issue(ca, serial=0xABC)
    assert (ca.path / "newcerts" / "0ABC.pem").exists()
    with pytest.raises(CADirectoryError, match="serial 0ABC is in use"):
        issue(ca, serial=0xABC)
    (ca.path / "newcerts" / "0ABC.pem").unlink()
    with pytest.raises(CADirectoryError, match="serial 0ABC is in use"):
        issue(ca, serial=0xABC)


def test_a_unique_subject_is_respected(ca: CADirectory, issue: Callable[..., object]) -> None:
    """And only then: `no` is what a renewal needs."""
    ca.layout.attributes.write_text("unique_subject = yes\n")
    issue(ca)
    issue(ca, names=("mail.example.test",))
    with pytest.raises(CADirectoryError, match=r"has one: serial [0-9A-F]+(.|\n)*updatedb"):
        issue(ca)
    ca.layout.attributes.write_text("unique_subject = no\n")
    issue(ca)


def test_the_last_line_of_an_index_is_mended(ca: CADirectory, issue: Callable[..., object]) -> None:
    """An editor left out the last LF; a line cut in the middle needs a person."""
    issue(ca)
    index = ca.layout.database
    whole = index.read_bytes()
    index.write_bytes(whole[:-1])
    assert len(list(CADirectory.open(ca.path).rows())) == 1
    assert index.read_bytes() == whole[:-1]
    issue(ca, names=("mail.example.test",))
    assert index.read_bytes().startswith(whole)
    index.write_bytes(whole)
    index.write_bytes(whole + whole[:20])
    with pytest.raises(CADirectoryError, match="line 2"):
        CADirectory.open(ca.path)
    assert index.read_bytes() == whole + whole[:20]


def test_what_is_not_sound_is_named(ca: CADirectory, issue: Callable[..., object], tmp_path: Path) -> None:
    pem = ca.layout.certificate.read_bytes()
    ca.layout.certificate.write_bytes(b"garbage")
    with pytest.raises(CADirectoryError, match=r"cacert\.pem holds no certificate"):
        CADirectory.open(ca.path)
    ca.layout.certificate.write_bytes(pem)
    ca.layout.database.rename(tmp_path / "away")
    with pytest.raises(CADirectoryError, match=r"index\.txt: No such file"):
        CADirectory.open(ca.path)
    (tmp_path / "away").rename(ca.layout.database)
    ca.layout.private_key.write_bytes(b"-----BEGIN PRIVATE KEY-----\n-----END PRIVATE KEY-----\n")
    with pytest.raises(CADirectoryError, match="no private key"):
        issue(CADirectory.open(ca.path))
    with pytest.raises(CADirectoryError, match="No such file"):
        CADirectory.open(tmp_path / "absent")


def test_a_note_of_a_pending_issue_that_is_not_ours_is_left_alone(ca: CADirectory) -> None:
    ca.layout.pending.write_text("x\n")
    with pytest.raises(CADirectoryError, match="none of ours"):
        CADirectory.open(ca.path)
    ca.layout.pending.write_text("0A\n")
    (ca.path / "newcerts" / "0A.pem").write_text("x\n")
    with pytest.raises(CADirectoryError, match="none of ours"):
        CADirectory.open(ca.path)
    (ca.path / "newcerts" / "0A.pem").unlink()
    CADirectory.open(ca.path)
    assert not ca.layout.pending.exists()


def test_a_key_of_another_ca_signs_nothing(create: Create, issue: Callable[..., object], tmp_path: Path) -> None:
    one, two = create(tmp_path / "one"), create(tmp_path / "two")
    one.layout.private_key.write_bytes(two.layout.private_key.read_bytes())
    with pytest.raises(CADirectoryError, match="is not the key of"):
        issue(one)


def test_a_directory_that_was_moved_says_what_to_change(
    ca: CADirectory, issue: Callable[..., object], tmp_path: Path
) -> None:
    new = tmp_path / "moved"
    ca.path.rename(new)
    with pytest.raises(CADirectoryError, match=f"set `dir = {new}`"):
        CADirectory.open(new)
    configuration = new / "openssl.cnf"
    configuration.write_text(configuration.read_text().replace(str(ca.path), str(new)))
    issue(CADirectory.open(new))


def test_a_writer_waits_for_the_other_and_names_it(ca: CADirectory, issue: Callable[..., object]) -> None:
    issue(ca)
    with ca.layout.lock.open("r+b") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(CADirectoryError, match=f"process {os.getpid()} on .*issues a certificate for relay"):
            issue(ca, wait_s=0.1)
        with ThreadPoolExecutor() as pool:
            waiting = pool.submit(issue, ca)
            time.sleep(0.1)
            assert not waiting.done()
            fcntl.flock(lock, fcntl.LOCK_UN)
            waiting.result(timeout=10)
    assert len(list(ca.rows())) == 2


ISSUE_ONE = """
import sys
from datetime import UTC, datetime
from pathlib import Path
from cryptography.hazmat.primitives.asymmetric import ec
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.secret import Secret
certificate = CADirectory.open(Path(sys.argv[1])).issue(
    ec.generate_private_key(ec.SECP256R1()).public_key(), ("relay.example.test",), roles="both", valid_days=30,
    passphrase=Secret(sys.stdin.buffer.read()), now=datetime.now(UTC))
print(certificate.serial_number)
"""


def test_16_processes_issue_at_once(ca: CADirectory, passphrase: Secret, openssl: Callable[..., str]) -> None:
    argv = [sys.executable, "-c", ISSUE_ONE, str(ca.path)]

    def one(_: int) -> int:
        done = subprocess.run(argv, input=passphrase.reveal(), capture_output=True, timeout=60, check=True)
        return int(done.stdout)

    with ThreadPoolExecutor(16) as pool:
        serials = list(pool.map(one, range(16)))
    assert len(set(serials)) == 16
    assert {row.serial for row in ca.rows()} == set(serials)
    assert ca.unmatched() == ((), ())
    assert ca.layout.database.read_bytes().count(b"\n") == 16
    openssl("ca", "-config", ca.layout.configuration, "-updatedb", "-passin", "env:PASS")


def test_two_create_the_same_ca_at_once(create: Create, tmp_path: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: create(tmp_path / "ca"), range(4)))
    assert len({ca.fingerprint for ca in made}) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["ca"]


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 200 kB."""
    mount = tmp_path / "disk"
    mount.mkdir()
    argv = ["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(mount)]
    if subprocess.run(argv, capture_output=True, check=False).returncode:
        pytest.skip("may not mount a file system here")
    try:
        yield mount
    finally:
        subprocess.run(["umount", "-l", str(mount)], check=True)


def fill(disk: Path, *, but: int = 0) -> Path:
    """Use up all space but so many octets (in whole pages)."""
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while file.write(b"x" * 4096):
            pass
    os.truncate(ballast, ballast.stat().st_size - but)
    return ballast


@pytest.mark.parametrize("pages", [0, 1, 2])
def test_a_full_disk_leaves_the_ca_as_it_was(
    pages: int, create: Create, issue: Callable[..., object], small_disk: Path
) -> None:
    """With room for nothing, for the pending note, and for the certificate but not its row."""
    ca = create(small_disk / "ca")
    issue(ca)
    # The index ends 30 octets before a page does, so that only a part of its next row fits.
    size = ca.layout.database.stat().st_size
    filler = b"V\t380801120000Z\t\tFE\tunknown\t/CN="
    with ca.layout.database.open("ab") as index:
        index.write(filler + b"x" * (4096 - 30 - size - len(filler) - 1) + b"\n")
    before = content(ca.path)
    ballast = fill(small_disk, but=pages * 4096)
    with pytest.raises(CADirectoryError, match="No space left on device") as caught:
        issue(ca)
    assert "everything was put back" in str(caught.value)
    assert content(ca.path) == before
    ballast.unlink()
    issue(CADirectory.open(ca.path))


def test_a_full_disk_leaves_no_part_of_a_new_ca(create: Create, small_disk: Path) -> None:
    ballast = fill(small_disk, but=3 * 4096)
    with pytest.raises(CADirectoryError, match="No space left on device"):
        create(small_disk / "ca")
    assert [p.name for p in small_disk.iterdir()] == ["ballast"]
    ballast.unlink()
    create(small_disk / "ca")


def test_a_read_only_directory_can_be_read_and_not_written(
    create: Create, issue: Callable[..., object], small_disk: Path
) -> None:
    ca = create(small_disk / "ca")
    issue(ca)
    before = content(ca.path)
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    assert len(list(CADirectory.open(ca.path).rows())) == 1
    with pytest.raises(CADirectoryError, match="Read-only file system"):
        issue(ca)
    with pytest.raises(CADirectoryError, match="Read-only file system"):
        create(small_disk / "other")
    assert content(ca.path) == before
