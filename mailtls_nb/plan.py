"""A plan: what would be done, in order, shown before it is done and bound to one digest.

Bytes that only exist once the plan is applied (keys, serials, dates) stand in it as placeholders, so that
the digest of a plan shown today still holds when it is approved tomorrow.
"""

from __future__ import annotations

import difflib
import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

Action = Literal[
    "heal",
    "make-directory",
    "set-mode",
    "make-key",
    "request",
    "sign",
    "install",
    "write",
    "link",
    "move",
    "remove",
    "build",
    "map",
    "flush",
    "reload",
    "create-ca",
    "update-index",
    "mend-index",
    "revoke",
    "sign-crl",
    "keep-key",
    "cross-sign",
    "succession",
]


def sha256(data: bytes | None) -> str:
    """The SHA-256 of a file's content in hex; ``absent`` for a file that is not there."""
    return "absent" if data is None else hashlib.sha256(data).hexdigest()


def unified_diff(path: str, before: str, after: str, *, context: int = 0) -> str:
    """A unified diff of one file; no context by default, since neighbouring lines may hold secrets."""
    return "".join(
        line if line.endswith("\n") else line + "\n"
        for line in difflib.unified_diff(
            before.splitlines(keepends=True), after.splitlines(keepends=True), path, path, n=context
        )
    )


@dataclass(frozen=True)
class Step:
    """One thing to do.

    ``where`` is the host's name, or ``here`` for the CA directory's machine. ``settings`` are the values that
    decide what the step does (mode, owner, argv, template, days); ``content`` is what a written file will hold
    (None: made at apply time); ``before`` is the SHA-256 of what stands there now.
    """

    action: Action
    where: str
    target: str
    sentence: str
    diff: str = ""
    before: str = ""
    content: bytes | None = field(default=None, repr=False)
    settings: Mapping[str, str | int] = field(default_factory=dict)

    def as_data(self) -> dict[str, object]:
        """The step as JSON data: what goes into the digest and the record."""
        return {
            "action": self.action,
            "where": self.where,
            "target": self.target,
            "sentence": self.sentence,
            "diff": self.diff,
            "before": self.before,
            "content": sha256(self.content) if self.content is not None else "",
            "settings": dict(self.settings),
        }


@dataclass(frozen=True)
class Plan:
    """The steps of one runbook for one wish. Empty: there is nothing to do."""

    runbook: str
    wish: Mapping[str, str | int]
    steps: tuple[Step, ...]
    # What the plan rests on without changing it, by name: SHA-256 of files, the CA certificate, releases.
    rests_on: Mapping[str, str] = field(default_factory=dict)
    # What is foreseen of its effect, case by case (case, decision), and whom of the past it would have met, as JSON
    # data: shown and recorded, but not in the digest, since logs grow all the while.
    outlook: tuple[tuple[str, str], ...] = ()
    impact: Mapping[str, object] = field(default_factory=dict)

    @property
    def is_empty(self) -> bool:
        return not self.steps

    def as_data(self) -> dict[str, object]:
        """The plan as JSON data."""
        return {
            "runbook": self.runbook,
            "wish": dict(self.wish),
            "rests_on": dict(self.rests_on),
            "steps": [step.as_data() for step in self.steps],
        }

    @property
    def digest(self) -> str:
        """SHA-256 over the plan's canonical JSON, in hex: what an approval is bound to."""
        canonical = json.dumps(self.as_data(), sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(canonical.encode()).hexdigest()
