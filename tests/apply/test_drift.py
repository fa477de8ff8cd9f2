"""Whether the .mc builds the cf in use, and what a plan can be bound to."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

from mailtls_nb.observe.layout import observe_drift, observe_layout
from mailtls_nb.sendmail.layout import Build, Layout

if TYPE_CHECKING:
    from tests.apply.conftest import Relay

pytestmark = pytest.mark.testbed


def test_the_checksums_of_an_unchanged_host_are_the_same_each_time(relay: Relay) -> None:
    """Of the cf as it stands and of what m4 prints; each changes with its file."""
    first, second = observe_layout(relay.host), observe_layout(relay.host)
    assert first.cf_checksum
    assert first.built_checksum
    assert first == second
    relay.sh("cp -p /etc/mail/sendmail.cf /root/cf; echo '# by hand' >>/etc/mail/sendmail.cf")
    by_hand = observe_layout(relay.host)
    relay.sh("cp -p /root/cf /etc/mail/sendmail.cf; echo 'LOCAL_CONFIG' >>/etc/mail/sendmail.mc")
    relay.sh("echo '# more' >>/etc/mail/sendmail.mc")
    other_mc = observe_layout(relay.host)
    relay.sh("sed -i -e '/^LOCAL_CONFIG$/d' -e '/^# more$/d' /etc/mail/sendmail.mc")
    assert by_hand.cf_checksum != first.cf_checksum
    assert by_hand.built_checksum == first.built_checksum
    assert other_mc.cf_checksum == first.cf_checksum
    assert other_mc.built_checksum != first.built_checksum
    assert other_mc.drifted


@pytest.fixture
def named_on_the_command_line(relay: Relay) -> Iterator[Layout]:
    """A layout as on Solaris: the .mc does not include cf.m4, m4 is given it."""
    script = r"""
    mkdir /root/solaris
    sed '/cf\.m4/d' /etc/mail/sendmail.mc >/root/solaris/sendmail.mc
    cd /root/solaris
    m4 -D_CF_DIR_=/usr/share/sendmail/cf/ /usr/share/sendmail/cf/m4/cf.m4 /root/solaris/sendmail.mc >sendmail.cf
    """
    relay.sh(script)
    cf_dir = "/usr/share/sendmail/cf/"
    m4_argv = ("m4", f"-D_CF_DIR_={cf_dir}", f"{cf_dir}m4/cf.m4", "/root/solaris/sendmail.mc")
    yield dataclasses.replace(
        relay.layout,
        mc="/root/solaris/sendmail.mc",
        cf="/root/solaris/sendmail.cf",
        build=Build("/root/solaris", m4_argv, appends_mc=False),
        built_checksum="",
    )
    relay.sh("rm -r /root/solaris")


def test_a_cf_m4_on_the_command_line(relay: Relay, named_on_the_command_line: Layout) -> None:
    """The same m4 command as the build's tells whether the cf was changed by hand."""
    layout = named_on_the_command_line
    built = observe_drift(relay.host, layout)
    assert not built.drifted
    assert built.built_checksum
    assert built == observe_drift(relay.host, layout)
    without = dataclasses.replace(layout, build=Build(layout.build.directory, ("m4", layout.mc), appends_mc=False))
    assert observe_drift(relay.host, without).drifted
    relay.sh('echo "# by hand" >>"$1"', layout.cf)
    assert observe_drift(relay.host, layout).drifted
