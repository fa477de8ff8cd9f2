"""Sending a message from a host, and finding in the logs what its connections were verified as."""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.maillog import LogMark
from mailtls_nb.observe.port25 import presented_on_port25
from mailtls_nb.sendmail.maillog import StarttlsLine, parse_delivery, parse_received, parse_starttls, trace_message

_ADDRESS = re.compile(r"\[(?:IPv6:)?([^\]]+)\]")


@dataclass(frozen=True)
class Message:
    """A message on its way; ``message_id`` finds it in the logs."""

    message_id: str
    recipient: str


def send_message(host: Host, sendmail: str, *, recipient: str, token: str) -> Message:
    """Hand a message to the host's own sendmail, as any program there would. ``token`` makes its Message-ID unique."""
    message_id = f"mailtls-nb.{token}@{recipient.partition('@')[2]}"
    text = f"To: {recipient}\nSubject: mailtls-nb proof\nMessage-ID: <{message_id}>\n\nSent by a runbook as a proof.\n"
    host.run((sendmail, "-i", recipient), stdin=text.encode(), timeout_s=60).check("sending a message")
    return Message(message_id, recipient)


def verified_by_receiver(mark: LogMark, message: Message) -> str:
    """``verify=WORD`` as the receiving host logged it for the connection that brought the message."""

    def found(lines: tuple[str, ...]) -> str:
        trace = trace_message(lines, message.message_id)
        return _word(trace.session) if trace else ""

    return mark.wait_for(found)


def verified_by_sender(mark: LogMark, message: Message, *, attempt: int = 1) -> str:
    """``verify=WORD`` as the sending host logged it for the connection by which the message left.

    "sent without TLS" where there was none, and the status as logged (Deferred...) where it did not leave. A message
    that waited in the queue is tried several times: ``attempt`` counts from 1.
    """

    def found(lines: tuple[str, ...]) -> str:
        words = _attempts(lines, message)
        return words[attempt - 1] if len(words) >= attempt else ""

    return mark.wait_for(found)


def _attempts(lines: tuple[str, ...], message: Message) -> list[str]:
    received = [line for line in map(parse_received, lines) if line and message.message_id in line.message_id]
    queue_ids = {line.queue_id for line in received}
    sessions: dict[int, StarttlsLine] = {}
    words = []
    for line in lines:
        if (session := parse_starttls(line)) and session.direction == "client":
            sessions[session.pid] = session
        # The submission agent's own delivery, to the server on this host, is not the one that counts.
        delivery = parse_delivery(line)
        if delivery and delivery.queue_id in queue_ids and f"<{message.recipient}>" in delivery.recipients:
            words.append(_word(sessions.get(delivery.pid)) if delivery.is_sent else delivery.status)
    return words


def logged_handshake(mark: LogMark, seen_as: str, expected: str) -> str:
    """``verify=WORD`` that the server logged for a session with the client ``name [address]``.

    Others may connect from the same address (another host behind it, the submission agent): the word ``expected``
    counts if any session since the mark has it; else the last session's word, or that nothing was logged.
    """
    address = _ADDRESS.search(seen_as)
    if address is None:
        return "the server did not say how it sees the client"

    def words(lines: tuple[str, ...]) -> list[str]:
        sessions = [line for line in map(parse_starttls, lines) if line and line.direction == "server"]
        return [_word(session) for session in sessions if session.relay_address == address[1]]

    found = mark.wait_for(lambda lines: expected if expected in words(lines) else "")
    return found if found == expected else (words(mark.lines()) or [found])[-1]


def logged_client(client: Host, certificate: str, mark: LogMark, *, server: str, port: int = 25, expected: str) -> str:
    """``verify=WORD`` that the server, whose log is marked, logs for a client that shows this file (on ``client``).

    Empty where no connection comes about. ``expected`` as for `logged_handshake`.
    """
    seen = presented_on_port25(client, server, port=port, client_certificate=certificate, identify=True)
    return logged_handshake(mark, seen.seen_as, expected) if seen.connected else ""


def _word(session: StarttlsLine | None) -> str:
    return f"verify={session.verify}" if session else "sent without TLS"
