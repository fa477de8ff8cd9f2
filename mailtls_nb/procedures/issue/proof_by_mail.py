"""Proving 02 on the testbed: messages in both directions, as the other host's mail server logs them."""

from __future__ import annotations

import secrets

from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.layout import observe_layout
from mailtls_nb.observe.maillog import LogMark, mark_log
from mailtls_nb.observe.message import send_message, verified_by_receiver, verified_by_sender
from mailtls_nb.pki.certificates import certificate_pem
from mailtls_nb.procedures.issue.observation import HostBefore
from mailtls_nb.procedures.issue.wish import IssueWish
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.testbed.witness import witness
from mailtls_nb.verdict import Claim


def prove_by_mail(context: Context, wish: IssueWish, before: HostBefore) -> tuple[Claim, ...]:
    """Mail between the host and the probe, which verifies by the CA for as long as this lasts."""
    host, other = context.host(wish.host), context.probe(wish.probe_from)
    other_layout = observe_layout(other)
    claims: tuple[Claim, ...] = ()
    with witness(other, certificate_pem(before.signer.certificates)):
        mark = mark_log(other, other_layout.log)
        if wish.roles != "server":
            claims += (_sent(host, before.layout.sendmail, other, other_layout.canonical_name, mark),)
        if wish.roles != "client":
            claims += (_received(other, other_layout.sendmail, wish, mark),)
    return claims


def _sent(host: Host, sendmail: str, other: Host, other_name: str, mark: LogMark) -> Claim:
    message = send_message(host, sendmail, recipient=f"root@{other_name}", token=secrets.token_hex(8))
    return Claim(
        f"a message from {host.name} arrives verified at {other.name}",
        "verify=OK",
        verified_by_receiver(mark, message),
        "live",
        f"the mail log of {other.name}, the receiving side",
    )


def _received(other: Host, sendmail: str, wish: IssueWish, mark: LogMark) -> Claim:
    message = send_message(other, sendmail, recipient=f"root@{wish.hostname}", token=secrets.token_hex(8))
    return Claim(
        f"a message to {wish.hostname} leaves {other.name} over a verified connection",
        "verify=OK",
        verified_by_sender(mark, message),
        "live",
        f"the mail log of {other.name}, the sending side",
    )
