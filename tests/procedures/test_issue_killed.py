"""kill -9 of a whole run of 02: mail is accepted all the while, the CA is sound, the next run puts the rest right."""

from __future__ import annotations

import os
import random
import signal
import time
from pathlib import Path

import pytest

from mailtls_nb.procedures import issue_certificate
from mailtls_nb.testbed import Testbed
from tests.procedures.conftest import Machine, Machines, Runbooks
from tests.procedures.killing import KillingRun, check_put_right, check_sound

pytestmark = pytest.mark.testbed


ACTIONS = [
    "taking the lock",
    "making the directory /etc/mail/certs",
    "running sh",  # the key
    *("CA: remove .pending", "CA: write .pending", "CA: write .pem", "CA: append .txt", "CA: remove .pending"),
    "running sh",  # key and certificate into one file
    "writing /etc/mail/certs/cacert.pem",
    "writing /etc/mail/sendmail.mc",
    "building sendmail.cf",
    "trying the configuration",
    "putting sendmail.cf in place",
    "reloading the mail server",
    # After the proof, which only looks. Once this is done the change counts.
    "closing the journal",
]


def test_killed_after_every_action(machines: Machines, runbooks: Runbooks, tmp_path: Path) -> None:
    """On two hosts at a time, each with a CA of its own: one is killed at the odd points, one at the even ones."""
    (tmp_path / "passphrase").write_text("correct horse battery staple")
    pairs: list[tuple[KillingRun, Machine, Path]] = []
    for name, machine in (("relay", machines.relay), ("partner", machines.partner)):
        ca = {"ca_dir": f"{tmp_path}/{name}", "ca_passphrase": f"file:{tmp_path}/passphrase", "approve": "auto"}
        assert runbooks("01", **ca).outcome == "changed"
        hosts = {"host": f"docker://{machine.name}", "probe_from": f"docker://{machines.stranger.name}"}
        given: dict[str, str | int] = {**ca, **hosts, "hostname": f"{name}.example.test"}
        audit = Runbooks(tmp_path / f"audit-{name}")  # two runs begun at once would take each other's folder for theirs
        pairs.append(
            (KillingRun("02", issue_certificate, audit, tmp_path / f"{name}.actions", given), machine, tmp_path / name)
        )

    for first in range(1, len(ACTIONS) + 1, 2):
        begun = [(*pair, point, pair[0].start(point)) for pair, point in zip(pairs, (first, first + 1), strict=True)]
        for killing, machine, ca_dir, point, pid in begun:
            done = [action.removeprefix("mailtls-nb: ") for action in killing.ended(pid, point)]
            assert done == ACTIONS[:point]
            check_sound(machine, ca_dir)

    for (killing, machine, ca_dir), outcome in zip(pairs, ("changed", "unchanged"), strict=True):
        assert runbooks("02", **killing.given).outcome == outcome
        check_put_right(machine, ca_dir)
        assert runbooks("02", **killing.given).outcome == "unchanged"


def test_killed_at_random_moments(machines: Machines, pristine: Testbed, runbooks: Runbooks, tmp_path: Path) -> None:
    """Wherever a run is: healing, planning, changing, sending mail. MAILTLS_TEST_SEED repeats what was printed."""
    assert runbooks("01").outcome == "changed"
    killing = KillingRun("02", issue_certificate, runbooks, tmp_path / "actions", {})
    seed = os.environ.get("MAILTLS_TEST_SEED") or str(random.randrange(10**9))
    print(f"MAILTLS_TEST_SEED={seed}")
    moments = random.Random(seed)
    for lifetime in range(100, 110):
        # Each time everything is to be done anew.
        killing.given["valid_days"] = lifetime
        pid = killing.start()
        time.sleep(moments.uniform(0.5, 8))
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        check_sound(machines.relay, pristine.ca_dir)
    assert runbooks("02", valid_days=110).outcome == "changed"
    check_put_right(machines.relay, pristine.ca_dir)
    left_on_the_witness = "find /etc/mail/mailtls-nb-witness /var/lib/mailtls-nb -mindepth 1 ! -name guard 2>/dev/null"
    assert machines.stranger.sh(left_on_the_witness, status=None) == ""
    assert runbooks("02", valid_days=110).outcome == "unchanged"
