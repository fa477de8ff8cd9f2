"""What may be applied: only the plan that was approved, and without approval nothing."""

from __future__ import annotations

import pytest

from mailtls_nb.testbed import Testbed
from tests.procedures.conftest import Machines, Ran, Runbooks

pytestmark = pytest.mark.testbed


@pytest.fixture(scope="module", autouse=True)
def ca(pristine: Testbed, runbooks: Runbooks) -> None:
    assert runbooks("01").outcome == "changed"


@pytest.fixture(scope="module")
def shown(runbooks: Runbooks, machines: Machines) -> Ran:
    """Only the plan; nothing is touched, not even by its being looked at."""
    state = machines.relay.state(), machines.relay.daemon()
    ran = runbooks("02", approve="")
    assert (machines.relay.state(), machines.relay.daemon()) == state
    return ran


def test_an_empty_approve_shows_the_plan(shown: Ran) -> None:
    assert (shown.outcome, shown.exit_status) == ("planned", 0)
    assert "The plan has 8 steps. Nothing has changed yet." in shown.shown["plan"]
    assert "+define(`confSERVER_CERT', ``/etc/mail/certs/relay.example.test.pem'')dnl" in shown.shown["plan"]
    assert shown.digest in shown.shown["plan"]
    assert "only the plan was asked for" in shown.shown["approval"]
    # The diff shows the block alone: neighbouring lines may hold secrets.
    diff = [line for line in shown.shown["plan"].splitlines() if line.startswith(("+", "-", " "))]
    assert not [line for line in diff if "MAILER" in line]


def test_a_plan_is_the_same_until_something_changes(shown: Ran, runbooks: Runbooks) -> None:
    assert runbooks("02", approve="").digest == shown.digest
    assert runbooks("02", approve="", valid_days=364).digest != shown.digest


def test_an_international_name_is_planned_in_its_ascii_form(runbooks: Runbooks) -> None:
    ran = runbooks("02", approve="", dns_names="Bücher.example.test")
    assert ran.record["plan"]["wish"]["names"] == "relay.example.test,xn--bcher-kva.example.test"


def test_a_digest_of_another_plan_is_refused_and_the_difference_is_named(
    shown: Ran, runbooks: Runbooks, machines: Machines
) -> None:
    relay = machines.relay
    wish = runbooks("02", approve=shown.digest, valid_days=30)
    assert wish.exit_status == 2
    assert "asked for: valid_days was 365, is 30" in wish.said
    relay.sh("cp -p /etc/mail/sendmail.mc /tmp/mc && echo 'dnl # a new line' >>/etc/mail/sendmail.mc")
    relay.sh("mkdir -m 700 /etc/mail/certs")
    try:
        state = relay.state()
        stale = runbooks("02", approve=shown.digest)
        assert relay.state() == state
    finally:
        relay.sh("cp -p /tmp/mc /etc/mail/sendmail.mc; rmdir /etc/mail/certs")
    assert (stale.outcome, stale.exit_status) == ("failed", 2)
    assert "State: nothing was touched" in stale.said
    assert "step on /etc/mail/certs: is gone" in stale.said
    assert "step on /etc/mail/sendmail.mc: before, content changed" in stale.said
    # A digest that is handed out with the refusal would be pasted unread.
    assert stale.digest not in stale.said
    assert "Next: run with approve empty, read the plan that it shows, then give its digest" in stale.said
    unknown = runbooks("02", approve="0" * 64)
    assert "no plan with that digest is in the audit folder" in unknown.said


def test_testbed_approves_nothing_but_the_testbed(runbooks: Runbooks, machines: Machines) -> None:
    """The very same container, named as an operator names his own."""
    state = machines.relay.state()
    ran = runbooks("02", host=f"docker://{machines.relay.name}")
    assert (ran.outcome, ran.exit_status) == ("planned", 3)
    assert "approve=testbed is for the testbed only" in ran.shown["approval"]
    assert machines.relay.state() == state


def test_what_changes_between_approval_and_change_is_not_overwritten(runbooks: Runbooks, machines: Machines) -> None:
    """An operator edits sendmail.mc while a run waits at its approval."""
    relay = machines.relay
    relay.sh("cp -p /etc/mail/sendmail.mc /tmp/mc")
    try:
        ran = runbooks.disturbed(lambda: _edit(machines), "02")
        assert relay.sh("grep -c 'edited meanwhile' /etc/mail/sendmail.mc").strip() == "1"
        assert "mailtls-nb" not in relay.sh("cat /etc/mail/sendmail.mc")
    finally:
        relay.sh("cp -p /tmp/mc /etc/mail/sendmail.mc")
    assert ran.exit_status == 2
    assert "what is there has changed since the plan was made: step on /etc/mail/sendmail.mc: before" in ran.said


def _edit(machines: Machines) -> None:
    machines.relay.sh("echo 'dnl # edited meanwhile' >>/etc/mail/sendmail.mc")


def test_the_digest_of_the_plan_shown_applies_it(shown: Ran, runbooks: Runbooks, machines: Machines) -> None:
    ran = runbooks("02", approve=shown.digest)
    assert (ran.outcome, ran.digest) == ("changed", shown.digest)
    assert "STARTTLS" in machines.relay.ehlo()
    assert runbooks("02", approve=shown.digest).outcome == "unchanged"
