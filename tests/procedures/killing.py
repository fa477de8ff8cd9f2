"""Runs that are killed with kill -9 in the middle of what they do, and what must hold then."""

from __future__ import annotations

import itertools
import os
import signal
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

from cryptography import x509

from mailtls_nb import durable
from mailtls_nb.hosts.recorded import RecordedHost
from mailtls_nb.pki.directory import CADirectory
from tests.procedures.conftest import Machine, Runbooks


@dataclass
class KillingRun:
    """A run in a process of its own that kills itself right after its ``point``-th action (0: never).

    An action is what changes something on the host or in the CA directory, counted from where the change begins (what
    an earlier run left has been undone by then) and written into ``actions``. ``procedure`` is the runbook's module,
    where the functions that make its changes are found.
    """

    runbook: str
    procedure: ModuleType
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

        def beginning(function: Callable[..., Any]) -> Callable[..., Any]:
            def begin(*arguments: Any) -> Any:
                nonlocal changing
                changing = True
                return function(*arguments)

            return begin

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
        for name in ("write", "write_pieces", "append", "remove", "truncate"):
            what = f"CA: {name.partition('_')[0]} "
            setattr(durable, name, counted(getattr(durable, name), lambda path, *_, w=what: self._file(w, path)))
        for name in _CHANGING & set(vars(self.procedure)):
            setattr(self.procedure, name, beginning(getattr(self.procedure, name)))
        self.runbooks(self.runbook, **self.given)

    def _file(self, what: str, path: Path) -> str:
        """What is done to a file of a CA directory; nothing counts before that has its name (test_crash.py does that).

        Nor does the audit folder, which tests/audit kills in.
        """
        return "" if ".creating" in str(path) or path.is_relative_to(self.runbooks.audit_dir) else what + path.suffix


# The functions with which the changes of runbooks begin, by which a procedure's module knows them.
_CHANGING = {"put_into_service", "revoke_old", "revoke_and_distribute", "replace_ca"}


def killed_on_and_on(killing: KillingRun, check: Callable[[], None]) -> list[str]:
    """Run again and again, each time killed after another action of what is left to do, until one run ends by itself.

    ``check`` is called after each kill. Returns the actions after which there was a kill, in order.
    """
    killed_after: list[str] = []
    point, before = 1, list[str]()
    while True:
        done = killing.ended(killing.start(point), point)
        if len(done) < point:
            return killed_after
        killed_after.append(done[-1].removeprefix("mailtls-nb: "))
        check()
        pairs = zip(before, done, strict=False)
        same = [action for action, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)]
        if len(same) == len(before):
            point, before = point + 1, done
        else:
            # Less is left to do since the last kill: on from where this run did something else.
            point, before = len(same) + 1, same


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
