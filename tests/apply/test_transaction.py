"""A change counts wholly or not at all; in every failure the mail server stands as it stood."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import TYPE_CHECKING

import pytest

from mailtls_nb.apply.transaction import Transaction, heal
from mailtls_nb.errors import ChangeFailed, NotReady, VerdictFailed
from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.layout import observe_layout

if TYPE_CHECKING:
    from tests.apply.conftest import Relay

pytestmark = pytest.mark.testbed

# ruff: noqa: PT012  # what fails here is a block: the change as a whole


@pytest.fixture(autouse=True)
def _installed(installed: None) -> None:
    """Each test begins with certificate 1 in service."""


def test_a_change_counts(relay: Relay) -> None:
    """The new certificate is on the port, files are closed to others, and nothing of the run is left."""
    relay.install(relay.host, 2)
    assert relay.serial() == "serial=02"
    modes = relay.sh("stat -c '%a %U:%G' /etc/mail/certs /etc/mail/certs/relay.example.test.pem /etc/mail/sendmail.cf")
    assert modes.splitlines() == ["700 root:root", "600 root:root", "644 root:smmsp"]
    assert relay.sh("ls -A /var/lib/mailtls-nb; find /etc/mail -name '*mailtls-nb*'").split() == ["guard"]
    assert not observe_layout(relay.host).drifted
    relay.install(relay.host, 1)


def test_a_later_make_by_the_operator_finds_the_cf_done(relay: Relay) -> None:
    """Debian's own make leaves our sendmail.cf and the daemon as they are."""
    script = (
        "sha256sum /etc/mail/sendmail.cf; stat -c %Y /etc/mail/sendmail.cf; head -n 1 /run/sendmail/mta/sendmail.pid"
    )
    before = relay.sh(script)
    relay.sh("make -C /etc/mail >/dev/null 2>&1")
    assert relay.sh(script) == before


def test_an_ordinary_user_still_submits_mail(relay: Relay) -> None:
    """sendmail.cf names files that only root reads; the submission agent has its own cf and does not mind."""
    said = relay.sh("echo 'Subject: x' | su nobody -s /bin/sh -c '/usr/sbin/sendmail -v root' 2>&1")
    assert "Message accepted for delivery" in said


@pytest.mark.usefixtures("unchanged")
def test_a_failing_observation_puts_everything_back(relay: Relay) -> None:
    """The new certificate was in service when the verdict failed; afterwards the old one is."""
    seen: list[str] = []

    def verdict() -> None:
        seen.append(relay.serial())
        raise VerdictFailed("the chain does not verify")

    with pytest.raises(ChangeFailed, match="the chain does not verify") as caught:
        relay.install(relay.host, 3, verdict)
    assert seen == ["serial=03"]
    assert "everything was put back" in caught.value.left
    assert "reloaded and answers" in caught.value.left


@pytest.mark.usefixtures("unchanged")
def test_an_interruption_puts_everything_back(relay: Relay) -> None:
    """Ctrl-C, and SIGTERM where it is turned into the same."""

    def interrupted() -> None:
        raise KeyboardInterrupt

    with pytest.raises(ChangeFailed, match="it was interrupted"):
        relay.install(relay.host, 3, interrupted)


@pytest.mark.usefixtures("unchanged")
def test_a_broken_mc_never_becomes_the_cf(relay: Relay) -> None:
    """m4 ends with status 0 and prints *** ERROR: the live cf is not replaced, the daemon not touched."""
    mc = relay.host.read(relay.layout.mc)
    pid = relay.pid()
    assert mc is not None
    with (
        pytest.raises(ChangeFailed, match=r"\*\*\* ERROR: FEATURE\(\) should be before MAILER") as caught,
        Transaction(relay.host, relay.layout) as change,
    ):
        change.write(relay.layout.mc, mc + b"FEATURE(`use_ct_file')dnl\n", mode=0o600, owner="root:root")
        change.build({})
    assert "the mail server was not touched" in caught.value.left
    assert relay.pid() == pid


@pytest.mark.usefixtures("unchanged")
def test_a_cf_without_the_expected_settings_is_not_used(relay: Relay) -> None:
    """What the operator asked for must be in the built cf."""
    with (
        pytest.raises(ChangeFailed, match=r"CRLFile is not set where '/etc/mail/crl\.pem' is expected"),
        Transaction(relay.host, relay.layout) as change,
    ):
        change.make_directory(relay.cert_dir, mode=0o700, owner="root:root")
        change.build({"CRLFile": "/etc/mail/crl.pem"})


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        ('openssl ec -aes128 -passout pass:x -in "$1" -out "$1.k" 2>/dev/null && mv "$1.k" "$1"', "passphrase"),
        ('chmod 0644 "$1"', "does not offer STARTTLS"),
        ('echo garbage >"$1"', "does not offer STARTTLS"),
    ],
)
@pytest.mark.usefixtures("unchanged")
def test_a_key_that_cannot_be_used_is_found_before_the_daemon_reads_it(relay: Relay, script: str, problem: str) -> None:
    """A sendmail of its own stumbles first; the daemon keeps its pid."""
    pid = relay.pid()
    with (
        pytest.raises(ChangeFailed, match=problem) as caught,
        Transaction(relay.host, relay.layout) as change,
    ):
        change.run(["sh", "-c", script, "sh", relay.bundle], changes=[relay.bundle])
        change.build({"ServerCertFile": relay.bundle})
    assert "the mail server was not touched" in caught.value.left
    assert relay.pid() == pid


@pytest.mark.usefixtures("unchanged")
def test_a_daemon_that_does_not_come_back_is_brought_back(relay: Relay) -> None:
    """An address that is not the host's passes every trial, and the daemon dies of it: the old one is started anew."""
    mc = relay.host.read(relay.layout.mc)
    assert mc is not None
    with (
        pytest.raises(ChangeFailed, match="no new mail server answers") as caught,
        Transaction(relay.host, relay.layout) as change,
    ):
        strange = mc.replace(b"Port=smtp", b"Port=smtp, Addr=192.0.2.1")
        change.write(relay.layout.mc, strange, mode=0o644, owner="root:smmsp")
        change.build({})
        change.reload()
    assert "reloaded and answers" in caught.value.left
    assert relay.sh("ps -e -o args= | grep -c '[s]endmail: MTA: accepting'").strip() == "1"


@pytest.mark.usefixtures("unchanged")
def test_what_was_made_or_changed_is_as_before(relay: Relay) -> None:
    """New directories and files go, modes, owners and times come back, also set-group-id; odd names too."""
    odd = "/etc/mail/it's a\nnew -file"
    with pytest.raises(ChangeFailed, match="stop here"), Transaction(relay.host, relay.layout) as change:
        change.make_directory("/etc/mail/m4", mode=0o700, owner="nobody:nogroup")
        change.make_directory("/etc/mail/new", mode=0o755, owner="root:root")
        change.write("/etc/mail/new/file", b"x" * 100_000, mode=0o600, owner="root:root")
        change.write(odd, b"\x00\xff", mode=0o644, owner="root:root")
        change.write("/etc/mail/access", b"", mode=0o666, owner="nobody:nogroup")
        change.run(["rm", "/etc/mail/helpfile"], changes=["/etc/mail/helpfile"])
        seen = relay.sh('cd /etc/mail; stat -c "%a %U" m4 new new/file access; ls helpfile; cat "$1" | od -c', odd)
        assert seen.split()[:8] == ["700", "nobody", "755", "root", "600", "root", "666", "nobody"]
        assert "377" in seen
        raise ValueError("stop here")


@pytest.mark.usefixtures("unchanged")
def test_a_change_for_the_time_of_a_context_leaves_nothing(relay: Relay) -> None:
    """With keep=False the end is a way back without an error."""
    with Transaction(relay.host, relay.layout, keep=False) as change:
        change.write("/etc/mail/new", b"x", mode=0o600, owner="root:root")
        assert relay.host.read("/etc/mail/new") == b"x"


@pytest.mark.usefixtures("unchanged")
def test_a_symbolic_link_is_not_changed(relay: Relay) -> None:
    """What it leads to belongs to somebody else."""
    with (
        pytest.raises(ChangeFailed, match=r"/etc/mail/aliases is a symbolic link"),
        Transaction(relay.host, relay.layout) as change,
    ):
        change.write("/etc/mail/aliases", b"", mode=0o644, owner="root:root")


@pytest.mark.usefixtures("unchanged")
def test_a_second_run_is_refused_while_the_first_is_at_work(relay: Relay) -> None:
    """Two changes never interleave, and the refused one touches nothing."""
    with Transaction(relay.host, relay.layout):
        with pytest.raises(NotReady, match="another run is changing this host"):
            relay.install(relay.host, 4)
        with pytest.raises(NotReady, match="another run is changing this host"):
            Transaction(relay.host, relay.layout).__enter__()


@pytest.mark.usefixtures("unchanged")
def test_a_silent_lock_of_another_machine_is_passed_over_after_its_lease(relay: Relay) -> None:
    """Whether its holder lives cannot be asked; 14 minutes are not enough, 16 are."""
    lock = "/var/lib/mailtls-nb/lock"
    relay.sh(f"echo '0 another-boot pid:[1] 7 1 elsewhere' >{lock}; touch -d '14 minutes ago' {lock}")
    with pytest.raises(NotReady, match=r"process 7 on elsewhere"):
        Transaction(relay.host, relay.layout).__enter__()
    relay.sh(f"touch -d '16 minutes ago' {lock}")
    with Transaction(relay.host, relay.layout):
        pass


@pytest.mark.usefixtures("unchanged")
@pytest.mark.parametrize("at", [5, 9])
def test_a_host_lost_in_the_middle_is_put_back_by_the_next_run(
    relay: Relay, breaking: Callable[..., Host], at: int
) -> None:
    """The error says that nothing could be put back; the same process may heal it once the host is there again."""
    with pytest.raises(ChangeFailed, match="the network is down") as caught:
        relay.install(breaking(at=at), 5)
    assert "putting everything back failed" in caught.value.left
    assert relay.greeting().startswith("220 ")
    layout = observe_layout(relay.host)
    assert layout.interrupted
    assert any("put back" in line for line in heal(relay.host, layout))
    assert heal(relay.host, observe_layout(relay.host)) == ()


@pytest.mark.usefixtures("unchanged")
def test_a_mail_server_that_is_down_is_left_alone(relay: Relay) -> None:
    """Whether it may be started is the operator's to say; the error says how."""
    relay.sh("kill `head -n 1 /run/sendmail/mta/sendmail.pid`; sleep 0.5")
    try:
        with pytest.raises(NotReady, match="does not answer") as caught:
            relay.install(relay.host, 6)
        assert "/etc/init.d/sendmail start" in caught.value.do
    finally:
        relay.sh(f"{' '.join(relay.layout.daemon_argv)} >/dev/null 2>&1; sleep 0.5")


@pytest.mark.usefixtures("unchanged")
def test_a_cf_changed_by_hand_is_not_overwritten(relay: Relay) -> None:
    """The next build would drop the operator's edit."""
    relay.sh("cp -p /etc/mail/sendmail.cf /root/cf; echo '# by hand' >>/etc/mail/sendmail.cf")
    relay.sh("sed -i '1i# by hand' /etc/mail/sendmail.cf")
    try:
        with (
            pytest.raises(NotReady, match=r"does not build the /etc/mail/sendmail\.cf in use"),
            Transaction(relay.host, observe_layout(relay.host)) as change,
        ):
            change.build({})
    finally:
        relay.sh("cp -p /root/cf /etc/mail/sendmail.cf")


@pytest.mark.usefixtures("unchanged")
def test_a_change_that_builds_nothing_is_made_although_the_cf_was_changed_by_hand(relay: Relay) -> None:
    """A certificate can be renewed after an upgrade of sendmail-cf."""
    relay.sh("cp -p /etc/mail/sendmail.cf /root/cf; sed -i '1i# by hand' /etc/mail/sendmail.cf")
    try:
        with Transaction(relay.host, observe_layout(relay.host), keep=False) as change:
            change.write("/etc/mail/new", b"x", mode=0o600, owner="root:root")
    finally:
        relay.sh("cp -p /root/cf /etc/mail/sendmail.cf")


@pytest.mark.usefixtures("unchanged")
def test_a_key_is_tried_also_where_nothing_is_built(relay: Relay) -> None:
    """A renewal leaves sendmail.cf alone; a key that cannot be used is found before the daemon reads it."""
    pid = relay.pid()
    with (
        pytest.raises(ChangeFailed, match="does not offer STARTTLS"),
        Transaction(relay.host, relay.layout) as change,
    ):
        change.write(relay.bundle, b"garbage", mode=0o600, owner="root:root")
        change.reload()
    assert relay.pid() == pid


def test_a_connection_lost_at_the_very_end_is_no_failure(relay: Relay, breaking: Callable[..., Host]) -> None:
    """The last command was carried out and only its answer was lost: the change counts."""
    host = breaking(at=3, times=1, runs=True)
    with Transaction(host, relay.layout) as change:
        pass
    assert any("counts" in remark for remark in change.remarks)
    with Transaction(breaking(at=4, times=1, runs=True), relay.layout) as change:
        change.write("/etc/mail/new", b"x", mode=0o600, owner="root:root")
    assert relay.sh("cat /etc/mail/new; echo; rm /etc/mail/new; ls -A /var/lib/mailtls-nb").split() == ["x", "guard"]


@pytest.mark.usefixtures("unchanged")
def test_a_connection_lost_before_the_very_end_puts_everything_back(
    relay: Relay, breaking: Callable[..., Host]
) -> None:
    """The last command was never carried out."""
    with (
        pytest.raises(ChangeFailed, match="the network is down"),
        Transaction(breaking(at=4, times=1), relay.layout) as change,
    ):
        change.write("/etc/mail/new", b"x", mode=0o600, owner="root:root")


def test_a_daemon_that_is_restarted_rather_than_signalled(relay: Relay) -> None:
    """The init script's own restart leaves the old daemon on the port; afterwards there is one, and it is new."""
    service = dataclasses.replace(relay.layout.service, reload="restart")
    other = dataclasses.replace(relay, layout=dataclasses.replace(relay.layout, service=service))
    pid = relay.pid()
    other.install(relay.host, 8)
    assert relay.serial() == "serial=08"
    assert relay.pid() not in ("", pid)
    assert relay.sh("ps -e -o args= | grep -c '[s]endmail: MTA: accepting'").strip() == "1"
