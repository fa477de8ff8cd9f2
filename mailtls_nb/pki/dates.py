"""Dates as certificates and index.txt write them (RFC 5280 4.1.2.5). Pure."""

from __future__ import annotations

import re
from datetime import UTC, datetime

_DATE = re.compile(r"(?:[0-9]{2})?([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})([0-9]{2})Z")


def date_text(moment: datetime) -> str:
    """A UTC moment as in a certificate: two digits for the year to 2049, four from 2050."""
    year = f"{moment.year % 100:02d}" if 1950 <= moment.year <= 2049 else f"{moment.year:04d}"
    return f"{year}{moment:%m%d%H%M%S}Z"


def parse_date(text: str) -> datetime:
    """The inverse of `date_text`; raises ValueError. An index may hold a million: so without strptime."""
    match = _DATE.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not a date")
    year, month, day, hour, minute, second = map(int, match.groups())
    # RFC 5280 4.1.2.5.1: of two digits, 50 to 99 lie in the last century.
    year = int(text[:4]) if len(text) == 15 else year + (1900 if year >= 50 else 2000)
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC)
    except ValueError as error:
        raise ValueError(f"{text!r} is not a date: {error}") from error
