"""Symbolic links in a change: made, replaced, renamed and removed, and put back as they were."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from mailtls_nb.apply.transaction import Transaction
from mailtls_nb.errors import ChangeFailed, StaleApproval

if TYPE_CHECKING:
    from tests.apply.conftest import Relay

pytestmark = pytest.mark.testbed

# ruff: noqa: PT012  # what fails here is a block: the change as a whole

HASHED = "/etc/mail/hashed"


@pytest.fixture(autouse=True)
def _hashed(relay: Relay) -> None:
    relay.sh(
        'rm -rf "$1"; mkdir "$1" && cd "$1" && echo a >a.pem && ln -s a.pem h.0 && ln -s gone.pem h.1 && echo p >h.2',
        HASHED,
    )


def links(relay: Relay) -> dict[str, str]:
    """What each name is: the target of a link, the content of a file."""
    script = r'cd "$1" && for f in *; do echo "$f `if [ -h "$f" ]; then readlink "$f"; else cat "$f"; fi`"; done'
    return dict(line.split(" ", 1) for line in relay.sh(script, HASHED).splitlines())


def change_all(change: Transaction) -> None:
    change.link(f"{HASHED}/h.1", "a.pem", expected="link gone.pem")
    change.link(f"{HASHED}/h.3", "a.pem", expected="absent")
    change.move(f"{HASHED}/h.2", f"{HASHED}/h.0", expected=None)
    change.remove(f"{HASHED}/a.pem")


def test_links_are_changed_themselves(relay: Relay) -> None:
    with Transaction(relay.host, relay.layout) as change:
        change_all(change)
    assert links(relay) == {"h.0": "p", "h.1": "a.pem", "h.3": "a.pem"}


def test_links_are_put_back_as_they_were(relay: Relay) -> None:
    before = links(relay)
    with pytest.raises(ChangeFailed, match="everything was put back"), Transaction(relay.host, relay.layout) as change:
        change_all(change)
        raise KeyboardInterrupt
    assert links(relay) == before == {"a.pem": "a", "h.0": "a.pem", "h.1": "gone.pem", "h.2": "p"}


def test_a_link_that_somebody_else_changed_since_is_left_alone(relay: Relay) -> None:
    problem = r"h\.1 \(somebody else changed it"
    with pytest.raises(ChangeFailed, match=problem), Transaction(relay.host, relay.layout) as change:
        change.link(f"{HASHED}/h.1", "a.pem")
        relay.sh('ln -sfn theirs.pem "$1"', f"{HASHED}/h.1")
        raise KeyboardInterrupt
    assert links(relay)["h.1"] == "theirs.pem"
    relay.sh("rm -rf /var/lib/mailtls-nb/transaction")


def test_a_link_to_something_else_than_planned_is_not_replaced(relay: Relay) -> None:
    with pytest.raises(StaleApproval, match=r"h\.1 .* was changed"), Transaction(relay.host, relay.layout) as change:
        change.link(f"{HASHED}/h.1", "a.pem", expected="absent")
    assert links(relay)["h.1"] == "gone.pem"


def test_a_link_to_a_directory_is_refused(relay: Relay) -> None:
    """A rename would end in the directory that it leads to."""
    relay.sh('ln -sfn /etc "$1"', f"{HASHED}/h.0")
    with pytest.raises(ChangeFailed, match="leads to a directory"), Transaction(relay.host, relay.layout) as change:
        change.link(f"{HASHED}/h.0", "a.pem")
    assert links(relay)["h.0"] == "/etc"
