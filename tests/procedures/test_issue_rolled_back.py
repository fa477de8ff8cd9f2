"""02-issue-certificate that fails: everything is put back, and nothing is touched where the proof could not be had."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from cryptography import x509

from mailtls_nb.apply.transaction import Transaction
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.procedures.issue import put_into_service, sign
from mailtls_nb.testbed import Testbed
from tests.procedures.conftest import Machine, Machines, Runbooks

pytestmark = pytest.mark.testbed


@pytest.fixture(scope="module", autouse=True)
def ca(pristine: Testbed, runbooks: Runbooks) -> CADirectory:
    assert runbooks("01").outcome == "changed"
    return CADirectory.open(pristine.ca_dir)


@contextmanager
def put_back(machine: Machine) -> Iterator[None]:
    """Whatever happens within leaves the host's files as they are, and a mail server that answers without STARTTLS."""
    keys = "grep -rl 'PRIVATE KEY-----' /etc /root /run /tmp /var | sort"
    tree, files_with_keys = machine.tree(), machine.sh(keys)
    yield
    assert machine.tree() == tree
    assert machine.sh(keys) == files_with_keys != ""
    assert "STARTTLS" not in machine.ehlo()


def mislead(testbed: Testbed) -> None:
    """From now on stranger takes partner's address for relay's."""
    relay, partner = testbed.address("relay"), testbed.address("partner")
    testbed.set_dns("stranger", [line.replace(f"{relay} ", f"{partner} ") for line in testbed.hosts_lines()])


def test_another_serial_on_the_port_undoes_the_change(
    runbooks: Runbooks, machines: Machines, pristine: Testbed, ca: CADirectory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proof looks at the port: from where it looks, the name suddenly leads to another server."""
    reload = Transaction.reload

    def reload_and_mislead(change: Transaction) -> None:
        reload(change)
        if change.host.name == "testbed:relay":
            mislead(pristine)

    monkeypatch.setattr(Transaction, "reload", reload_and_mislead)
    with put_back(machines.relay):
        try:
            ran = runbooks("02")
        finally:
            pristine.set_dns("stranger", pristine.hosts_lines())
    assert (ran.outcome, ran.exit_status) == ("failed", 1)
    (row,) = ca.rows()
    assert f"the certificate on port 25 is the one installed: expected serial {row.serial:X}, observed none" in ran.said
    assert "State: everything was put back and compared with its copy" in ran.said
    assert "the mail server was reloaded and answers" in ran.said
    # The record of a failed run keeps what was seen.
    assert ran.claims["STARTTLS is offered"] == ("not offered", "live")
    assert "not offered" in ran.shown["evidence"]
    assert "verdict" not in ran.shown


def test_what_is_saved_while_the_certificate_is_signed_is_not_overwritten(
    pristine: Testbed, runbooks: Runbooks, machines: Machines, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator saves sendmail.mc after the last look at it and before it would be written."""
    relay = machines.relay

    def sign_and_edit(*arguments: Any) -> x509.Certificate:
        certificate: x509.Certificate = sign.sign_key(*arguments)
        relay.sh("cp -p /etc/mail/sendmail.mc /tmp/mc && echo 'dnl # edited meanwhile' >>/etc/mail/sendmail.mc")
        return certificate

    monkeypatch.setattr(put_into_service, "sign_key", sign_and_edit)
    with put_back(relay):
        try:
            ran = runbooks("02")
            saved = relay.sh("cat /etc/mail/sendmail.mc")
        finally:
            relay.sh("cp -p /tmp/mc /etc/mail/sendmail.mc; rm -f /tmp/mc")
    assert saved.endswith("dnl # edited meanwhile\n")
    assert "mailtls-nb" not in saved
    assert (ran.outcome, ran.exit_status) == ("failed", 1)
    assert "/etc/mail/sendmail.mc" in ran.said
    assert "was changed since the plan was made" in ran.said


def test_a_probe_that_reaches_another_server_is_seen_before_anything_is_touched(
    runbooks: Runbooks, machines: Machines, pristine: Testbed
) -> None:
    state = machines.relay.state()
    mislead(pristine)
    try:
        ran = runbooks("02")
    finally:
        pristine.set_dns("stranger", pristine.hosts_lines())
    assert ran.exit_status == 2
    assert "does not tell of a connection from testbed:stranger to relay.example.test" in ran.said
    assert "State: nothing was touched" in ran.said
    assert machines.relay.state() == state


def test_a_stopped_syslog_is_seen_before_anything_is_touched(runbooks: Runbooks, machines: Machines) -> None:
    relay = machines.relay
    relay.sh("kill $(cat /run/rsyslogd.pid)")
    try:
        state = relay.state()
        ran = runbooks("02")
        assert relay.state() == state
    finally:
        relay.sh("while pgrep -x rsyslogd >/dev/null; do sleep 0.1; done; rsyslogd")
    assert ran.exit_status == 2
    assert "the mail log of testbed:relay (/var/log/mail.log) does not tell of a connection" in ran.said
    assert "see that syslog runs on testbed:relay" in ran.said


def test_a_log_that_cannot_be_read_is_seen_before_anything_is_touched(runbooks: Runbooks, machines: Machines) -> None:
    relay = machines.relay
    relay.sh("mv /var/log/mail.log /var/log/mail.log.kept && mkdir /var/log/mail.log")
    try:
        state = relay.state()
        ran = runbooks("02")
        assert relay.state() == state
    finally:
        relay.sh("rmdir /var/log/mail.log && mv /var/log/mail.log.kept /var/log/mail.log")
    assert ran.exit_status == 2
    assert "cannot be read, so nothing could be proved" in ran.said
