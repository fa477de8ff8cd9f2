"""A cure that is taken back, with the index or the CRL changed by others in between."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from types import SimpleNamespace
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mailtls_nb.errors import ChangeFailed, CommandFailed, MailTLSError
from mailtls_nb.pki import mending, revoking
from mailtls_nb.pki.cures import Cures
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import serial_text
from mailtls_nb.procedures.issue.cure import Curing
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.secret import Secret

SUBJECT = "/CN=relay.example.test"


@pytest.fixture
def issue(ca: CADirectory, passphrase: Secret, now: datetime) -> Callable[[], x509.Certificate]:
    def issue() -> x509.Certificate:
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        return ca.issue(key, ("relay.example.test",), roles="both", valid_days=30, passphrase=passphrase, now=now)

    return issue


@pytest.fixture
def old(ca: CADirectory, issue: Callable[[], x509.Certificate]) -> x509.Certificate:
    """In service, of a CA whose subjects are unique."""
    ca.layout.attributes.write_text("unique_subject = yes\n")
    return issue()


@pytest.fixture
def cures(ca: CADirectory, old: x509.Certificate, now: datetime) -> Cures:
    cures = mending.look(ca.layout, SUBJECT, now=now)[1]
    assert [row.serial for row in cures.superseded] == [old.serial_number]
    return cures


def rows(ca: CADirectory) -> list[tuple[str, str]]:
    return [(row.status, row.revoked.reason if row.revoked else "") for row in ca.rows()]


def test_what_nobody_touched_is_valid_again(
    ca: CADirectory, cures: Cures, issue: Callable[[], x509.Certificate], passphrase: Secret, now: datetime
) -> None:
    revoking.sign_new_crl(ca, days=7, passphrase=passphrase, now=now)
    before = ca.layout.database.read_bytes()
    revoked = mending.cure(ca, cures, now=now)
    new = issue()
    assert mending.take_back(ca, revoked, new.serial_number, now=now) == {}
    assert rows(ca) == [("V", ""), ("R", "superseded")]
    assert ca.layout.database.read_bytes().startswith(before)


def test_a_compromise_that_was_told_meanwhile_is_never_erased(
    ca: CADirectory, old: x509.Certificate, cures: Cures, issue: Callable[[], x509.Certificate], now: datetime
) -> None:
    revoked = mending.cure(ca, cures, now=now)
    new = issue()
    revoking.revoke(ca, [old.serial_number], "keyCompromise", now=now + timedelta(seconds=5))
    kept = mending.take_back(ca, revoked, new.serial_number, now=now)
    assert list(kept) == [old.serial_number]
    assert "keyCompromise" in kept[old.serial_number]
    assert rows(ca) == [("R", "keyCompromise"), ("R", "superseded")]


def test_what_a_crl_tells_of_stays_revoked(
    ca: CADirectory,
    old: x509.Certificate,
    cures: Cures,
    issue: Callable[[], x509.Certificate],
    passphrase: Secret,
    now: datetime,
) -> None:
    revoked = mending.cure(ca, cures, now=now)
    new = issue()
    revoking.sign_new_crl(ca, days=7, passphrase=passphrase, now=now)
    assert mending.take_back(ca, revoked, new.serial_number, now=now) == {
        old.serial_number: "a CRL that was signed meanwhile tells of it"
    }
    assert rows(ca) == [("R", "superseded"), ("R", "superseded")]


def test_a_compromise_told_before_the_cure_is_not_taken_for_its_own(
    ca: CADirectory, old: x509.Certificate, cures: Cures, now: datetime
) -> None:
    revoking.revoke(ca, [old.serial_number], "keyCompromise", now=now)
    assert mending.cure(ca, cures, now=now) == ()
    assert rows(ca) == [("R", "keyCompromise")]


@pytest.mark.parametrize(
    "error",
    [
        ChangeFailed("the daemon does not answer", left="everything was put back", do="look at its log"),
        CommandFailed("the daemon does not answer"),
        OSError("the daemon does not answer"),
    ],
)
def test_the_error_says_what_stays_revoked(
    error: Exception, ca: CADirectory, old: x509.Certificate, cures: Cures, now: datetime
) -> None:
    context = cast(Context, SimpleNamespace(now=lambda: now))

    def change() -> None:
        with Curing(context) as curing:
            curing.carry_out(ca, cures)
            revoking.revoke(ca, [old.serial_number], "keyCompromise", now=now)
            raise error

    with pytest.raises(ChangeFailed, match="the daemon does not answer") as failed:
        change()
    stays = f"the certificate {serial_text(old.serial_number)} stays revoked: the index says "
    assert stays in failed.value.left
    assert failed.value.left.endswith("keyCompromise of it by now")
    assert "valid" not in failed.value.left
    assert "a certificate that is revoked and in service is replaced" in failed.value.do
    if isinstance(error, MailTLSError):
        assert failed.value.left.startswith(error.left)
        assert failed.value.do.startswith(error.do)
    assert rows(ca) == [("R", "keyCompromise")]
