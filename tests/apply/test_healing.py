"""What an interrupted run left is undone, and the mail server serves what is on the disk again."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from mailtls_nb.apply.transaction import Transaction, heal
from mailtls_nb.errors import ChangeFailed
from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.layout import observe_layout
from mailtls_nb.sendmail.layout import Service

if TYPE_CHECKING:
    from tests.apply.conftest import Relay

pytestmark = pytest.mark.testbed

# ruff: noqa: PT012  # what fails here is a block: the change as a whole

STOP = "kill `head -n 1 /run/sendmail/mta/sendmail.pid`; sleep 0.5"
IN_PLACE = 9  # commands of an installation until the new cf is in place and the daemon not yet told


@pytest.fixture
def interrupted(relay: Relay, breaking: Callable[..., Host]) -> None:
    """An installation that lost its host once the new files were all in place."""
    with pytest.raises(ChangeFailed):
        relay.install(breaking(at=IN_PLACE), 5)


@pytest.mark.usefixtures("unchanged", "interrupted")
def test_a_daemon_that_somebody_restarted_meanwhile_reads_the_old_files_again(relay: Relay) -> None:
    """It had read the half-made change, of which no run had told it."""
    relay.sh("kill -HUP `head -n 1 /run/sendmail/mta/sendmail.pid`; sleep 1")
    assert relay.serial() == "serial=05"
    heal(relay.host, observe_layout(relay.host))


@pytest.mark.usefixtures("unchanged", "interrupted")
def test_a_daemon_that_is_down_is_started(relay: Relay) -> None:
    """It may be down because of the interrupted change."""
    relay.sh(STOP)
    healed = heal(relay.host, observe_layout(relay.host))
    assert any("answers" in line for line in healed)


@pytest.mark.usefixtures("unchanged", "interrupted")
def test_a_daemon_that_cannot_be_started_does_not_hide_what_was_put_back(relay: Relay) -> None:
    """The files are as before, and the error neither says that nothing was touched nor keeps the journal."""
    relay.sh(STOP)
    broken = dataclasses.replace(observe_layout(relay.host), service=Service("sysv", "/bin/false", "hup"))
    try:
        with pytest.raises(ChangeFailed, match="does not answer") as caught:
            heal(relay.host, broken)
        assert "/etc/mail/sendmail.cf: put back" in caught.value.left
        assert "/bin/false start" in caught.value.do
    finally:
        relay.sh(f"{' '.join(relay.layout.daemon_argv)} >/dev/null 2>&1; sleep 0.5")
    assert not observe_layout(relay.host).interrupted


@pytest.mark.usefixtures("unchanged", "interrupted")
def test_an_edit_after_the_interruption_is_kept(relay: Relay) -> None:
    """Healing stops at the operator's edit, says where the copy is, and its advice can be followed."""
    mc = relay.host.read(relay.layout.mc)
    assert mc is not None
    relay.sh('echo "dnl mine" >>"$1"', relay.layout.mc)
    with pytest.raises(ChangeFailed) as caught:
        heal(relay.host, observe_layout(relay.host))
    assert relay.host.read(relay.layout.mc) == mc + b"dnl mine\n"
    assert relay.layout.mc in caught.value.left
    back = next(part for part in caught.value.do.split("`") if part.startswith("cp -p "))
    relay.sh(back)
    heal(relay.host, observe_layout(relay.host))


@pytest.mark.usefixtures("interrupted")
def test_an_edit_may_be_kept_for_good(relay: Relay, installed: None) -> None:
    """The other half of the advice: the entry is removed, the edit stays, the rest is put back."""
    relay.sh('echo "dnl mine" >>"$1"', relay.layout.mc)
    with pytest.raises(ChangeFailed) as caught:
        heal(relay.host, observe_layout(relay.host))
    relay.sh(next(part for part in caught.value.do.split("`") if part.startswith("rm -r ")))
    healed = heal(relay.host, observe_layout(relay.host))
    assert any("sendmail.cf" in line for line in healed)
    assert relay.sh('tail -n 1 "$1"; sed -i "/^dnl mine/d" "$1"', relay.layout.mc) == "dnl mine\n"


@pytest.mark.usefixtures("unchanged")
def test_a_file_of_somebody_else_in_a_new_directory_stays(relay: Relay, breaking: Callable[..., Host]) -> None:
    """The directory stays with it, which is remarked on; later runs are not kept from their work."""
    change = Transaction(breaking(at=5), relay.layout)
    with pytest.raises(ChangeFailed), change:
        change.make_directory("/etc/mail/made", mode=0o700, owner="root:root")
        change.write("/etc/mail/made/ours", b"x", mode=0o600, owner="root:root")
    relay.sh("touch /etc/mail/made/theirs")
    with Transaction(relay.host, observe_layout(relay.host)) as change:
        pass
    assert any("/etc/mail/made" in remark for remark in change.remarks)
    assert relay.sh("ls /etc/mail/made; rm -r /etc/mail/made") == "theirs\n"
