"""What time a host thinks it is, against this machine's clock."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from mailtls_nb.errors import CommandFailed, NotReady
from mailtls_nb.hosts.base import Host
from mailtls_nb.pki.profiles import BACKDATED

# Every system's date knows these; %s is younger than POSIX.
_ARGV = ("date", "-u", "+%Y%m%d%H%M%S")
_TIMEOUT_S = 30
_SECOND = timedelta(seconds=1)
_NONE = timedelta(0)
# Certificates and CRLs begin so much before they are made: a clock that differs by no more does no harm.
TOLERANCE = BACKDATED
# More than this is worth a word.
NOTEWORTHY = timedelta(minutes=1)


@dataclass(frozen=True)
class Clock:
    """A host's clock: it is at least so much ``ahead`` of this machine's (negative: behind)."""

    host: str
    ahead: timedelta

    def __str__(self) -> str:
        if abs(self.ahead) <= NOTEWORTHY:
            return "agrees with this machine's"
        return f"{in_words(abs(self.ahead))} {'ahead of' if self.ahead > _NONE else 'behind'} this machine's"

    @property
    def is_wrong(self) -> bool:
        """Whether it, or this machine's, is too wrong for anything to be signed."""
        return abs(self.ahead) > TOLERANCE


def observe_clock(host: Host, now: Callable[[], datetime]) -> Clock:
    """Ask the host for its time; raises CommandFailed.

    What the way there and back, and the second told, may account for counts as no difference: a slow transport does not
    make a clock look wrong.
    """
    before = now()
    completed = host.run(_ARGV, timeout_s=_TIMEOUT_S).check("asking for the time", left="nothing was touched")
    after = now()
    told = _told(completed.text)
    if told is None:
        raise CommandFailed(f"{host.name}: date printed {completed.text.strip()!r:.100}, which is no time")
    # Its clock showed this second, or a moment of it, at some time between before and after.
    least, most = told - after, told + _SECOND - before
    return Clock(host.name, least if least > _NONE else most if most < _NONE else _NONE)


def time_there(host: Host, now: Callable[[], datetime]) -> datetime:
    """The time by the host's own clock. Raises CommandFailed."""
    return now() + observe_clock(host, now).ahead


def check_clocks(hosts: Iterable[Host], now: Callable[[], datetime]) -> None:
    """Raise NotReady where a host's clock differs from this machine's by more than five minutes.

    For runbooks that sign: call it before anything is touched.
    """
    for clock in (observe_clock(host, now) for host in hosts):
        if clock.is_wrong:
            raise NotReady(
                f"the clock of {clock.host} is {clock}: a certificate or CRL signed now would not be valid yet, or "
                "already ended, by one of the two clocks, and with a CRL not yet valid sendmail refuses everyone",
                left="nothing was touched",
                do=f"set the clock of this machine (it says {now():%Y-%m-%d %H:%M:%S} UTC) or of {clock.host}, "
                "whichever is wrong, and run again",
            )


def in_words(length: timedelta) -> str:
    """A length of time in its one or two greatest units, rounded: ``365 days``, ``1 hour 5 minutes``."""
    seconds = round(length.total_seconds())
    minutes, hours, days = round(seconds / 60), round(seconds / 3600), round(seconds / 86400)
    if seconds < 120:
        return _some(seconds, "second")
    if minutes < 60:
        return _some(minutes, "minute")
    if minutes < 24 * 60:
        return _two(*divmod(minutes, 60), "hour", "minute")
    return _two(*divmod(hours, 24), "day", "hour") if hours < 48 else _some(days, "day")


def _two(number: int, rest: int, unit: str, smaller: str) -> str:
    return f"{_some(number, unit)} {_some(rest, smaller)}" if rest else _some(number, unit)


def _some(number: int, unit: str) -> str:
    return f"{number} {unit}{'' if number == 1 else 's'}"


def _told(text: str) -> datetime | None:
    if not re.fullmatch(r"[0-9]{14}", text.strip()):
        return None
    try:
        return datetime.strptime(text.strip(), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None
