"""What has ended, or ends soon, as findings. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from mailtls_nb.finding import Finding


def ending(what: str, end: datetime, at: datetime, warn: timedelta, why: str, where: str, do: str) -> Iterator[Finding]:
    """An error for what has ended at the time ``at``, a warning for what ends within ``warn``; else nothing.

    ``why`` is what its end does.
    """
    if end <= at:
        yield Finding("error", f"{what} ended on {end:%Y-%m-%d}.", why, where, do)
    elif end - at <= warn:
        yield Finding("warning", f"{what} ends on {end:%Y-%m-%d}.", f"From then on: {why}", where, do)
