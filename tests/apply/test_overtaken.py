"""What somebody saved since the plan was made is never overwritten."""

from __future__ import annotations

from hashlib import sha256
from typing import TYPE_CHECKING

import pytest

from mailtls_nb.apply.transaction import Transaction
from mailtls_nb.errors import ChangeFailed, StaleApproval

if TYPE_CHECKING:
    from tests.apply.conftest import Relay

pytestmark = pytest.mark.testbed

# ruff: noqa: PT012  # what fails here is a block: the change as a whole

FILE = "/etc/mail/planned"
OLD, NEW = sha256(b"old").hexdigest(), b"new"


@pytest.mark.usefixtures("unchanged")
def test_what_is_as_planned_is_replaced(relay: Relay) -> None:
    """Absent, then a known content, for a file written and for a command."""
    with Transaction(relay.host, relay.layout, keep=False) as change:
        change.write(FILE, b"old", mode=0o600, owner="root:root", expected="absent")
        change.run(["touch", FILE], changes=[FILE], expected={FILE: OLD}).check("touching")
        change.write(FILE, NEW, mode=0o600, owner="root:root", expected=OLD)
        assert relay.host.read(FILE) == NEW


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("expected", ["absent", OLD])
def test_what_was_saved_meanwhile_is_kept(relay: Relay, expected: str) -> None:
    """Everything else is put back; the error says so."""
    relay.sh('printf theirs >"$1"', FILE)
    stale = f"{FILE} on {relay.host.name} was changed since the plan was made"
    with pytest.raises(ChangeFailed, match=stale) as caught, Transaction(relay.host, relay.layout) as change:
        change.write(relay.bundle, b"x", mode=0o600, owner="root:root")
        change.write(FILE, NEW, mode=0o600, owner="root:root", expected=expected)
    assert isinstance(caught.value.__cause__, StaleApproval)
    assert "everything else was put back" in caught.value.left
    assert relay.sh('cat "$1"; rm "$1"', FILE) == "theirs"


@pytest.mark.usefixtures("unchanged")
def test_where_nothing_was_changed_yet_only_the_plan_is_stale(relay: Relay) -> None:
    """The exit status is that of a stale plan, and a file that is gone counts as changed."""
    with pytest.raises(StaleApproval) as caught, Transaction(relay.host, relay.layout) as change:
        change.run(["false"], changes=[relay.bundle], expected={FILE: OLD})
    assert caught.value.left == "nothing was touched"


@pytest.mark.usefixtures("unchanged")
def test_a_roll_back_leaves_what_was_saved_after_our_change(relay: Relay) -> None:
    """The file keeps the operator's content, the copy is kept and named."""
    with pytest.raises(ChangeFailed, match="stop here") as caught, Transaction(relay.host, relay.layout) as change:
        change.write(FILE, NEW, mode=0o600, owner="root:root")
        relay.sh('printf theirs >"$1"', FILE)
        raise ValueError("stop here")
    assert FILE in caught.value.left
    assert relay.sh('cat "$1"', FILE) == "theirs"
    relay.sh(next(part for part in caught.value.do.split("`") if part.startswith("rm -- ")))
    with Transaction(relay.host, relay.layout):
        pass
