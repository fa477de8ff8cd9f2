"""The time of a log line: with a year and a zone (RFC 3339), or without either (RFC 3164)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

# A host's clock, and its zone where it is not known, may be ahead of the clock that handed in "now".
_CLOCK_SKEW = timedelta(days=1)
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class LogClock:
    """Reads time stamps as ``parse_line`` finds them. ``now`` is aware; ``utc_offset`` is the host's."""

    def __init__(self, now: datetime, utc_offset: timedelta) -> None:
        self._latest = now.astimezone(UTC) + _CLOCK_SKEW
        self._zone = timezone(utc_offset)
        self._text = ""
        self._time: datetime | None = None

    def read(self, text: str) -> datetime | None:
        """The time in UTC; None for what is no time. Many lines in a row have the same."""
        if text != self._text:
            self._text, self._time = text, self._read(text)
        return self._time

    def _read(self, text: str) -> datetime | None:
        try:
            if text[:1].isdigit():
                time = datetime.fromisoformat(text)
                return (time if time.tzinfo else time.replace(tzinfo=self._zone)).astimezone(UTC)
            month, day, clock = text.split()
            number = _MONTHS.index(month) + 1
            hour, minute, second = (int(part) for part in clock.split(":"))
            # The latest year in which it is not after now; eight years hold a 29 February, also over 1900 or 2100.
            for year in range(self._latest.year, self._latest.year - 9, -1):
                if number == 2 and int(day) == 29 and not _is_leap(year):
                    continue
                # A leap second is logged as :60.
                time = datetime(year, number, int(day), hour, minute, second - (second == 60), tzinfo=self._zone)
                if time <= self._latest:
                    return time.astimezone(UTC)
        except (ValueError, OverflowError):
            pass
        return None


def _is_leap(year: int) -> bool:
    return year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
