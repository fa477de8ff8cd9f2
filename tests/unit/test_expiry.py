"""What ends, by given times: days left, the state, and the order."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from mailtls_nb.expiry import End, Kind, first_to_end

NOW = datetime(2026, 11, 23, 12, 0, tzinfo=UTC)
DAY, SECOND = timedelta(days=1), timedelta(seconds=1)
WARN = 30 * DAY


def thing(left: timedelta, kind: Kind = "certificate", *, lasts: timedelta | None = None) -> End:
    end = NOW + left
    return End(kind, "/CN=a", "/a", end, end - lasts if lasts else None)


@pytest.mark.parametrize(
    ("left", "days", "state"),
    [
        (-365 * DAY, -365, "ended"),
        (-SECOND, -1, "ended"),
        (0 * DAY, -1, "ended"),
        (SECOND, 0, "ends soon"),
        (DAY - SECOND, 0, "ends soon"),
        (30 * DAY, 30, "ends soon"),
        (30 * DAY + SECOND, 30, "fine"),
        (365 * DAY, 365, "fine"),
    ],
)
def test_days_left_and_state(left: timedelta, days: int, state: str) -> None:
    assert (thing(left).days_left(NOW), thing(left).state(NOW, WARN)) == (days, state)


@pytest.mark.parametrize(
    ("left", "lasts", "state"),
    [
        (11 * DAY, 30 * DAY, "fine"),
        (10 * DAY, 30 * DAY, "ends soon"),
        (-SECOND, 30 * DAY, "ended"),
        (31 * DAY, 300 * DAY, "fine"),
        (30 * DAY, 300 * DAY, "ends soon"),
    ],
)
def test_a_crl_is_warned_of_in_the_last_third_of_its_time(left: timedelta, lasts: timedelta, state: str) -> None:
    assert thing(left, "crl", lasts=lasts).state(NOW, WARN) == state
    # Of anything else the whole time counts.
    assert thing(11 * DAY, "certificate", lasts=30 * DAY).state(NOW, WARN) == "ends soon"


def test_what_ends_first_stands_first_and_once() -> None:
    late, early, same = thing(2 * DAY), thing(DAY, "crl"), thing(DAY, "ca")
    assert first_to_end([late, early, same, late]) == (same, early, late)


def test_a_thing_says_what_it_is() -> None:
    kinds: tuple[Kind, ...] = ("certificate", "issued", "ca", "partner-ca", "crl")
    assert [str(thing(DAY, kind)) for kind in kinds] == [
        "certificate /CN=a",
        "issued certificate /CN=a",
        "our CA /CN=a",
        "partner's CA /CN=a",
        "CRL of /CN=a",
    ]
