"""A CA that has ended: whoever would sign with it refuses to, says so, and writes nothing. No host is needed."""

from __future__ import annotations

from contextlib import nullcontext
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from mailtls_nb.errors import NotReady
from mailtls_nb.library import find
from mailtls_nb.names import DistinguishedName
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.profiles import key_type
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
