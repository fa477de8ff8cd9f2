"""Dates as certificates and index.txt write them (RFC 5280 4.1.2.5). Pure."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime


def date_text(moment: datetime) -> str:
    """A UTC moment as in a certificate: two digits for the year to 2049, four from 2050."""
    year = f"{moment.year % 100:02d}" if 1950 <= moment.year <= 2049 else f"{moment.year:04d}"
    return f"{year}{moment:%m%d%H%M%S}Z"


def parse_date(text: str) -> datetime:
    """The inverse of `date_text`; raises ValueError. An index may hold a million: so without strptime."""
    digits = text[:-1]
    if len(text) not in (13, 15) or text[-1] != "Z" or not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"{text!r} is not a date")
    if len(digits) == 12:
        # RFC 5280 4.1.2.5.1: of two digits, 50 to 99 lie in the last century.
        digits = f"{'19' if digits >= '5' else '20'}{digits}"
    try:
        # Later Pythons take 24:00:00 for the next day.
        if digits[8:10] == "24":
            raise ValueError("hour must be in 0..23")  # noqa: TRY301
        return datetime.fromisoformat(f"{digits[:8]}T{digits[8:]}+00:00")
    except ValueError as error:
        raise ValueError(f"{text!r} is not a date: {error}") from error


def ended_by(now: datetime) -> Callable[[bytes], bool]:
    """Whether a date has come by ``now``, told from its digits alone, without their Z: for very many of them."""
    moment = now.astimezone(UTC).strftime("%Y%m%d%H%M%S").encode()

    def ended(digits: bytes) -> bool:
        if len(digits) == 12:
            return (b"19" if digits >= b"5" else b"20") + digits <= moment
        return digits <= moment

    return ended
