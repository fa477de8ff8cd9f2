"""06 while mail flows in both directions all the time: every message arrives, each once, and none comes back."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime

import pytest

from mailtls_nb.pki import revoking
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.testbed import Testbed
from mailtls_nb.testbed.organisation import partner_organisation
from tests.procedures.ageing import Installed, serial_on_port
from tests.procedures.conftest import Machine, Machines, Runbooks

pytestmark = pytest.mark.testbed

RELAY = "relay.example.test"
# $1: the recipient, $2: what its messages are called. Prints how many were sent, and each that sendmail did not take.
SEND = r"""
n=0
while [ ! -e /root/load-has-ended ]; do
    n=$((n + 1))
    printf 'To: %s\nSubject: %s %s\nMessage-ID: <%s-%s@load.invalid>\n\nload\n' "$1" "$2" "$n" "$2" "$n" |
        /usr/sbin/sendmail -i "$1" || echo "not taken: $2-$n"
    sleep 0.2
done
echo "$n"
"""
# What waits in a machine's queues, tried again every second until nothing does ($1 times at most).
FLUSH = r"""
for i in `seq "$1"`; do
    /usr/sbin/sendmail -Ac -q >/dev/null 2>&1
    /usr/sbin/sendmail -q >/dev/null 2>&1
    waiting=`find /var/spool/mqueue /var/spool/mqueue-client -name '[qQhT]f*' -o -name 'df*'`
    [ -z "$waiting" ] && break
    sleep 1
done
printf '%s' "$waiting"
"""
# Reports that a message could not be delivered, as the mailbox and the log of a machine have them.
CAME_BACK = r"""
grep '^From MAILER-DAEMON' /var/mail/* 2>/dev/null
grep -E 'DSN: |dsn=5|stat=(User unknown|Service unavailable)' /var/log/mail.log
"""
ID = re.compile(r"^Message-ID: <([a-z]+-\d+)@load\.invalid>$", re.MULTILINE | re.IGNORECASE)


@dataclass(frozen=True)
class Account:
    """What became of all that was sent."""

    sent: frozenset[str]
    not_taken: tuple[str, ...]
    arrived: Counter[str]
    came_back: tuple[str, ...]
    waiting: tuple[str, ...]

    @property
    def problems(self) -> list[str]:
        lost = sorted(self.sent - set(self.arrived))
        twice = sorted(name for name, times in self.arrived.items() if times > 1)
        unknown = sorted(set(self.arrived) - self.sent)
        return [
            *(f"lost: {name}" for name in lost),
            *(f"arrived more than once: {name}" for name in twice),
            *(f"never sent: {name}" for name in unknown),
            *(f"not taken: {line}" for line in self.not_taken),
            *(f"came back: {line}" for line in self.came_back),
            *(f"waits: {line}" for line in self.waiting),
        ]


class Load:
    """Messages sent from one machine to another, several ways at once, each with a Message-ID of its own."""

    def __init__(self, ways: Mapping[str, tuple[Machine, Machine, str]]) -> None:
        self._ways = ways
        self._printed: dict[str, list[str]] = {}

    @contextmanager
    def flowing(self) -> Iterator[None]:
        senders = {
            name: subprocess.Popen(
                [*source.engine, "exec", source.name, "sh", "-c", SEND, "sh", recipient, name],
                stdout=subprocess.PIPE,
                text=True,
            )
            for name, (source, _, recipient) in self._ways.items()
        }
        try:
            yield
        finally:
            for source, _, _ in self._ways.values():
                source.sh("touch /root/load-has-ended")
            for name, sender in senders.items():
                self._printed[name] = sender.communicate(timeout=60)[0].splitlines()

    def account(self, *, tries: int = 60) -> Account:
        machines = {m.name: m for source, target, _ in self._ways.values() for m in (source, target)}
        receivers = {target.name: target for _, target, _ in self._ways.values()}
        waiting = [line for machine in machines.values() for line in machine.sh(FLUSH, str(tries)).splitlines()]
        mailboxes = [machine.sh("cat /var/mail/root") for machine in receivers.values()]
        return Account(
            sent=frozenset(f"{name}-{n}" for name, said in self._printed.items() for n in range(1, int(said[-1]) + 1)),
            not_taken=tuple(line for said in self._printed.values() for line in said[:-1]),
            arrived=Counter(name for mailbox in mailboxes for name in ID.findall(mailbox)),
            came_back=tuple(c for m in machines.values() for c in m.sh(CAME_BACK, status=None).splitlines()),
            waiting=tuple(waiting),
        )


def test_not_one_message_is_lost(pristine: Testbed, machines: Machines, runbooks: Runbooks) -> None:
    assert runbooks("01").outcome == "changed"
    assert runbooks("02").outcome == "changed"
    ca = CADirectory.open(pristine.ca_dir)
    # It has a certificate of its own, and verifies ours.
    partner_organisation(pristine)
    relay = Installed(machines.relay, f"/etc/mail/certs/{RELAY}.pem")
    hosts = {"host": f"docker://{machines.relay.name}", "probe_from": f"docker://{machines.stranger.name}"}
    load = Load(
        {
            "in": (machines.stranger, machines.relay, f"root@{RELAY}"),
            "out": (machines.relay, machines.partner, "root@partner.example.test"),
            "back": (machines.partner, machines.relay, f"root@{RELAY}"),
        }
    )
    serials = [relay.serial]
    with load.flowing():
        for key in ("new", "same", "new"):
            # What is revoked is due at once; no mail server here is told of it.
            revoking.revoke(ca, [serials[-1]], "superseded", now=datetime.now(UTC))
            ran = runbooks("06", **hosts, approve="auto", key=key)
            assert ran.outcome == "changed", ran.error
            serials.append(serial_on_port(machines.stranger, RELAY, relay.serial))
    assert len(set(serials)) == 4
    account = load.account()
    arrived = Counter(name.partition("-")[0] for name in account.arrived)
    print(f"3 renewals, {len(account.sent)} messages sent; arrived: {dict(arrived)}; {len(account.problems)} problems")
    assert account.problems == []
    assert all(arrived[way] > 50 for way in ("in", "out", "back")), arrived
    # They went over TLS all the while, and relay was verified by its certificate wherever that is asked for.
    assert machines.relay.log().count("STARTTLS=server, relay=stranger.example.test") > 50
    verified = re.findall(r"STARTTLS=server, relay=relay\.example\.test .* verify=(\w+)", machines.partner.log())
    assert (set(verified), len(verified) > 50) == ({"OK"}, True)

    # This would have been noticed: a message that was lost, one that came twice, one that came back, one that waits.
    name = next(iter(account.sent))
    assert replace(account, arrived=account.arrived - Counter([name])).problems == [f"lost: {name}"]
    assert replace(account, arrived=account.arrived + Counter([name])).problems == [f"arrived more than once: {name}"]
    machines.stranger.sh(f"echo | /usr/sbin/sendmail -i nobody-here@{RELAY}")
    machines.partner.sh("echo >/var/mail/root")
    machines.relay.sh("touch /var/spool/mqueue/dfplanted")
    try:
        noticed = load.account(tries=5).problems
    finally:
        machines.relay.sh("rm /var/spool/mqueue/dfplanted")
    assert sum(problem.startswith("lost: out-") for problem in noticed) == arrived["out"]
    assert [problem for problem in noticed if problem.startswith("came back: ") and "User unknown" in problem]
    assert "waits: /var/spool/mqueue/dfplanted" in noticed
