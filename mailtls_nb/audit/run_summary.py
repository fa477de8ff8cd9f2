"""One run in a few words, as the list of runs shows it."""

from __future__ import annotations

from dataclasses import dataclass

# The outcome of a run that has begun and not ended: it was killed, or goes on.
NOT_ENDED = "not ended"


@dataclass(frozen=True)
class RunSummary:
    """A run of the audit folder.

    ``outcome`` is changed, unchanged, planned, failed or NOT_ENDED; ``begun`` and ``ended`` are RFC 3339 in UTC,
    ``ended`` empty for a run that has not; ``signed_by`` is the fingerprint of the signature's key, or empty.
    """

    folder: str
    runbook: str
    hosts: tuple[str, ...]
    outcome: str
    begun: str
    ended: str
    operator: str
    signed_by: str
