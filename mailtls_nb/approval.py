"""Approval: bound to the digest of exactly the plan that would be applied."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mailtls_nb.errors import BadParameter, StaleApproval
from mailtls_nb.plan import Plan

# The parts of a plan that its steps follow from, in an operator's words.
_WORDS = {"runbook": "another runbook", "wish": "asked for", "rests_on": "found there"}

_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class Approval:
    """Whether the plan may be applied; ``how`` is testbed, auto, digest or not approved; ``sentence`` says why."""

    granted: bool
    approve: str
    how: str
    sentence: str


def check_word(approve: str) -> str:
    """The approve parameter as given, or BadParameter when it is none of its forms."""
    if approve in {"", "testbed", "auto"} or _DIGEST.fullmatch(approve):
        return approve
    raise BadParameter(
        "approve", f"{approve!r:.80} is neither testbed, auto, empty nor the digest of a plan (64 hexadecimal digits)"
    )


def decide(approve: str, plan: Plan, *, is_testbed: bool, audit_dir: Path) -> Approval:
    """Decide for this plan; raises StaleApproval for the digest of another one, saying what changed."""
    if plan.is_empty:
        return Approval(False, approve, "not approved", "There is nothing to approve.")
    match check_word(approve):
        case "testbed" if is_testbed:
            return Approval(True, approve, "testbed", "Approved: everything this run touches is the testbed's.")
        case "testbed":
            return Approval(
                False,
                approve,
                "not approved",
                "Not approved: approve=testbed is for the testbed only. Give this plan's digest, or auto.",
            )
        case "auto":
            return Approval(True, approve, "auto", "Approved without a look at the plan (approve=auto).")
        case "":
            return Approval(
                False, approve, "not approved", "Not approved: only the plan was asked for (approve is empty)."
            )
        case digest if digest == plan.digest:
            return Approval(True, approve, "digest", "Approved: the digest given is this plan's.")
        case digest:
            raise StaleApproval(
                "the digest in approve is not this plan's: " + _what_changed(digest, plan, audit_dir),
                left="nothing was touched",
                do="run with approve empty, read the plan that it shows, then give its digest",
            )


def _what_changed(digest: str, plan: Plan, audit_dir: Path) -> str:
    earlier = _earlier_plan(digest, audit_dir)
    return what_changed(earlier, plan) if earlier else "no plan with that digest is in the audit folder"


def check_still(plan: Plan, latest: Plan, where: str) -> None:
    """Raise StaleApproval where the plan, made anew under the host's lock, is another one; ``where`` is the host."""
    if latest.digest != plan.digest:
        raise StaleApproval(
            f"{where}: what is there has changed since the plan was made: " + what_changed(plan.as_data(), latest),
            left="nothing was touched",
            do="run again: the plan is made anew",
        )


def what_changed(earlier: Mapping[str, Any], plan: Plan) -> str:
    """How a plan differs from an earlier one, given as JSON data."""
    now = json.loads(json.dumps(plan.as_data()))
    changed = [key for key in _WORDS if earlier.get(key) != now[key]]
    details = [
        f"{_WORDS[key]}: {name} was {earlier.get(key, {}).get(name, 'absent')}, is {now[key].get(name, 'absent')}"
        for key in changed
        if key != "runbook"
        for name in sorted({*earlier.get(key, {}), *now[key]})
        if earlier.get(key, {}).get(name) != now[key].get(name)
    ]
    plans: tuple[list[dict[str, Any]], ...] = (earlier.get("steps", []), now["steps"])
    # A target with one step is known by that; where it has several, each of them by what it does there.
    several = {step["target"] for steps in plans for step in steps if _count(steps, target=step["target"]) > 1}
    before, after = (_by_name(steps, several) for steps in plans)
    details += [
        f"step on {name}: {_difference(before.get(name), after.get(name))}"
        for name in sorted({*before, *after})
        if before.get(name) != after.get(name)
    ]
    return "; ".join(details) or "the steps are in another order"


def _by_name(steps: Sequence[dict[str, Any]], several: Collection[str]) -> dict[str, dict[str, Any]]:
    """The steps by a name that no two of them share: the target, and where it is among ``several`` the action too."""
    named: dict[str, dict[str, Any]] = {}
    for number, step in enumerate(steps):
        target, action = step["target"], step["action"]
        name = f"{target} ({action})" if target in several else target
        if earlier := _count(steps[:number], target=target, action=action):
            name = f"{target} ({action}, number {earlier + 1})"
        named[name] = step
    return named


def _count(steps: Sequence[dict[str, Any]], **like: str) -> int:
    return sum(all(step[key] == value for key, value in like.items()) for step in steps)


def _difference(before: dict[str, Any] | None, after: dict[str, Any] | None) -> str:
    if before is None:
        return "is new"
    if after is None:
        return "is gone"
    return ", ".join(sorted(key for key in after if before.get(key) != after[key])) + " changed"


def _earlier_plan(digest: str, audit_dir: Path) -> dict[str, Any] | None:
    for path in sorted(audit_dir.glob("*/record.json"), reverse=True):
        try:
            plan = json.loads(path.read_bytes())["predicate"]["plan"]
        except (OSError, ValueError, KeyError):
            continue
        if plan and plan.get("digest") == digest:
            return dict(plan)
    return None
