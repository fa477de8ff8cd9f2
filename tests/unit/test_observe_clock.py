"""A host's clock against this machine's, by given times: what the way there takes is no difference."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from mailtls_nb.errors import CommandFailed, NotReady
from mailtls_nb.hosts.base import Completed, Host
from mailtls_nb.hosts.local import LocalHost
from mailtls_nb.observe.clock import TOLERANCE, Clock, check_clocks, in_words, observe_clock

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


@dataclass
class ClockedHost:
    """A host that tells a given time, and that one gets to in a given time."""

    ahead: timedelta = timedelta(0)
    there: timedelta = timedelta(0)
    back: timedelta = timedelta(0)
    says: str = ""
    status: int = 0
    name: str = "ssh://mx.example.org"
    at: datetime = NOW

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:  # noqa: ARG002
        self.at += self.there
        told = self.says or f"{self.at + self.ahead:%Y%m%d%H%M%S}\n"
        self.at += self.back
        return Completed(self.name, tuple(argv), self.status, told.encode(), b"")

    def now(self) -> datetime:
        return self.at

    @property
    def host(self) -> Host:
        return self  # type: ignore[return-value]


def seen(**given: object) -> timedelta:
    host = ClockedHost(**given)  # type: ignore[arg-type]
    return observe_clock(host.host, host.now).ahead


@pytest.mark.parametrize("ahead", [365 * DAY, -365 * DAY, 10 * 60 * SECOND, -10 * 60 * SECOND, 2 * SECOND])
def test_a_difference_is_seen_to_the_second(ahead: timedelta) -> None:
    assert abs(seen(ahead=ahead) - ahead) <= SECOND


@pytest.mark.parametrize("ahead", [0 * SECOND, 0.4 * SECOND, -0.4 * SECOND])
def test_less_than_a_second_is_none(ahead: timedelta) -> None:
    assert seen(ahead=ahead) == timedelta(0)


@pytest.mark.parametrize(("there", "back"), [(0, 600), (600, 0), (300, 300)])
def test_a_slow_way_is_no_difference(there: int, back: int) -> None:
    slow = {"there": there * SECOND, "back": back * SECOND}
    assert seen(**slow) == timedelta(0)
    # What the way cannot account for is still seen, from either side.
    for ahead in (DAY, -DAY):
        assert DAY - 601 * SECOND <= abs(seen(ahead=ahead, **slow)) <= DAY


@pytest.mark.parametrize(
    "says", ["Mon Nov 23 12:00:00 UTC 2026", "20261323120000", "1", "20261123120000\n20261123120000"]
)
def test_what_is_no_time_is_refused(says: str) -> None:
    with pytest.raises(CommandFailed, match="no time"):
        seen(says=says)
    with pytest.raises(CommandFailed, match="asking for the time"):
        seen(status=1)


@pytest.mark.parametrize(
    ("ahead", "words", "is_wrong"),
    [
        (timedelta(0), "agrees with this machine's", False),
        (60 * SECOND, "agrees with this machine's", False),
        (-61 * SECOND, "61 seconds behind this machine's", False),
        (TOLERANCE, "5 minutes ahead of this machine's", False),
        (TOLERANCE + SECOND, "5 minutes ahead of this machine's", True),
        (-365 * DAY, "365 days behind this machine's", True),
    ],
)
def test_a_clock_in_words(ahead: timedelta, words: str, is_wrong: bool) -> None:
    assert (str(Clock("a", ahead)), Clock("a", ahead).is_wrong) == (words, is_wrong)


@pytest.mark.parametrize(
    ("length", "words"),
    [
        (SECOND, "1 second"),
        (119 * SECOND, "119 seconds"),
        (3599 * SECOND, "1 hour"),
        (364.9999 * DAY, "365 days"),
        (3660 * SECOND, "1 hour 1 minute"),
        (2 * 3600 * SECOND, "2 hours"),
        (26 * 3600 * SECOND, "1 day 2 hours"),
        (365.3 * DAY, "365 days"),
    ],
)
def test_lengths_in_words(length: timedelta, words: str) -> None:
    assert in_words(length) == words


def test_runbooks_that_sign_refuse_a_wrong_clock() -> None:
    """Which one, by how much, and what would come of it; five minutes are allowed."""

    def check(*aheads: timedelta) -> None:
        hosts = [ClockedHost(ahead=ahead, name=f"ssh://mx{number}") for number, ahead in enumerate(aheads)]
        check_clocks([host.host for host in hosts], lambda: NOW)

    check()
    check(TOLERANCE, -TOLERANCE, timedelta(0))
    for ahead, words in ((365 * DAY, "365 days ahead"), (-365 * DAY, "365 days behind")):
        with pytest.raises(NotReady, match=words) as caught:
            check(timedelta(0), ahead)
        error = caught.value
        assert "ssh://mx1" in error.what
        assert "sendmail refuses everyone" in error.what
        assert (error.left, error.exit_status) == ("nothing was touched", 2)
        assert "2026-11-23 12:00:00 UTC" in error.do


def test_this_machine_agrees_with_itself() -> None:
    """The real command, here."""
    assert observe_clock(LocalHost(), lambda: datetime.now(UTC)).ahead == timedelta(0)
    assert observe_clock(LocalHost(), lambda: datetime.now(UTC) - DAY).ahead > DAY - 60 * SECOND
