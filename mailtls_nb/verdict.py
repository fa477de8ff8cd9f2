"""Verdicts: expected against observed, raised when they differ."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mailtls_nb.errors import VerdictFailed

# inspection: read from a file, a directory or a certificate; nothing was tried with it.
Proof = Literal["live", "oracle", "inspection"]


@dataclass(frozen=True)
class Claim:
    """One claim and what was seen of it.

    ``proof`` is ``live`` (mail or a new connection), ``oracle`` (the host's own rulesets) or ``inspection``;
    ``instrument`` says by what it was seen; ``fails_when`` says what was seen to make the claim false, so that it is
    known to be able to fail.
    """

    claim: str
    expected: str
    observed: str
    proof: Proof
    instrument: str
    negative: bool = False
    fails_when: str = ""

    @property
    def holds(self) -> bool:
        return self.expected == self.observed

    def as_data(self) -> dict[str, str | bool]:
        """The claim as JSON data for the record."""
        return {
            "claim": self.claim,
            "expected": self.expected,
            "observed": self.observed,
            "holds": self.holds,
            "proof": self.proof,
            "instrument": self.instrument,
            "negative": self.negative,
            "fails_when": self.fails_when,
        }


def judge(claims: tuple[Claim, ...], *, left: str = "", do: str = "") -> None:
    """Raise VerdictFailed, naming every claim that does not hold; ``left`` says how things stand then."""
    if not claims:
        raise VerdictFailed("nothing was observed, so nothing is proved")
    wrong = [claim for claim in claims if not claim.holds]
    if wrong:
        raise VerdictFailed(
            "not what was expected:"
            + "".join(f"\n  - {c.claim}: expected {c.expected}, observed {c.observed} ({c.instrument})" for c in wrong),
            claims,
            left=left,
            do=do,
        )
