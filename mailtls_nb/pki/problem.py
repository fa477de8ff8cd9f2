"""What may be wrong in a CA directory: each has a name, and says why it matters and what cures it. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

# error: openssl, or we, cannot go on. warning: something will fail, or is not known. note: good to know.
ProblemSeverity = Literal["error", "warning", "note"]
_SEVERITIES: tuple[ProblemSeverity, ...] = ("error", "warning", "note")


@dataclass(frozen=True)
class IndexProblem:
    """One problem of a CA directory.

    ``name`` never changes, for scripts; ``what`` and ``why`` are sentences, ``where`` is a file with its line where it
    has one, and ``do`` says what cures it.
    """

    name: str
    severity: ProblemSeverity
    what: str
    why: str
    where: str
    do: str

    @property
    def sentence(self) -> str:
        """All of it, for a person."""
        return f"{self.where}: {self.what} {self.why} {self.do}"


def gravest_first(problems: Iterable[IndexProblem]) -> tuple[IndexProblem, ...]:
    """The problems by severity, otherwise as they came."""
    return tuple(sorted(problems, key=lambda problem: _SEVERITIES.index(problem.severity)))


def named(texts: Sequence[str], count: int, *, most: int = 5) -> str:
    """The first of so many things, and how many more there are."""
    some = ", ".join(texts[:most])
    return some if count <= min(most, len(texts)) else f"{some} and {count - min(most, len(texts))} more"
