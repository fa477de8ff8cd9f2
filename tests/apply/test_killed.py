"""kill -9 of a run at every point where it changes the host: the mail server answers, the next run puts all back."""

from __future__ import annotations

import os
import random
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import pytest

from mailtls_nb.apply.transaction import Transaction
from mailtls_nb.hosts.base import Completed, Host
from mailtls_nb.observe.layout import observe_layout

if TYPE_CHECKING:
    from tests.apply.conftest import Relay

pytestmark = pytest.mark.testbed

# Commands of one installation, in order: lock, listener, state of the daemon, directory, key and certificate, .mc,
# build, trial, rename of the cf, reload, end.
COMMANDS = 11


class Killing:
    """A host whose user is killed (SIGKILL) at its n-th command: once it was run, or while it runs."""

    def __init__(self, host: Host, *, at: int, midway: bool) -> None:
        self._host = host
        self._left = at
        self._midway = midway

    @property
    def name(self) -> str:
        return self._host.name

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        self._left -= 1
        if self._left == 0 and self._midway:
            # About as long as it takes to get a command going on the host; it goes on there without us.
            threading.Timer(0.08, os.kill, (os.getpid(), signal.SIGKILL)).start()
        completed = self._host.run(argv, stdin=stdin, timeout_s=timeout_s)
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        return completed

    def stream(self, argv: Sequence[str], take: Callable[[bytes], None], *, timeout_s: float) -> Completed:
        return self._host.stream(argv, take, timeout_s=timeout_s)

    def read(self, path: str) -> bytes | None:
        return self._host.read(path)

    def write(self, path: str, data: bytes, *, mode: int, owner: str) -> None:
        self._host.write(path, data, mode=mode, owner=owner)


def start_install(relay: Relay, host: Host) -> int:
    """Begin an installation in a process of its own; returns its pid."""
    pid = os.fork()
    if pid == 0:
        try:
            relay.install(host, 9)
        except BaseException:  # a child must never run on into the test session
            traceback.print_exc()
            sys.stderr.flush()
            os._exit(1)
        os._exit(0)
    return pid


def status_of(pid: int) -> int:
    """Wait for the process; a negative number is the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def heal(relay: Relay) -> list[str]:
    """After a kill the mail server answers; the next run puts right what was left. Returns how the host stands then."""
    assert relay.greeting().startswith("220 ")
    with Transaction(relay.host, observe_layout(relay.host)):
        pass
    state = relay.state()
    assert state[0] == "220 "
    return state


def check_whole(relay: Relay, state: list[str]) -> None:
    """The change is there as if nobody had been killed; then it is taken away again."""
    assert state[1] == "serial=09"
    assert state[-1] != "transaction"
    assert not observe_layout(relay.host).drifted
    relay.uninstall()


# The second and third command change nothing; a trial of the new cf leaves what the build before it left.
@pytest.mark.parametrize(
    ("midway", "commands"),
    [(False, (1, 4, 5, 6, 7, 9, 10, 11)), (True, (1, 4, 5, 6, 7, 8, 9, 10, 11))],
    ids=["after", "during"],
)
def test_killed_at_every_command_that_changes_something(relay: Relay, midway: bool, commands: tuple[int, ...]) -> None:
    """Each command in turn is the last; only the last one of all makes the change count."""
    before = relay.state()
    for at in commands:
        pid = start_install(relay, Killing(relay.host, at=at, midway=midway))
        assert status_of(pid) == -signal.SIGKILL, f"command {at} was not reached"
        state = heal(relay)
        if at < COMMANDS:
            assert state == before, f"killed at command {at}"
    check_whole(relay, state)


def test_there_are_no_more_commands_than_are_tried(relay: Relay) -> None:
    """With the kill one command later the installation ends well."""
    assert status_of(start_install(relay, Killing(relay.host, at=COMMANDS + 1, midway=False))) == 0
    check_whole(relay, relay.state())


def test_killed_at_random_moments(relay: Relay) -> None:
    """Ten moments of an installation, from a printed seed."""
    seed = int(os.environ.get("MAILTLS_TEST_SEED") or random.SystemRandom().randrange(10**6))
    print(f"seed {seed} (MAILTLS_TEST_SEED repeats it)")
    moments = random.Random(seed)
    started = time.monotonic()
    assert status_of(start_install(relay, relay.host)) == 0
    length_s = time.monotonic() - started
    check_whole(relay, relay.state())
    before = relay.state()
    for _ in range(10):
        pid = start_install(relay, relay.host)
        time.sleep(moments.uniform(0, length_s))
        os.kill(pid, signal.SIGKILL)
        assert status_of(pid) in (0, -signal.SIGKILL)
        state = heal(relay)
        if state != before:
            check_whole(relay, state)
            before = relay.state()
