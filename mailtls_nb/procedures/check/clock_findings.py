"""What the clocks say: a host's against this machine's. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mailtls_nb.finding import Finding
from mailtls_nb.observe.clock import NOTEWORTHY, Clock
from mailtls_nb.procedures.check.observation import CheckBefore


def clock_findings(before: CheckBefore) -> Iterator[Finding]:
    """An error for a clock that differs by more than five minutes from this machine's, a note for more than one."""
    for clock in before.clocks:
        if clock.is_wrong:
            why = (
                "By a wrong clock certificates and CRLs have ended, or are not valid yet: it takes valid ones for "
                "invalid and the other way round, and what this check says of their ends may be wrong."
            )
            yield Finding("error", _what(before, clock), why, clock.host, _do(clock))
        elif abs(clock.ahead) > NOTEWORTHY:
            why = "From five minutes on a certificate or CRL that was just made is not valid yet."
            yield Finding("note", _what(before, clock), why, clock.host, _do(clock))


def _what(before: CheckBefore, clock: Clock) -> str:
    return f"The clock of {clock.host} is {clock}, which says {before.at:%Y-%m-%d %H:%M} UTC."


def _do(clock: Clock) -> str:
    return f"Set the clock that is wrong, {clock.host}'s or this machine's, and keep it right (NTP)."
