"""Partners that run Postfix and Exim: messages both ways, and what each side's own log says of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

import pytest

from mailtls_nb.testbed import GUESTS, Testbed
from mailtls_nb.testbed.guest import Guest
from tests.procedures.conftest import Machine, Runbooks

Outcome = Literal["delivered", "refused", "waits"]

# $1: the log, $2: its size before, $3: what is waited for. Prints what was added.
_ADDED = """
for i in `seq 150`; do
    tail -c "+$2" "$1" | grep -Eq "$3" && break
    sleep 0.1
done
tail -c "+$2" "$1"
"""
# $1: how many are waited for. Prints how many there are.
_RECEIVED = """
for i in `seq 50`; do
    count=`grep -c '^From root@relay.example.test ' /var/mail/mailbox`
    [ "$count" -ge "$1" ] && break
    sleep 0.1
done
echo "$count"
"""
_RELAY_LOG = "/var/log/mail.log"
_GUEST_LOG = {"postfix": "/var/log/mail.log", "exim": "/var/log/exim4/mainlog"}
# How each mail server logs the end of an attempt to deliver to $TO.
_ATTEMPT = {
    "sendmail": r"to=<?TO>?,.* mailer=esmtp.* stat=(\w+)",
    "postfix": "to=<TO>.* status=(sent|bounced|deferred)",
    "exim": r" (=>|\*\*|==) TO ",
}
_OUTCOMES: dict[str, Outcome] = {
    "Sent": "delivered",
    "sent": "delivered",
    "=>": "delivered",
    "Deferred": "waits",
    "deferred": "waits",
    "==": "waits",
}


@dataclass(frozen=True)
class Passage:
    """What became of one message, and the log lines that both sides wrote about it."""

    outcome: Outcome
    relay_log: str
    guest_log: str

    @property
    def verify(self) -> list[str]:
        """What sendmail found of the guest's certificate, in each session with it."""
        return re.findall(r"STARTTLS=(?:client|server), relay=(?!localhost|\[127).* verify=(\w+),", self.relay_log)


@dataclass(frozen=True)
class Partner:
    """A guest as the relay's partner: mail from it and to it."""

    guest: Guest
    relay: Machine
    machine: Machine

    @property
    def goes_by_names_of_cas(self) -> bool:
        """Whether it shows its certificate only to servers that name its CA: GnuTLS, which Exim uses on Debian."""
        return self.guest.name == "exim"

    def received(self, at_least: int = 0) -> int:
        """How many messages from the relay have come to its mailbox; what was taken gets there in moments."""
        return int(self.machine.sh(_RECEIVED, str(at_least)))

    def writes(self) -> Passage:
        """A message from the guest to the relay, sent by the guest's own mail server."""
        return self._passes(self.machine, self.relay, self.guest.name, f"root@{self.guest.hostname}", "relay")

    def is_written_to(self) -> Passage:
        """A message from the relay to the guest, sent by the relay's own sendmail."""
        return self._passes(self.relay, self.machine, "sendmail", "root@relay.example.test", self.guest.name)

    def _passes(self, source: Machine, to: Machine, software: str, sender: str, to_name: str) -> Passage:
        recipient = f"root@{to_name}.example.test"
        attempt = _ATTEMPT[software].replace("TO", re.escape(recipient))
        logs = {self.relay: _RELAY_LOG, self.machine: _GUEST_LOG[self.guest.name]}
        before = {machine: int(machine.sh('wc -c <"$1"', log)) + 1 for machine, log in logs.items()}
        source.sh('exec sendmail -f "$1" "$2"', sender, recipient, stdin="Subject: across\n\nHello.\n")
        added = {source: source.sh(_ADDED, logs[source], str(before[source]), attempt)}
        added[to] = to.sh('tail -c "+$2" "$1"', logs[to], str(before[to]))
        match = re.search(attempt, added[source])
        assert match, added[source]
        return Passage(_OUTCOMES.get(match[1], "refused"), added[self.relay], added[self.machine])


@pytest.fixture(scope="module")
def runbooks(tmp_path_factory: pytest.TempPathFactory) -> Runbooks:
    return Runbooks(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="module")
def relay(pristine: Testbed, runbooks: Runbooks) -> Machine:
    """The relay with a certificate of our CA in service."""
    assert runbooks("01").error is None
    assert runbooks("02").error is None
    return Machine(pristine.engine.argv, pristine.container_name("relay"))


@pytest.fixture(scope="module", params=GUESTS)
def partner(request: pytest.FixtureRequest, pristine: Testbed, relay: Machine) -> Partner:
    """Each guest in turn. It trusts our CA; whether it is trusted is for the tests to say."""
    guest = Guest.bring_up(pristine, request.param, trusts=(pristine.ca_dir / "cacert.pem").read_bytes())
    return Partner(guest, relay, Machine(pristine.engine.argv, pristine.container_name(request.param)))
