"""Mail that flows all the time while something else happens, and what became of every single message."""

from __future__ import annotations

import re
import subprocess
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from tests.procedures.conftest import Machine

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
