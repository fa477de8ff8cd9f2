"""kill -9 of a whole run of 06: mail is accepted all the while, and the next run completes it, revocation and all."""

from __future__ import annotations

import os
import random
import signal
import time
from dataclasses import dataclass
from datetime import UTC, datetime

import pytest

from mailtls_nb.pki import revoking
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.procedures import renew_certificate
from mailtls_nb.secret import Secret
from tests.procedures.ageing import Installed, old_ca, serial_on_port, statuses
from tests.procedures.conftest import Machine, Machines, Runbooks
from tests.procedures.killing import KillingRun, check_put_right, check_sound

pytestmark = pytest.mark.testbed

PASSPHRASE = b"correct horse battery staple"
RENEWING = [
    "taking the lock",
    "running sh",  # the key
    *("CA: remove .pending", "CA: write .pending", "CA: write .pem", "CA: append .txt", "CA: remove .pending"),
    "running sh",  # key and certificate into one file
    "trying the configuration",
    "reloading the mail server",
    # After the proof, which only looks. Once this is done the new certificate stays.
    "closing the journal",
]
# The index, the number of the next CRL, the CRL.
REVOKING = ["CA: remove .pending", "CA: write .txt", "CA: write ", "CA: write .pem"]
# A run that finds the index done already.
SIGNING = [REVOKING[0], *REVOKING[2:]]


def crl_of(ca: CADirectory) -> set[int]:
    crl = revoking.newest_crl(ca)
    assert crl is not None
    return {entry.serial_number for entry in crl}


@dataclass(frozen=True)
class Victim:
    """A host with a CA of its own, on which 06 is killed."""

    killing: KillingRun
    machine: Machine
    ca: CADirectory
    installed: Installed

    @property
    def hostname(self) -> str:
        return str(self.killing.given["hostname"])

    def revoke_installed(self) -> None:
        """So that it is due at once, unless it is revoked already."""
        revoking.revoke(self.ca, [self.installed.serial], "cessationOfOperation", now=datetime.now(UTC))


@pytest.fixture(scope="module")
def victims(machines: Machines, runbooks: Runbooks, tmp_path_factory: pytest.TempPathFactory) -> list[Victim]:
    """Two, which are killed at the same time."""
    directory = tmp_path_factory.mktemp("cas")
    (directory / "passphrase").write_bytes(PASSPHRASE)
    found = []
    for name, machine in (("relay", machines.relay), ("partner", machines.partner)):
        ca = old_ca(directory / name, Secret(PASSPHRASE))
        given: dict[str, str | int] = {
            "ca_dir": str(ca.path),
            "ca_passphrase": f"file:{directory}/passphrase",
            "approve": "auto",
            "host": f"docker://{machine.name}",
            "probe_from": f"docker://{machines.stranger.name}",
            "hostname": f"{name}.example.test",
        }
        assert runbooks("02", **given).outcome == "changed"
        revoking.sign_new_crl(ca, days=30, passphrase=Secret(PASSPHRASE), now=datetime.now(UTC))
        given["revoke_old"] = "yes"
        audit = Runbooks(directory / f"audit-{name}")  # runs begun at once would take each other's folder for theirs
        killing = KillingRun("06", renew_certificate, audit, directory / f"{name}.actions", given)
        found.append(Victim(killing, machine, ca, Installed(machine, f"/etc/mail/certs/{name}.example.test.pem")))
    return found


def check_completed(victim: Victim) -> None:
    """What must hold once a run has come to its end: what the killed ones had signed is revoked, its keys are gone."""
    check_put_right(victim.machine, victim.ca.path)
    assert [serial for serial, status in statuses(victim.ca).items() if status == "V"] == [victim.installed.serial]


def test_killed_after_every_action(victims: list[Victim], machines: Machines, runbooks: Runbooks) -> None:
    """One host is killed at the odd points, one at the even ones."""
    olds = [victim.installed.age(victim.ca, Secret(PASSPHRASE), 340) for victim in victims]

    def kill(expected: list[str], *points: int) -> None:
        begun = [(victim, point, victim.killing.start(point)) for victim, point in zip(victims, points, strict=True)]
        for victim, point, pid in begun:
            done = [action.removeprefix("mailtls-nb: ") for action in victim.killing.ended(pid, point)]
            assert done == expected[:point]
            check_sound(victim.machine, victim.ca.path)

    def of_old() -> list[str]:
        return [statuses(victim.ca)[old] for victim, old in zip(victims, olds, strict=True)]

    for first in range(1, len(RENEWING), 2):
        kill(RENEWING, first, min(first + 1, len(RENEWING) - 1))
        # Never before the proof.
        assert of_old() == ["V", "V"]
    kill(RENEWING, len(RENEWING), len(RENEWING))
    for victim, old in zip(victims, olds, strict=True):
        assert serial_on_port(machines.stranger, victim.hostname) == victim.installed.serial != old
        assert victim.machine.sh("ls -A /var/lib/mailtls-nb").split() == ["guard"]
    assert of_old() == ["V", "V"]
    kill(REVOKING, 1, 2)
    assert of_old() == ["V", "Rsuperseded"]
    relay, partner = (victim.killing for victim in victims)
    relay_pid, partner_pid = relay.start(3), partner.start(2)
    assert relay.ended(relay_pid, 3) == REVOKING[:3]
    assert partner.ended(partner_pid, 2) == SIGNING[:2]

    for victim, old in zip(victims, olds, strict=True):
        assert old not in crl_of(victim.ca)
        ran = runbooks("06", **victim.killing.given)
        assert (ran.outcome, ran.actions) == ("changed", ["sign-crl"])
        check_completed(victim)
        assert crl_of(victim.ca) == set(statuses(victim.ca)) - {victim.installed.serial}
        assert runbooks("06", **victim.killing.given).outcome == "unchanged"


def test_killed_at_random_moments(victims: list[Victim], machines: Machines, runbooks: Runbooks) -> None:
    """Wherever a run is: healing, planning, changing, revoking. MAILTLS_TEST_SEED repeats what was printed."""
    seed = os.environ.get("MAILTLS_TEST_SEED") or str(random.randrange(10**9))
    print(f"MAILTLS_TEST_SEED={seed}")
    moments = random.Random(seed)
    for _ in range(5):
        for victim in victims:
            victim.revoke_installed()
        pids = [victim.killing.start() for victim in victims]
        waits = sorted((moments.uniform(0.5, 12), pid) for pid in pids)
        begun = time.monotonic()
        for wait_s, pid in waits:
            time.sleep(max(0.0, begun + wait_s - time.monotonic()))
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)
        for victim in victims:
            check_sound(victim.machine, victim.ca.path)
    for victim in victims:
        victim.revoke_installed()
        assert runbooks("06", **victim.killing.given).outcome == "changed"
        check_completed(victim)
        assert serial_on_port(machines.stranger, victim.hostname) == victim.installed.serial
        assert runbooks("06", **victim.killing.given).outcome == "unchanged"
