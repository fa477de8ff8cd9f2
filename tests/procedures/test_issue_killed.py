"""kill -9 of a whole run of 02: mail is accepted all the while, the CA is sound, the next run puts the rest right."""

from __future__ import annotations

import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509

from mailtls_nb.hosts.recorded import RecordedHost
from mailtls_nb.pki import durable
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.procedures import issue_certificate
from mailtls_nb.procedures.issue.put_into_service import put_into_service
from mailtls_nb.testbed import Testbed
from tests.procedures.conftest import Machine, Machines, Runbooks

pytestmark = pytest.mark.testbed


@dataclass
class KillingRun:
    """A run in a process of its own that kills itself right after its ``point``-th action (0: never).

    An action is what changes something on the host or in the CA directory, counted from where the change begins (what
    an earlier run left has been undone by then) and written into ``actions``.
    """

    runbooks: Runbooks
    actions: Path
    given: dict[str, str | int]

    def start(self, point: int = 0) -> int:
        """Returns the pid."""
        self.actions.write_text("")
        pid = os.fork()
        if pid == 0:
            try:
                self._run(point)
            except BaseException:  # a child must never run on into the test session
                traceback.print_exc()
                sys.stderr.flush()
                os._exit(1)
            os._exit(0)
        return pid

    def ended(self, pid: int, point: int) -> list[str]:
        """Wait until it has killed itself, or ended; returns what it did."""
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        done = self.actions.read_text().splitlines()
        assert status == (-signal.SIGKILL if len(done) == point else 0), done
        return done

    def _run(self, point: int) -> None:
        changing = False

        def change(*arguments: Any) -> Any:
            nonlocal changing
            changing = True
            return put_into_service(*arguments)

        def counted(function: Callable[..., Any], what: Callable[..., str]) -> Callable[..., Any]:
            def act(*arguments: Any, **named: Any) -> Any:
                result = function(*arguments, **named)
                action, done = what(*arguments), self.actions.read_text().splitlines()
                # A lock whose holder was killed is taken twice: asked for, then taken over.
                if changing and action and action not in done[-1:]:
                    self.actions.write_text("\n".join([*done, action]))
                    if len(done) + 1 == point:
                        os.kill(os.getpid(), signal.SIGKILL)
                return result

            return act

        RecordedHost.run = counted(RecordedHost.run, _command)  # type: ignore[method-assign]
        for name in ("write", "append", "remove", "truncate"):
            what = f"CA: {name} "
            setattr(durable, name, counted(getattr(durable, name), lambda path, *_, w=what: w + path.suffix))
        vars(issue_certificate)["put_into_service"] = change
        self.runbooks("02", **self.given)


def _command(_host: RecordedHost, argv: Sequence[str]) -> str:
    """What a command of the transaction does, which stands behind its script; empty for one that only looks."""
    doing = argv[3] if len(argv) > 3 and argv[1] == "-c" else ""
    return doing if doing.startswith("mailtls-nb: ") and doing != "mailtls-nb: status" else ""


def check_sound(machine: Machine, ca_dir: Path) -> None:
    """What must hold after a kill at any moment, before anybody has put anything right."""
    # The kernel's reply to a dead daemon would be "connection refused".
    assert "example.test ESMTP" in machine.ehlo()
    for row in (ca_dir / "index.txt").read_text().splitlines():
        assert row.count("\t") == 5, row
    # A half-written file would stand under its own name: these are what is renamed when it is whole.
    for path in ca_dir.glob("newcerts/*.pem"):
        x509.load_pem_x509_certificate(path.read_bytes())
    cf = machine.sh("tail -c 1 /etc/mail/sendmail.cf | od -An -c; sendmail -bt -d0.1 </dev/null | head -1")
    assert cf.split()[:2] == ["\\n", "Version"]


def check_put_right(machine: Machine, ca_dir: Path) -> None:
    """What must hold once a run has come to its end."""
    assert CADirectory.open(ca_dir).unmatched() == ((), ())
    assert [path for path in ca_dir.rglob("*") if path.suffix == ".new" or path.name == ".pending"] == []
    assert machine.sh("find /etc /var -name '*.new' -o -name '*mailtls-nb-*'") == ""
    assert machine.sh("find /var/lib/mailtls-nb -mindepth 1 ! -name guard 2>/dev/null || :") == ""
    assert machine.sh("ls -A /etc/mail/certs").split() == ["cacert.pem", machine.sh("hostname").strip() + ".pem"]


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
        pairs.append((KillingRun(audit, tmp_path / f"{name}.actions", given), machine, tmp_path / name))

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
    killing = KillingRun(runbooks, tmp_path / "actions", {})
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
