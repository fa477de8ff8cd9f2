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
    r"(?P<tag>[\w./-]+)\[(?P<pid>\d+)\]: (?:\[ID \d+ [\w.]+\] )?(?P<text>.*)"
)
_STARTTLS = re.compile(
    r"STARTTLS=(?P<direction>server|client), relay=(?P<relay>[^,]*), version=(?P<version>[^,]*), "
    r"verify=(?P<verify>\w+), cipher=(?P<cipher>[^,]*), bits=(?P<bits>\d+)/(?P<algorithm_bits>\d+)"
)
_QUEUE_ID = re.compile(r"(?P<queue_id>NOQUEUE|[0-9A-Za-z]{8,20}): (?P<rest>.*)")
_REJECT = re.compile(
    r"ruleset=(?P<ruleset>\w+), arg1=(?P<arg1>.*?)(?:, arg2=(?P<arg2>.*?))?, relay=(?P<relay>[^,]*), "
    r"reject=(?P<reply>\d{3} .*)"
)
# The names stand in this order; a message id comes from outside and may hold anything but what ends it.
_FROM = re.compile(
    r"from=(?P<sender>.*?), size=(?P<size>-?\d+), .*?msgid=(?P<message_id>.*?), (?:\w+=.*, )?relay=(?P<relay>.*)"
)
_TO = re.compile(r"to=(?P<recipients>.*?), (?:ctladdr=.*?, )?delay=.*?, (?:.*, )?stat=(?P<status>.*)")
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
    """A message taken in (``from=``); ``message_id`` with its angle brackets."""

    time_text: str
    pid: int
    queue_id: str
    sender: str
    message_id: str
    relay_name: str
    relay_address: str


@dataclass(frozen=True)
class DeliveryLine:
    """What became of a message (``to=``): ``status`` begins with Sent, Deferred, User unknown, ..."""

    time_text: str
    pid: int
    queue_id: str
    recipients: str
    status: str

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
    text = entry.text if entry is not None else ""
    match = _STARTTLS.match(text)
    if entry is None or match is None:
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


def parse_reject(line: str) -> RejectLine | None:
    """The refusal by a ruleset that a line tells of; the queue id is empty where there was no message yet."""
    entry = parse_line(line)
    if entry is None:
        return None
    queue_id, text = _split_queue_id(entry.text)
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


def parse_received(line: str) -> ReceivedLine | None:
    """The message taken in that a line tells of."""
    entry = parse_line(line)
    if entry is None:
        return None
    queue_id, text = _split_queue_id(entry.text)
    match = _FROM.fullmatch(text)
    if not queue_id or match is None:
        return None
    name, address = _relay(match["relay"])
    return ReceivedLine(entry.time_text, entry.pid, queue_id, match["sender"], match["message_id"], name, address)


def parse_delivery(line: str) -> DeliveryLine | None:
    """The delivery, or its failure, that a line tells of."""
    entry = parse_line(line)
    if entry is None:
        return None
    queue_id, text = _split_queue_id(entry.text)
    match = _TO.fullmatch(text)
    if not queue_id or match is None:
        return None
    return DeliveryLine(entry.time_text, entry.pid, queue_id, match["recipients"], match["status"])


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
