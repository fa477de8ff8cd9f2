"""A clock that lies before what the CA has signed: told, and nothing is signed by it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from pathlib import Path

import pytest

from mailtls_nb.errors import NotReady
from mailtls_nb.pki.clock import not_begun, refuse_clock_behind
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import serial_text
from mailtls_nb.pki.profiles import BACKDATED, PublicKey
from mailtls_nb.pki.revoking import newest_crl, revoke, sign_new_crl
from mailtls_nb.secret import Secret

DAY, SECOND = timedelta(days=1), timedelta(seconds=1)


def problem(ca: CADirectory, now: datetime) -> str:
    return not_begun(now, ca=ca.ca_certificate, newest=ca.newest_certificate(), crl=newest_crl(ca))


def issue(ca: CADirectory, key: PublicKey, passphrase: Secret, at: datetime) -> int:
    return ca.issue(key, ("a.test",), roles="both", valid_days=30, passphrase=passphrase, now=at).serial_number


def test_what_was_signed_by_now_is_no_problem(
    ca: CADirectory, now: datetime, public_key: PublicKey, passphrase: Secret
) -> None:
    assert problem(ca, now) == ""
    issue(ca, public_key, passphrase, now)
    sign_new_crl(ca, days=30, passphrase=passphrase, now=now)
    assert problem(ca, now) == problem(ca, now - BACKDATED) == ""


def test_a_ca_a_certificate_and_a_crl_that_begin_later_are_named(
    ca: CADirectory, now: datetime, public_key: PublicKey, passphrase: Secret
) -> None:
    """The latest of them is the one that tells how far the clock is off."""
    assert problem(ca, now - BACKDATED - SECOND).startswith("the CA certificate itself begins only on ")
    serial = issue(ca, public_key, passphrase, now + DAY)
    begins = f"{now + DAY - BACKDATED:%Y-%m-%d %H:%M:%S} UTC"
    assert problem(ca, now) == f"the certificate {serial_text(serial)} begins only on {begins}"
    sign_new_crl(ca, days=30, passphrase=passphrase, now=now + 2 * DAY)
    assert problem(ca, now).startswith("its CRL begins only on ")
    assert problem(ca, now + 2 * DAY) == ""


def test_the_way_out_where_the_clock_was_ahead(
    ca: CADirectory, now: datetime, public_key: PublicKey, passphrase: Secret
) -> None:
    """A certificate signed too far ahead is revoked, the CRL moved away: then it is as if it had not been."""
    issue(ca, public_key, passphrase, now)
    serial = issue(ca, public_key, passphrase, now + 365 * DAY)
    assert problem(ca, now)
    revoke(ca, (serial,), "superseded", now=now)
    assert problem(ca, now) == ""
    sign_new_crl(ca, days=30, passphrase=passphrase, now=now + 365 * DAY)
    assert problem(ca, now)
    ca.layout.crl.unlink()
    assert problem(ca, now) == ""


def test_signing_is_refused_with_what_to_do(ca: CADirectory, now: datetime) -> None:
    def check(at: datetime) -> None:
        refuse_clock_behind(at, ca=ca.ca_certificate, newest=None, crl=None, where=str(ca.path))

    check(now)
    with pytest.raises(NotReady, match="the clock is behind, or it was ahead") as caught:
        check(now - 365 * DAY)
    assert (caught.value.left, caught.value.exit_status) == ("nothing was signed", 2)
    assert str(ca.path) in caught.value.what
    assert caught.value.do.startswith("set this machine's clock")


def test_the_newest_certificate_is_the_last_in_the_index(
    create: Callable[..., CADirectory], tmp_path: Path, now: datetime, public_key: PublicKey, passphrase: Secret
) -> None:
    ca = create(tmp_path / "ca")
    assert ca.newest_certificate() is None
    for number in range(3):
        serial = issue(ca, public_key, passphrase, now + number * SECOND)
    newest = ca.newest_certificate()
    assert newest is not None
    assert newest.serial_number == serial
    (ca.layout.new_certificates / f"{serial_text(serial)}.pem").unlink()
    assert ca.newest_certificate() is None
