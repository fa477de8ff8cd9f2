"""Proving 04: with live mail on the testbed; elsewhere by the host's own rulesets, and nothing is delivered."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from mailtls_nb.apply.transaction import Transaction
from mailtls_nb.hosts.address import HostAddress
from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.rulesets import ask_rulesets
from mailtls_nb.observe.smtp_dialogue import plain_reply, reply_class
from mailtls_nb.procedures.enforce.cases import answer
from mailtls_nb.procedures.enforce.clients import Client, clients, replies
from mailtls_nb.procedures.enforce.mail_ways import MailWays, mail_claims
from mailtls_nb.procedures.enforce.observation import EnforceBefore
from mailtls_nb.procedures.enforce.wish import EnforceWish
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.sendmail.access.case import Decision
from mailtls_nb.sendmail.cf import options, smtp_listener
from mailtls_nb.testbed.impostors import impostors
from mailtls_nb.testbed.testbed import DOMAIN, HOSTS
from mailtls_nb.verdict import Claim

_RECIPIENTS = ("postmaster", "root")


@contextmanager
def proof(context: Context, wish: EnforceWish, before: EnforceBefore, change: Transaction) -> Iterator[list[Claim]]:
    """The change is made inside; before and after it the same things are tried. The list holds the claims afterwards.

    They are judged by the caller, while the change can still be undone.
    """
    claims: list[Claim] = []
    if partner_on_testbed(wish):
        yield from _with_live_mail(context, wish, before, change, claims)
    else:
        host = context.host(wish.host)
        reached = _probe(context, wish, before)
        yield claims
        decisions = ask_rulesets(host, before.layout, [case.case for case in before.cases], access=None)
        claims += oracle_claims(wish, before, decisions)
        claims += _still_reached(context, wish, before, reached)
        if wish.requirement == "never":
            claims.append(_no_starttls(host, wish, before))


def oracle_claims(wish: EnforceWish, before: EnforceBefore, decisions: Sequence[Decision]) -> tuple[Claim, ...]:
    """What the host's own rulesets decide with the map in service, case by case."""
    instrument = f"sendmail -bt on {wish.host}, its access map in service"
    return tuple(
        Claim(
            case.label,
            case.expected,
            answer(decision),
            "oracle",
            instrument,
            negative=case.is_negative,
            fails_when=f"before the change: {answer(earlier)}" if answer(earlier) != case.expected else "",
        )
        for case, decision, earlier in zip(before.cases, decisions, before.live, strict=True)
    )


def _no_starttls(host: Host, wish: EnforceWish, before: EnforceBefore) -> Claim:
    """That sendmail finds the entry by which it does not try STARTTLS."""
    question = f"/map access try_tls:{wish.partner}\n".encode("ascii")
    said = host.run((before.layout.sendmail, "-bt"), stdin=question, timeout_s=60).text
    found = "NO" if "returns NO (0)" in said else "not found"
    return Claim(f"Try_TLS for {wish.partner}", "NO", found, "oracle", f"sendmail -bt on {wish.host}")


def partner_on_testbed(wish: EnforceWish) -> bool:
    """Whether the partner is a sendmail host of the testbed, so that mail may be sent and its server be changed."""
    name = partner_name(wish)
    is_host = name in HOSTS and wish.partner == f"{name}.{DOMAIN}" and wish.host != HostAddress("testbed", name)
    return wish.is_testbed and is_host and not wish.everyone


def partner_name(wish: EnforceWish) -> str:
    """The first label of the partner's name: on the testbed the host's name."""
    return wish.partner.partition(".")[0]


def _with_live_mail(
    context: Context, wish: EnforceWish, before: EnforceBefore, change: Transaction, claims: list[Claim]
) -> Iterator[list[Claim]]:
    testbed, host, stranger = context.testbed(), context.host(wish.host), context.probe(wish.probe_from)
    partner = context.host(HostAddress("testbed", partner_name(wish)))
    ca_path = options(before.cf)["CACertPath"]
    ways = MailWays(wish, before, testbed, host, partner, stranger)
    with impostors(partner, wish.partner, change, ca_path) as shown:
        tried = clients(wish, before, testbed, host, partner, stranger, shown)
        earlier = replies(tried)
        held = wish.demands and ("client" in wish.directions or "recipient" in wish.directions)
        diverted = ways.diverted()[0] if wish.demands and "recipient" in wish.directions else ""
        mail_earlier = (ways.downgraded()[0] if held else "", diverted)
        yield claims
        claims += _client_claims(tried, earlier, replies(tried))
        claims += mail_claims(ways, mail_earlier)


def _client_claims(tried: Sequence[Client], earlier: Mapping[str, str], now: Mapping[str, str]) -> Iterator[Claim]:
    for client in tried:
        seen, before = reply_class(now[client.label]), reply_class(earlier[client.label])
        yield Claim(
            client.label,
            client.expected,
            seen,
            "live",
            client.instrument + ("" if seen == "accepted" else f": {now[client.label]}"),
            negative=client.is_negative,
            fails_when=f"before the change: {before}" if before != client.expected else "",
        )


def _probe(context: Context, wish: EnforceWish, before: EnforceBefore) -> tuple[str, str]:
    """What the host replies to a program on itself, and to the probe, each without STARTTLS; nothing is sent."""
    name = before.layout.canonical_name
    host = context.host(wish.host)
    listener = smtp_listener(before.cf)

    def reply(client: Host, server: str, port: int, sender: str) -> str:
        # Every server must take mail for postmaster (RFC 5321 4.5.1); not every one does.
        recipients = (f"{who}@{name}" for who in _RECIPIENTS)
        replies = [plain_reply(client, server, sender=sender, recipient=to, port=port) for to in recipients]
        return next((found for found in replies if reply_class(found) == "accepted"), replies[0])

    local = reply(host, listener.address, listener.port, f"postmaster@{name}")
    return local, reply(context.probe(wish.probe_from), name, 25, "")


def _still_reached(
    context: Context, wish: EnforceWish, before: EnforceBefore, earlier: tuple[str, str]
) -> Iterator[Claim]:
    """Local submission is accepted as it was, and so is a stranger's mail unless everyone is held to the rule.

    Of what was not accepted before nothing is claimed: it would show nothing.
    """
    now = _probe(context, wish, before)
    clients = [("a program on the host itself, without STARTTLS", str(wish.host), earlier[0], now[0])]
    if not wish.everyone:
        clients.append(("a stranger without STARTTLS, as before", str(wish.probe_from or "here"), earlier[1], now[1]))
    for label, place, first, then in clients:
        if reply_class(first) == "accepted":
            instrument = f"an SMTP dialogue from {place} as far as RCPT"
            yield Claim(label, "accepted", reply_class(then), "live", instrument)
