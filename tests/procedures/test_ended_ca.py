"""A CA that has ended: whoever would sign with it refuses to, says so, and writes nothing. No host is needed."""

from __future__ import annotations

import dataclasses
from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from mailtls_nb.errors import NotReady
from mailtls_nb.library import find
from mailtls_nb.names import DistinguishedName
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.profiles import key_type
from mailtls_nb.procedures.issue.look import open_ca
from mailtls_nb.procedures.issue.sign import sign_key
from mailtls_nb.procedures.issue.wish import read_wish as read_issue_wish
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.procedures.replace.observation import ReplaceBefore
from mailtls_nb.procedures.replace.preconditions import refuse_too_early
from mailtls_nb.procedures.replace.wish import read_wish
from mailtls_nb.secret import Secret
from tests.procedures.conftest import Runbooks

PASSPHRASE = b"correct horse battery staple"


@pytest.mark.parametrize(
    ("runbook", "given", "said"),
    [
        ("05", {"action": "refresh", "crl_hosts": ""}, "no CRL of it changes that"),
        ("05", {"hostname": "x.example.test", "crl_hosts": ""}, "no CRL of it changes that"),
    ],
)
def test_nothing_is_signed_and_nothing_is_written(
    runbook: str, given: dict[str, str], said: str, runbooks: Runbooks, tmp_path: Path
) -> None:
    (tmp_path / "passphrase").write_bytes(PASSPHRASE)
    past = datetime.now(UTC) - timedelta(days=400)
    settings = {"valid_days": 365, "passphrase": Secret(PASSPHRASE), "now": past}
    CADirectory.create(tmp_path / "ca", DistinguishedName("CA"), key_type("ec-p256", use="ca"), **settings)  # type: ignore[arg-type]
    before = {path: path.read_bytes() for path in (tmp_path / "ca").rglob("*") if path.is_file()}
    ours = {"ca_dir": f"{tmp_path}/ca", "ca_passphrase": f"file:{tmp_path}/passphrase", "approve": "auto"}
    ran = runbooks(runbook, **ours, **given)
    assert (ran.outcome, ran.exit_status) == ("failed", 2)
    assert said in ran.said
    assert {path: path.read_bytes() for path in (tmp_path / "ca").rglob("*") if path.is_file()} == before


def test_what_ends_with_its_ca_is_signed_for_the_days_that_are_left(tmp_path: Path) -> None:
    """Whenever that is, and once: a run that was cut short gets what it has already. No parameter is to blame."""
    made = datetime.now(UTC) - timedelta(days=265)
    settings = {"valid_days": 365, "passphrase": Secret(PASSPHRASE), "now": made}
    ca = CADirectory.create(tmp_path / "ca", DistinguishedName("CA"), key_type("ec-p256", use="ca"), **settings)  # type: ignore[arg-type]
    values = {**{p.name: p.default for p in find("02").declared}, "hostname": "x.example.test", "host": "local"}
    values |= {"ca_dir": f"{tmp_path}/ca", "ca_passphrase": "env:PASS", "probe_from": "here"}
    wish = dataclasses.replace(read_issue_wish(values), ca_end=ca.ca_certificate.not_valid_after_utc)

    def at(days: float) -> Context:
        now = datetime.now(UTC) + timedelta(days=days)
        return cast(Context, SimpleNamespace(now=lambda: now, secret=lambda _: Secret(PASSPHRASE), testbed=None))

    for days in (0, 0.5, 90, 98.9):
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        certificate = sign_key(at(days), wish, open_ca(at(days), wish), key)
        assert 0 <= (ca.ca_certificate.not_valid_after_utc - certificate.not_valid_after_utc) / timedelta(days=1) < 1
        assert sign_key(at(days), wish, ca, key) == sign_key(at(days + 0.7), wish, ca, key) == certificate
    with pytest.raises(NotReady, match="nothing can be issued any more") as refused:
        open_ca(at(99.5), wish)
    assert "09-replace-ca" in refused.value.do


def test_no_change_of_the_ca_begins_from_one_that_has_ended(tmp_path: Path) -> None:
    """Nobody verifies its certificates, so no stage could keep mail verified. A day before, it may."""
    now = datetime.now(UTC)
    settings = {"valid_days": 365, "passphrase": Secret(PASSPHRASE), "now": now}
    old = CADirectory.create(tmp_path / "ca", DistinguishedName("CA"), key_type("ec-p256", use="ca"), **settings)  # type: ignore[arg-type]
    wish = read_wish({**{p.name: p.default for p in find("09").declared}, "hosts": "local"})
    for days, ended in ((364, False), (366, True)):
        before = ReplaceBefore(now + timedelta(days=days), old, None, tmp_path / "new", None, None, hosts=())
        with pytest.raises(NotReady, match="ended on") if ended else nullcontext():
            refuse_too_early(wish, before)
