"""What a refused approval says of how the plan has changed."""

from __future__ import annotations

from mailtls_nb.approval import what_changed
from mailtls_nb.plan import Action, Plan, Step

INDEX = "/ca/index.txt"


def step(action: Action, target: str = INDEX, sentence: str = "Do it.") -> Step:
    return Step(action, "here", target, sentence)


def changed(before: list[Step], after: list[Step]) -> str:
    earlier, now = (Plan("02-issue-certificate", {}, tuple(steps)) for steps in (before, after))
    return what_changed(earlier.as_data(), now)


def test_one_step_on_each_target_is_named_by_the_target() -> None:
    there, other = step("write", "/a"), step("write", "/b")
    assert changed([there], [there, other]) == "step on /b: is new"
    assert changed([there, other], [there]) == "step on /b: is gone"
    assert changed([there], [step("set-mode", "/a", "Close it.")]) == "step on /a: action, sentence changed"
    assert changed([there, other], [other, there]) == "the steps are in another order"


def test_each_of_several_steps_on_one_target_is_told_apart() -> None:
    mend, update, revoke = (step(action) for action in ("mend-index", "update-index", "revoke"))
    assert changed([mend, update, revoke], [mend, revoke]) == f"step on {INDEX} (update-index): is gone"
    assert changed([revoke], [mend, revoke]) == f"step on {INDEX} (mend-index): is new"
    other = step("mend-index", sentence="Do more.")
    assert changed([mend, update, revoke], [other, update, revoke]) == f"step on {INDEX} (mend-index): sentence changed"


def test_each_of_several_steps_of_one_kind_is_told_apart() -> None:
    """As where the certificates for server and client are renewed together."""
    first, second = step("sign", "testbed"), step("sign", "testbed", "Sign another.")
    assert changed([first, second], [first]) == "step on testbed (sign, number 2): is gone"
    assert changed([first, second], [step("sign", "testbed", "Other."), second]) == (
        "step on testbed (sign): sentence changed"
    )
