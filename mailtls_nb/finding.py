"""Findings: what is wrong on a host, why that matters, and what puts it right. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Literal

from mailtls_nb.errors import printable

# error: mail stops, or passes where it was to be held back, now. warning: it may. note: good to know.
Severity = Literal["error", "warning", "note"]
SEVERITIES: tuple[Severity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class Finding:
    """One finding: ``what`` is wrong, ``why`` that matters, ``where`` (a file, with its line; a port), ``do`` cures it.

    All are sentences but ``where``; ``do`` names a runbook or a command. What a host printed may stand in them.
    """

    severity: Severity
    what: str
    why: str
    where: str
    do: str

    def __post_init__(self) -> None:
        for name in ("what", "why", "where", "do"):
            object.__setattr__(self, name, printable(getattr(self, name)))

    def as_data(self) -> dict[str, str]:
        """The finding as JSON data for the record."""
        return asdict(self)


def by_severity(findings: Iterable[Finding]) -> tuple[Finding, ...]:
    """The findings with the gravest first, each once, otherwise as they came."""
    return tuple(sorted(dict.fromkeys(findings), key=lambda finding: SEVERITIES.index(finding.severity)))


def counts(severities: Iterable[str]) -> dict[str, int]:
    """How many there are of each severity, none left out."""
    found = Counter(severities)
    return {severity: found[severity] for severity in SEVERITIES}


def in_words(number_of: dict[str, int]) -> str:
    """Counts as ``2 errors, 1 warning``; ``no findings`` where there are none."""
    some = [f"{number} {severity}{'' if number == 1 else 's'}" for severity, number in number_of.items() if number]
    return ", ".join(some) or "no findings"
