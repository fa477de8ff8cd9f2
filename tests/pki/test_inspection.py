"""A CA directory is inspected without a byte of it being written, whatever state it is in."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509

from mailtls_nb.pki import succession
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.inspection import Inspected, directories_in_use, inspect
from mailtls_nb.pki.profiles import PublicKey
from mailtls_nb.pki.revoking import revoke, sign_new_crl
from mailtls_nb.pki.succession import Succession
from mailtls_nb.secret import Secret
from tests.pki.conftest import Openssl

DAY = timedelta(days=1)


def tree(path: Path) -> dict[str, tuple[int, int, bytes]]:
    """Every file and directory: mode, time of change, content."""
    return {
        str(found.relative_to(path)): (found.stat().st_mode, found.stat().st_mtime_ns, _content(found))
        for found in (path, *path.rglob("*"))
    }


def _content(path: Path) -> bytes:
    return path.read_bytes() if path.is_file() else b""


def inspected(path: Path, now: datetime) -> Inspected:
    """Whatever is found, nothing is written."""
    before = tree(path)
    found = inspect(path, now=now, warn=30 * DAY)
    assert tree(path) == before
    return found


@pytest.fixture
def used(ca: CADirectory, now: datetime, public_key: PublicKey, passphrase: Secret) -> CADirectory:
    """A CA with a certificate that ends in 10 days, one in 300, and a CRL."""
    for name, days in (("a.test", 10), ("b.test", 300)):
        ca.issue(public_key, (name,), roles="both", valid_days=days, passphrase=passphrase, now=now)
    sign_new_crl(ca, days=30, passphrase=passphrase, now=now)
    return ca


def test_a_sound_directory(used: CADirectory, now: datetime) -> None:
    found = inspected(used.path, now)
    assert (found.problems, found.is_unfinished) == ((), False)
    assert (found.certificate, found.newest) == (used.ca_certificate, used.newest_certificate())
    assert [row.subject for row in found.ends.first] == ["/CN=a.test", "/CN=b.test"]
    assert found.ends.soon == 1
    assert found.crl is not None
    assert found.crl.next_update_utc == now + 30 * DAY


def test_what_is_revoked_and_not_told_is_found(used: CADirectory, now: datetime, passphrase: Secret) -> None:
    (first, _) = used.rows()
    revoke(used, [first.serial], "keyCompromise", now=now)
    (row,) = inspected(used.path, now).ends.untold_first
    assert (row.serial, row.status) == (first.serial, "R")
    sign_new_crl(used, days=30, passphrase=passphrase, now=now)
    told = inspected(used.path, now).ends
    assert (told.revoked, told.untold) == (1, 0)
    ended = inspected(used.path, now + 11 * DAY).ends
    assert (ended.revoked, ended.untold) == (0, 0)


def test_a_directory_without_a_crl_is_sound(ca: CADirectory, now: datetime) -> None:
    found = inspected(ca.path, now)
    assert (found.crl, found.problems, found.newest) == (None, (), None)


def test_what_a_crash_left_stays_and_is_told(used: CADirectory, now: datetime) -> None:
    """`CADirectory.open` would finish it."""
    used.layout.pending.write_text("0A\n")
    assert inspected(used.path, now).is_unfinished
    assert len(inspected(used.path, now).ends.first) == 2
    CADirectory.open(used.path)
    assert not inspected(used.path, now).is_unfinished


def test_the_crl_lies_where_openssl_cnf_says(used: CADirectory, now: datetime) -> None:
    configuration = used.layout.configuration
    configuration.write_text(configuration.read_text().replace("$dir/crl.pem", "$dir/lists/now.pem"))
    assert inspected(used.path, now).crl is None
    (used.path / "lists").mkdir()
    (used.path / "crl.pem").rename(used.path / "lists" / "now.pem")
    assert inspected(used.path, now).crl is not None


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda ca: ca.layout.certificate.write_text("garbage"), "cacert.pem holds no certificate"),
        (lambda ca: ca.layout.certificate.unlink(), "cacert.pem: No such file"),
        (lambda ca: ca.layout.crl.write_text("garbage"), "crl.pem holds no CRL of this CA"),
        (lambda ca: ca.layout.database.write_text("V\tgarbage\n"), "index.txt, line 1: "),
        (lambda ca: ca.layout.database.unlink(), "index.txt: No such file"),
        (lambda ca: ca.layout.configuration.write_text("[ca]\n"), "describes no CA"),
    ],
    ids=["certificate", "no certificate", "CRL", "index", "no index", "configuration"],
)
def test_what_cannot_be_read_is_a_problem_and_no_error(
    damage: Callable[[CADirectory], object], said: str, used: CADirectory, now: datetime
) -> None:
    damage(used)
    (problem,) = inspected(used.path, now).problems
    assert said in problem.what
    assert problem.do


def test_a_directory_made_by_openssl(openssl: Openssl, tmp_path: Path, now: datetime) -> None:
    """Without openssl.cnf in it, as CA.pl leaves it; its root has no random serial and its index is empty."""
    path = tmp_path / "demoCA"
    (path / "newcerts").mkdir(parents=True)
    (path / "private").mkdir()
    key = path / "private" / "cakey.pem"
    openssl("req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=Old", "-days", "9", "-keyout", key,
            "-out", path / "cacert.pem")  # fmt: skip
    (path / "index.txt").touch()
    found = inspected(path, now)
    assert found.problems == ()
    assert isinstance(found.certificate, x509.Certificate)


def test_cas_that_follow_each_other_are_looked_at_until_one_is_withdrawn(
    create: Callable[..., CADirectory], tmp_path: Path
) -> None:
    old, new = create(tmp_path / "old"), create(tmp_path / "new", name="New CA")
    assert directories_in_use(old.path) == (old.path,)
    succession.write_predecessor(new.layout, old.path)
    for stage, in_use in (
        ("both", (old.path, new.path)),
        ("reissue", (old.path, new.path)),
        ("withdrawn", (new.path,)),
    ):
        succession.write_successor(old.layout, Succession(new.path, stage))  # type: ignore[arg-type]
        assert directories_in_use(old.path) == directories_in_use(new.path) == in_use
    succession.write_successor(new.layout, Succession(old.path, "both"))
    assert directories_in_use(old.path) == (new.path,)
