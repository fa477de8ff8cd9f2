"""Reading sendmail's log lines: TLS sessions, refusals, and the way of a message.

Sources: lines of Debian's 8.15 to 8.18 and the old form of 8.12. Time stamps may be of the BSD kind (RFC 3164) or
RFC 3339; Solaris puts ``[ID number facility.level]`` before the text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

_PREFIX = re.compile(
    r"(?P<time>[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\S+) +(?P<host>\S+) +"
    r"(?P<tag>[\w./-]+)\[(?P<pid>\d{1,10})\]: (?:\[ID \d+ [\w.]+\] )?(?P<text>.*)"
)
_STARTTLS = re.compile(
    r"STARTTLS=(?P<direction>server|client), relay=(?P<relay>[^,]*), version=(?P<version>[^,]*), "
    r"verify=(?P<verify>\w+), cipher=(?P<cipher>[^,]*), bits=(?P<bits>\d{1,6})/(?P<algorithm_bits>\d{1,6})"
)
# Written at log level 12 and above.
_CERTIFICATE = re.compile(
    r"STARTTLS=(?P<direction>server|client), cert-subject=(?P<subject>.*), cert-issuer=(?P<issuer>.*), verifymsg=.*"
)
_AUTH = re.compile(r"AUTH=server, relay=(?P<relay>.*), authid=.*, mech=[^,]*, bits=(?P<bits>\d{1,6})")
_QUEUE_ID = re.compile(r"(?P<queue_id>NOQUEUE|[0-9A-Za-z]{8,20}): (?P<rest>.*)")
_REJECT = re.compile(
    r"ruleset=(?P<ruleset>\w+), arg1=(?P<arg1>.*?)(?:, arg2=(?P<arg2>.*?))?, relay=(?P<relay>[^,]*), "
    r"reject=(?P<reply>\d{3} .*)"
)
# The names stand in this order; a message id comes from outside and may hold anything but what ends it.
_FROM = re.compile(
    r"from=(?P<sender>.*?), size=-?\d+, class=-?\d+, nrcpts=(?P<count>\d{1,9}), "
    r"(?:msgid=(?P<message_id>.*?), )?(?P<fields>(?:\w+=.*, )?)relay=(?P<relay>.*)"
)
_PROTOCOL = re.compile(r".*\bproto=(?P<protocol>\w+), ")
# The status holds what the other server replied, so the first stat= is the one that sendmail wrote.
_TO = re.compile(
    r"to=(?P<recipients>.*?), (?:ctladdr=.*?, )?delay=(?P<fields>[\d:+]+, (?:[\w-]+=[^,]*, )*?)stat=(?P<status>.*)"
)
_MAILER = re.compile(r"\bmailer=(?P<mailer>[^,]*), ")
_TO_RELAY = re.compile(r"\brelay=(?P<relay>[^,]*), ")
_FORGED = " (may be forged)"
_RELAY = re.compile(r"(?P<name>.*?) ?\[(?P<address>[^\]]*)\]")


@dataclass(frozen=True)
class LogLine:
    """One line of syslog by a sendmail: ``time_text`` as it stands there, ``tag`` such as sm-mta or sendmail."""

    time_text: str
    host: str
    tag: str
    pid: int
    text: str


@dataclass(frozen=True)
class StarttlsLine:
    """A TLS session. ``verify`` is OK, TRUSTED, NO, NOT, FAIL, NONE, ...; ``relay_name`` has no final dot.

    ``bits`` is what the cipher effectively uses, ``algorithm_bits`` what it could.
    """

    time_text: str
    pid: int
    direction: Literal["server", "client"]
    relay_name: str
    relay_address: str
    version: str
    verify: str
    cipher: str
    bits: int
    algorithm_bits: int


@dataclass(frozen=True)
class CertificateLine:
    """The certificate of the process' latest TLS session: subject and issuer in sendmail's spelling (/C=/O=/CN=)."""

    time_text: str
    pid: int
    direction: Literal["server", "client"]
    subject: str
    issuer: str


@dataclass(frozen=True)
class AuthLine:
    """A client that authenticated itself; ``bits`` is what its mechanism encrypts with ({auth_ssf})."""

    time_text: str
    pid: int
    relay_name: str
    relay_address: str
    bits: int


@dataclass(frozen=True)
class RejectLine:
    """A command that a ruleset refused; ``reply`` is the SMTP reply as sent."""

    time_text: str
    pid: int
    queue_id: str
    ruleset: str
    arg1: str
    arg2: str
    relay_name: str
    relay_address: str
    reply: str


@dataclass(frozen=True)
class ReceivedLine:
    """A message taken in (``from=``); ``message_id`` with its angle brackets, empty where none was logged.

    ``recipient_count`` is 0 where all were refused. ``relay_forged``: the address is none of that name's. ``protocol``
    is SMTP, ESMTP, ESMTPS, ... (RFC 3848), empty for a message that a program handed over.
    """

    time_text: str
    pid: int
    queue_id: str
    sender: str
    message_id: str
    relay_name: str
    relay_address: str
    recipient_count: int = 1
    relay_forged: bool = False
    protocol: str = ""


@dataclass(frozen=True)
class DeliveryLine:
    """What became of a message (``to=``): ``status`` begins with Sent, Deferred, User unknown, ...

    ``mailer`` is esmtp, relay, local, ...; the relay is empty where the message did not leave.
    """

    time_text: str
    pid: int
    queue_id: str
    recipients: str
    status: str
    mailer: str = ""
    relay_name: str = ""
    relay_address: str = ""

    @property
    def is_sent(self) -> bool:
        return self.status == "Sent" or self.status.startswith("Sent ")


def parse_line(line: str) -> LogLine | None:
    """Take a syslog line apart; None when it is not one of a program with a pid."""
    match = _PREFIX.fullmatch(line.rstrip("\r\n"))
    if match is None:
        return None
    return LogLine(match["time"], match["host"], match["tag"], int(match["pid"]), match["text"])


def parse_starttls(line: str) -> StarttlsLine | None:
    """The TLS session that a line tells of. Only a text that begins with STARTTLS= counts: no message feigns that."""
    entry = parse_line(line)
    return _starttls(entry) if entry else None


def parse_reject(line: str) -> RejectLine | None:
    """The refusal by a ruleset that a line tells of; the queue id is empty where there was no message yet."""
    entry = parse_line(line)
    return _reject(entry, *_split_queue_id(entry.text)) if entry else None


def parse_received(line: str) -> ReceivedLine | None:
    """The message taken in that a line tells of."""
    entry = parse_line(line)
    return _received(entry, *_split_queue_id(entry.text)) if entry else None


def parse_delivery(line: str) -> DeliveryLine | None:
    """The delivery, or its failure, that a line tells of."""
    entry = parse_line(line)
    return _delivery(entry, *_split_queue_id(entry.text)) if entry else None


Told = StarttlsLine | CertificateLine | AuthLine | RejectLine | ReceivedLine | DeliveryLine


def what_it_tells(entry: LogLine) -> Told | None:
    """Any of the above that a line tells of, each pattern tried at most once; None for everything else."""
    text = entry.text
    if text.startswith("STARTTLS="):
        return _starttls(entry) or _certificate(entry)
    if text.startswith("AUTH="):
        return _auth(entry)
    queue_id, rest = _split_queue_id(text)
    if rest.startswith("from="):
        return _received(entry, queue_id, rest)
    if rest.startswith("to="):
        return _delivery(entry, queue_id, rest)
    if rest.startswith("ruleset="):
        return _reject(entry, queue_id, rest)
    if rest.startswith("AUTH="):
        return _auth(LogLine(entry.time_text, entry.host, entry.tag, entry.pid, rest))
    return None


def _starttls(entry: LogLine) -> StarttlsLine | None:
    match = _STARTTLS.match(entry.text)
    if match is None:
        return None
    name, address = _relay(match["relay"])
    return StarttlsLine(
        time_text=entry.time_text,
        pid=entry.pid,
        direction="server" if match["direction"] == "server" else "client",
        relay_name=name,
        relay_address=address,
        version=match["version"],
        verify=match["verify"],
        cipher=match["cipher"],
        bits=int(match["bits"]),
        algorithm_bits=int(match["algorithm_bits"]),
    )


def _certificate(entry: LogLine) -> CertificateLine | None:
    match = _CERTIFICATE.fullmatch(entry.text)
    if match is None:
        return None
    direction: Literal["server", "client"] = "server" if match["direction"] == "server" else "client"
    return CertificateLine(entry.time_text, entry.pid, direction, match["subject"], match["issuer"])


def _auth(entry: LogLine) -> AuthLine | None:
    match = _AUTH.fullmatch(entry.text)
    if match is None:
        return None
    return AuthLine(entry.time_text, entry.pid, *_relay(match["relay"]), int(match["bits"]))


def _reject(entry: LogLine, queue_id: str, text: str) -> RejectLine | None:
    match = _REJECT.fullmatch(text)
    if match is None:
        return None
    name, address = _relay(match["relay"])
    return RejectLine(
        entry.time_text,
        entry.pid,
        queue_id,
        match["ruleset"],
        match["arg1"],
        match["arg2"] or "",
        name,
        address,
        match["reply"],
    )


def _received(entry: LogLine, queue_id: str, text: str) -> ReceivedLine | None:
    match = _FROM.fullmatch(text)
    if not queue_id or match is None:
        return None
    name, address = _relay(match["relay"])
    protocol = _PROTOCOL.match(match["fields"])
    return ReceivedLine(
        entry.time_text,
        entry.pid,
        queue_id,
        match["sender"],
        match["message_id"] or "",
        name,
        address,
        recipient_count=int(match["count"]),
        relay_forged=match["relay"].endswith(_FORGED),
        protocol=protocol["protocol"] if protocol else "",
    )


def _delivery(entry: LogLine, queue_id: str, text: str) -> DeliveryLine | None:
    match = _TO.fullmatch(text)
    if not queue_id or match is None:
        return None
    mailer, relay = _MAILER.search(match["fields"]), _TO_RELAY.search(match["fields"])
    return DeliveryLine(
        entry.time_text,
        entry.pid,
        queue_id,
        match["recipients"],
        match["status"],
        mailer["mailer"] if mailer else "",
        *(_relay(relay["relay"]) if relay else ("", "")),
    )


@dataclass(frozen=True)
class MessageTrace:
    """One message in one host's log: how it came in, the TLS session it came through, and what became of it."""

    received: ReceivedLine
    session: StarttlsLine | None
    deliveries: tuple[DeliveryLine, ...]


def trace_message(lines: Iterable[str], message_id: str) -> MessageTrace | None:
    """Follow the message that came in from outside with this Message-ID (angle brackets or not); None: it did not.

    One process serves one connection and logs its session first, so the session is the last one of the same pid before
    the message.
    """
    wanted = message_id.strip("<>")
    sessions: dict[int, StarttlsLine] = {}
    received: ReceivedLine | None = None
    session: StarttlsLine | None = None
    deliveries: list[DeliveryLine] = []
    for line in lines:
        if found := parse_starttls(line):
            if found.direction == "server":
                sessions[found.pid] = found
        elif taken := parse_received(line):
            # On the sending host the submission agent logs the same Message-ID before the mail server does.
            if taken.message_id.strip("<>") == wanted and taken.relay_address:
                received, session = taken, sessions.get(taken.pid)
        elif (delivery := parse_delivery(line)) and received and delivery.queue_id == received.queue_id:
            deliveries.append(delivery)
    return MessageTrace(received, session, tuple(deliveries)) if received else None


def _split_queue_id(text: str) -> tuple[str, str]:
    match = _QUEUE_ID.match(text)
    if match is None:
        return "", text
    return ("" if match["queue_id"] == "NOQUEUE" else match["queue_id"]), match["rest"]


def _relay(text: str) -> tuple[str, str]:
    """``name [address]``, perhaps followed by ``(may be forged)``; either part may be missing."""
    match = _RELAY.match(text)
    if match is None:
        return text.rstrip("."), ""
    return match["name"].rstrip("."), match["address"].removeprefix("IPv6:")
