"""Clients of the testbed that try to hand the host a message: what the rule must let in, and what it must keep out."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.smtp_dialogue import plain_reply, tls_reply
from mailtls_nb.procedures.enforce.cases import REFUSED, Answer
from mailtls_nb.procedures.enforce.observation import EnforceBefore
from mailtls_nb.procedures.enforce.wish import EnforceWish
from mailtls_nb.sendmail.cf import options
from mailtls_nb.testbed import Testbed
from mailtls_nb.testbed.impostors import Impostors


@dataclass(frozen=True)
class Client:
    """One that connects: in words, how it tries (the reply to its RCPT comes back), and what must come of it.

    ``alone``: while it tries, something is changed that others would notice.
    """

    label: str
    try_it: Callable[[], str]
    expected: Answer
    instrument: str
    alone: bool = False

    @property
    def is_negative(self) -> bool:
        return self.expected != "accepted"


def replies(clients: Sequence[Client]) -> Mapping[str, str]:
    """Each client's reply, by its label; they try at the same time, since a server may greet slowly."""
    together = [client for client in clients if not client.alone]
    with ThreadPoolExecutor(len(together) or 1) as pool:
        found = dict(zip((c.label for c in together), pool.map(lambda c: c.try_it(), together), strict=True))
    return found | {client.label: client.try_it() for client in clients if client.alone}


def clients(
    wish: EnforceWish,
    before: EnforceBefore,
    testbed: Testbed,
    host: Host,
    partner: Host,
    stranger: Host,
    shown: Impostors,
) -> tuple[Client, ...]:
    """Those of the direction ``server``, and what must come of each with the rules wished for."""
    refused = REFUSED[wish.failure("server")]
    in_force = wish.demands and "server" in wish.directions
    verified = in_force and wish.requirement == "verify"
    server = before.layout.canonical_name
    to = {"sender": f"root@{wish.partner}", "recipient": f"root@{server}"}
    own = _own_certificate(partner)

    def seen(label: str, try_it: Callable[[], str], by: Host, *, refuse: bool, alone: bool = False) -> Client:
        how = "swaks" if "certificate" in label else "an SMTP dialogue"
        instrument = f"{how} from {by.name}, as far as RCPT"
        return Client(label, try_it, refused if refuse else "accepted", instrument, alone)

    def showing(credentials: str) -> Callable[[], str]:
        return lambda: tls_reply(partner, server, credentials=credentials, **to)

    def plainly(by: Host, where: str, sender: str) -> Callable[[], str]:
        return lambda: plain_reply(by, where, sender=sender, recipient=to["recipient"])

    def without_reverse_name() -> str:
        lines = testbed.hosts_lines()
        name = host.name.removeprefix("testbed:")
        # The name still leads to the address: a sender from a domain that does not exist is refused anyway.
        address = next(line.split()[0] for line in lines if line.endswith(f" {wish.partner}"))
        others = [line for line in lines if not line.endswith(f" {wish.partner}")]
        pointer = f"ptr-record={ipaddress.ip_address(address).reverse_pointer},nobody.invalid"
        testbed.set_dns(name, others, (f"host-record={wish.partner},{address}", pointer))
        try:
            return plainly(partner, server, to["sender"])()
        finally:
            testbed.set_dns(name, lines)

    found = [
        seen("the partner without STARTTLS", plainly(partner, server, to["sender"]), partner, refuse=in_force),
        seen("the partner without a certificate", showing(""), partner, refuse=verified),
        seen("the partner with a certificate of an unknown CA", showing(shown.unknown_ca), partner, refuse=verified),
        seen("the partner with an expired certificate", showing(shown.expired), partner, refuse=verified),
        seen(
            "the partner with a certificate of another trusted CA",
            showing(shown.other_ca),
            partner,
            # Such a certificate is for the partner's name, so where only the name counts it is good.
            refuse=verified and before.extension is not None and before.extension.kind != "CN",
        ),
        seen(
            "a stranger without STARTTLS",
            plainly(stranger, server, f"root@{stranger.name.removeprefix('testbed:')}.example.test"),
            stranger,
            refuse=in_force and wish.everyone,
        ),
        seen(
            "a program on the host itself, without STARTTLS",
            plainly(host, "127.0.0.1", f"root@{server}"),
            host,
            refuse=False,
        ),
    ]
    if own:
        found.insert(0, seen("the partner with its own certificate", showing(own), partner, refuse=False))
    if before.address_names and not wish.everyone:
        label = "the partner without STARTTLS, its reverse name missing"
        found.append(seen(label, without_reverse_name, partner, refuse=in_force, alone=True))
    return tuple(found)


def _own_certificate(partner: Host) -> str:
    """The file with certificate and key that the partner's own sendmail shows as a client, empty without one."""
    set_there = options(partner.run(("grep", "^O Client", "/etc/mail/sendmail.cf"), timeout_s=30).stdout)
    certificate, key = set_there.get("ClientCertFile", ""), set_there.get("ClientKeyFile", "")
    return certificate if certificate == key else ""
