"""Mail that leaves the host for the partner, on the testbed: as it should, and with TLS taken away."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from mailtls_nb.apply.transaction import Transaction
from mailtls_nb.errors import NotReady
from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.layout import observe_layout
from mailtls_nb.observe.maillog import mark_log
from mailtls_nb.observe.message import send_message, verified_by_sender
from mailtls_nb.observe.queue import flush_queue
from mailtls_nb.procedures.enforce.observation import EnforceBefore
from mailtls_nb.procedures.enforce.wish import EnforceWish
from mailtls_nb.sendmail.cf import access_database
from mailtls_nb.testbed import Testbed
from mailtls_nb.verdict import Claim

_MAKEMAP = 'PATH=/usr/sbin:$PATH; makemap "$1" "$2" <"$2"'
_KEPT = "stays in the queue"
_RETURNED = "is returned to its sender"


@dataclass(frozen=True)
class MailWays:
    """The host, the partner, and somebody else, with what is sent from the first to the second."""

    wish: EnforceWish
    before: EnforceBefore
    testbed: Testbed
    host: Host
    partner: Host
    stranger: Host

    def as_it_is(self) -> str:
        """What becomes of a message while all is well."""
        return self._send()[0]

    def downgraded(self) -> tuple[str, str]:
        """What becomes of a message while the partner offers no STARTTLS, and of one that waited once it does again."""
        with _access_line(self.partner, "Srv_Features:\tS"):
            first, again = self._send()
        return first, again() if first == _KEPT else ""

    def diverted(self) -> tuple[str, str]:
        """As ``downgraded``, while DNS names another server for the partner's mail, one that would take it."""
        name, lines = self.host.name.removeprefix("testbed:"), self.testbed.hosts_lines()
        other = f"{self.stranger.name.removeprefix('testbed:')}.{self.wish.partner.partition('.')[2]}"
        self.testbed.set_dns(name, lines, (f"mx-host={self._domain},{other},10",))
        try:
            with _access_line(self.stranger, f"To:{self._domain}\tRELAY"):
                first, again = self._send()
        finally:
            self.testbed.set_dns(name, lines)
        return first, again() if first == _KEPT else ""

    @property
    def _domain(self) -> str:
        return self.wish.partner_domains[0] if self.wish.partner_domains else self.wish.partner

    def _send(self) -> tuple[str, Callable[[], str]]:
        """What became of a message, and what becomes of it when it is tried again."""
        sendmail = self.before.layout.sendmail
        mark = mark_log(self.host, self.before.layout.log)
        recipient = f"root@{self._domain}"
        message = send_message(self.host, sendmail, recipient=recipient, token=secrets.token_hex(8))

        def again() -> str:
            flush_queue(self.host, sendmail, self._domain)
            return _became(verified_by_sender(mark, message, attempt=2))

        return _became(verified_by_sender(mark, message)), again


def mail_claims(ways: MailWays, earlier: tuple[str, str]) -> Iterator[Claim]:
    """What is seen of mail to the partner with the rules in force; ``earlier``: downgraded and diverted before them."""
    wish = ways.wish
    sent = ways.as_it_is()
    if not wish.demands:
        expected = "sent without TLS" if wish.requirement == "never" else "sent"
        observed = sent if wish.requirement == "never" or not _left(sent) else "sent"
        yield _claim(ways, "a message to the partner leaves", expected, observed)
        if wish.requirement == "none":
            observed = ways.downgraded()[0]
            yield _claim(ways, "so it does while the partner offers no STARTTLS", "sent without TLS", observed)
        return
    verified = wish.requirement == "verify"
    expected = "verify=OK" if verified else "sent with TLS"
    observed = sent if verified or not sent.startswith("verify=") else "sent with TLS"
    yield _claim(ways, "a message to the partner leaves", expected, observed)
    held = [direction for direction in ("client", "recipient") if direction in wish.directions]
    if held:
        # tls_server is asked first.
        refused = _RETURNED if wish.failure("client" if "client" in held else "recipient") == "permanent" else _KEPT
        seen, cured = ways.downgraded()
        label = "a message to the partner while it offers no STARTTLS"
        yield _negative(ways, label, refused, seen, earlier[0])
        if cured:
            observed = cured if verified or not cured.startswith("verify=") else "sent with TLS"
            yield _claim(ways, "the message that waited leaves once the partner offers it again", expected, observed)
    if "recipient" in held:
        refused = _RETURNED if wish.failure("recipient") == "permanent" else _KEPT
        label = "a message to the partner while DNS leads to a server without STARTTLS"
        yield _negative(ways, label, refused, ways.diverted()[0], earlier[1])


def _claim(ways: MailWays, claim: str, expected: str, observed: str) -> Claim:
    return Claim(claim, expected, observed, "live", f"the mail log of {ways.host.name}, the sending side")


def _negative(ways: MailWays, claim: str, expected: str, observed: str, earlier: str) -> Claim:
    fails_when = f"before the change: {earlier}" if earlier not in ("", expected) else ""
    instrument = f"the mail log of {ways.host.name}, the sending side"
    return Claim(claim, expected, observed, "live", instrument, negative=True, fails_when=fails_when)


def _left(word: str) -> bool:
    return word.startswith(("verify=", "sent"))


def _became(word: str) -> str:
    """What the log says of a delivery, without what differs from release to release."""
    if _left(word) or word == "nothing logged":
        return word
    return _KEPT if word.startswith("Deferred") or word[:1] == "4" else _RETURNED


@contextmanager
def _access_line(host: Host, line: str) -> Iterator[None]:
    """One more line in the access map of another host as long as this lasts.

    ``Srv_Features: S``: no STARTTLS is offered (op.me); ``To:domain RELAY``: mail for it is taken (cf/README).
    """
    layout = observe_layout(host)
    database = access_database(host.read(layout.cf) or b"")
    text = host.read(database.text) if database else None
    if database is None or text is None:
        raise NotReady(f"{host.name}: it has no access map")
    with Transaction(host, layout, keep=False) as change:
        change.write(database.text, text + f"{line}\n".encode(), mode=0o600, owner="root:root")
        argv = ("sh", "-c", _MAKEMAP, "sh", database.kind, database.text)
        change.run(argv, changes=(database.database,)).check(f"making the access map of {host.name}")
        yield
