"""kill -9 of runs of 05 and 09: mail is taken all the while, none of it is lost, and a repeated run completes it."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mailtls_nb.pki import revoking
from mailtls_nb.pki.crl import crl_number, tells_of
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import serial_text
from mailtls_nb.procedures import replace_ca, revoke_certificate
from mailtls_nb.secret import Secret
from tests.procedures.conftest import Machine, Machines, Runbooks
from tests.procedures.killing import KillingRun, check_sound, killed_on_and_on
from tests.procedures.load import Load

pytestmark = pytest.mark.testbed

PASSPHRASE = b"correct horse battery staple"
CERTS = "/etc/mail/certs"
STAGES = ("both", "reissue", "withdraw")


@pytest.fixture
def given(machines: Machines, runbooks: Runbooks, tmp_path: Path) -> dict[str, str | int]:
    """A relay as first installed, with a certificate of a CA of ours."""
    (tmp_path / "passphrase").write_bytes(PASSPHRASE)
    ours: dict[str, str | int] = {
        "ca_dir": f"{tmp_path}/ca",
        "ca_passphrase": f"file:{tmp_path}/passphrase",
        "approve": "auto",
        "probe_from": f"docker://{machines.stranger.name}",
    }
    assert runbooks("01", **{name: ours[name] for name in ("ca_dir", "ca_passphrase", "approve")}).outcome == "changed"
    host = {"host": f"docker://{machines.relay.name}", "hostname": "relay.example.test"}
    assert runbooks("02", **ours, **host).outcome == "changed"
    return ours


def issue(ca: CADirectory, name: str) -> int:
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    settings = {"roles": "both", "valid_days": 30, "passphrase": Secret(PASSPHRASE), "now": datetime.now(UTC)}
    return ca.issue(key, (name,), **settings).serial_number  # type: ignore[arg-type]


def check_openssl_agrees(path: Path, serial: int) -> None:
    """Whatever a kill leaves: openssl reads the index, and verifies the CRL where there is one."""
    asked = ["openssl", "ca", "-config", f"{path}/openssl.cnf", "-status", serial_text(serial)]
    printed = subprocess.run(asked, check=False, capture_output=True).stderr
    assert b"=Valid (V)" in printed or b"=Revoked (R)" in printed, printed
    if (path / "crl.pem").exists():
        asked = ["openssl", "crl", "-in", f"{path}/crl.pem", "-noout", "-CAfile", f"{path}/cacert.pem"]
        assert b"verify OK" in subprocess.run(asked, check=True, capture_output=True).stderr


def crl_on(machine: Machine) -> x509.CertificateRevocationList:
    return x509.load_pem_x509_crl(machine.sh(f"cat {CERTS}/ca-*.crl").encode())


def at_random(killing: KillingRun, again: Callable[[], None], check: Callable[[], None], longest_s: float) -> None:
    """Ten runs, each killed at a random moment. MAILTLS_TEST_SEED repeats what was printed."""
    seed = os.environ.get("MAILTLS_TEST_SEED") or str(random.randrange(10**9))
    print(f"MAILTLS_TEST_SEED={seed}")
    moments = random.Random(seed)
    for _ in range(10):
        again()
        pid = killing.start()
        time.sleep(moments.uniform(0.2, longest_s))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        check()


def left_behind(machine: Machine) -> str:
    return machine.sh("find /var/lib/mailtls-nb -mindepth 1 ! -name guard 2>/dev/null; find /etc -name '*mailtls-nb-*'")


def test_a_revocation(given: dict[str, str | int], machines: Machines, runbooks: Runbooks, tmp_path: Path) -> None:
    """After every action, and at ten random moments. No CRL number is given twice."""
    ca, relay = CADirectory.open(tmp_path / "ca"), machines.relay
    lost = issue(ca, "lost.example.test")
    wish: dict[str, str | int] = {
        **given,
        "hostname": "lost.example.test",
        "crl_hosts": f"docker://{relay.name}",
        "revocation_reason": "keyCompromise",
    }
    killing = KillingRun("05", revoke_certificate, runbooks, tmp_path / "actions", wish)
    numbers: list[int] = []

    def check() -> None:
        check_sound(relay, ca.path)
        check_openssl_agrees(ca.path, lost)
        newest = revoking.newest_crl(ca)
        if newest is not None and (number := crl_number(newest) or 0) not in numbers:
            assert number > max(numbers, default=0)
            numbers.append(number)

    done = killed_on_and_on(killing, check)
    # What each write in the CA directory leaves is looked at in tests/pki/test_crash.py, write by write.
    assert {"CA: write .txt", "building sendmail.cf", "reloading the mail server", "closing the journal"} <= set(done)
    assert any(action.startswith("writing /etc/mail/certs/ca-") for action in done)
    ran = runbooks("05", **wish)
    assert ran.outcome == "unchanged"
    assert [entry.serial_number for entry in crl_on(relay)] == [lost]
    assert left_behind(relay) == ""

    def another() -> None:
        issue(ca, "lost.example.test")

    at_random(killing, another, check, 9)
    assert runbooks("05", **wish).outcome in ("changed", "unchanged")
    revoked = revoking.revoked_rows(ca)
    assert {row.serial for row in revoked} == {
        row.serial for row in ca.rows() if row.subject.endswith("lost.example.test")
    }
    assert len(revoked) == 11
    assert tells_of(crl_on(relay), revoked)
    assert left_behind(relay) == ""
    assert runbooks("05", **wish).outcome == "unchanged"


def test_each_stage_of_a_replacement(
    given: dict[str, str | int], machines: Machines, runbooks: Runbooks, tmp_path: Path
) -> None:
    """After every action of each stage, with mail flowing in and out; then ten random moments of going to and fro."""
    relay = machines.relay
    wish: dict[str, str | int] = {**given, "hosts": f"docker://{relay.name}", "new_common_name": "CA 2"}
    ca_dir, new_dir = tmp_path / "ca", tmp_path / "ca-ca-2"

    def check() -> None:
        check_sound(relay, ca_dir)
        if new_dir.exists():
            check_sound(relay, new_dir)

    def killing(stage: str) -> KillingRun:
        return KillingRun("09", replace_ca, runbooks, tmp_path / "actions", {**wish, "stage": stage})

    load = Load(
        {
            "out": (relay, machines.partner, "root@partner.example.test"),
            "in": (machines.stranger, relay, "root@relay.example.test"),
        }
    )
    with load.flowing():
        done = killed_on_and_on(killing("both"), check)
        assert {"CA: write .pem", "reloading the mail server", "closing the journal"} <= set(done), done
        stages = iter(["reissue", "both"] * 5)
        to_and_fro = killing("reissue")

        def turn() -> None:
            to_and_fro.given["stage"] = next(stages)

        at_random(to_and_fro, turn, check, 12)
        assert runbooks("09", **{**wish, "stage": "both"}).outcome in ("changed", "unchanged")
        for stage in ("reissue", "withdraw"):
            done = killed_on_and_on(killing(stage), check)
            assert {"reloading the mail server", "closing the journal"} <= set(done), done
            assert any(action.startswith("CA: ") for action in done)
            assert runbooks("09", **{**wish, "stage": stage}).outcome == "unchanged"
    account = load.account()
    print(f"{len(account.sent)} messages sent, {len(account.arrived)} arrived, {len(account.problems)} problems")
    assert account.problems == []
    assert len(account.sent) > 200
    assert left_behind(relay) == ""
    assert [name for name in relay.sh(f"ls -A {CERTS}").split() if name.endswith((".new", ".key"))] == []
