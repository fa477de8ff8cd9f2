"""What a mail log says about past connections: each message that came or went, with the TLS session it went through.

One process serves one connection, and logs its TLS session before the messages: so a line ``STARTTLS=server`` belongs
to the messages taken in by the same process from the same address, and ``STARTTLS=client`` to the deliveries of the
same process to the same server (sendmail 8.12 to 8.18, at its default log level 9). Memory is bounded: the sessions of
a limited number of processes are remembered, the latest used ones.
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import Literal

from mailtls_nb.sendmail.access.case import Direction
from mailtls_nb.sendmail.log_time import LogClock
from mailtls_nb.sendmail.maillog import (
    AuthLine,
    CertificateLine,
    DeliveryLine,
    LogLine,
    ReceivedLine,
    RejectLine,
    StarttlsLine,
    Told,
    parse_line,
    what_it_tells,
)

# Sessions are remembered for so many processes, and for so many servers of each.
MOST_PROCESSES = 10_000
MOST_SERVERS = 16
# syslog and sendmail write far shorter lines; a longer one is damage.
LONGEST_LINE = 8192
# sendmail ends a connection that is idle for longer (Timeout.command is 1 h), so its process id may be another's.
_LONGEST_IDLE = timedelta(hours=1)

# What sendmail says when a rule on TLS refuses (cf/m4/proto.m4, TLS_connection and TLS_req): with delay_checks the
# ruleset that is logged is check_rcpt, as for any other refusal.
_TLS_REPLY = re.compile(
    r"authentication (required|failed|failure )|not authenticated$|no authentication requested|"
    r"other side does not support STARTTLS|STARTTLS disabled locally|encryption too weak|"
    r" (CN|Cert Subject|Cert Issuer) .*(does not match|not acceptable)"
)
_RULESETS: dict[str, Direction] = {"tls_client": "server", "tls_server": "client", "tls_rcpt": "recipient"}
_RECIPIENT = re.compile(r"[^<>,\s]+@[^<>,\s]+")
_COMMON_NAME = re.compile(r"/CN=([^/]*)")
_LOCAL_NAMES = frozenset({"localhost", "localhost.localdomain"})


@dataclass(frozen=True)
class Session:
    """A TLS session as far as the log tells. ``verify`` is empty where it does not tell, NONE where there was no TLS.

    Subject and issuer are logged at level 12 and above only: None where they are not known.
    """

    verify: str = "NONE"
    bits: int = 0
    auth_ssf: int = 0
    cert_subject: str | None = None
    cert_issuer: str | None = None

    @property
    def cn_subject(self) -> str | None:
        """The subject's last common name."""
        if self.cert_subject is None:
            return None
        names = _COMMON_NAME.findall(self.cert_subject)
        return names[-1] if names else ""


_NO_TLS = Session()
_UNKNOWN = Session(verify="")


@dataclass(frozen=True)
class Event:
    """A message that came or went, or (``refused``) an attempt that a TLS rule in force refused already.

    ``peer`` and ``address`` are what sendmail's rules see: the client's reverse name, or ``[ADDRESS]`` where there is
    none or it is forged ({client_name} in op.me; then ``claimed_name`` holds it); or the server's name. ``recipients``
    are those of a message that went out, as far as they have a domain. A message that left in two deliveries counts
    twice.
    """

    direction: Direction
    time: datetime
    peer: str
    address: str
    session: Session
    refused: bool = False
    recipients: tuple[str, ...] = ()
    claimed_name: str = ""

    @property
    def is_local(self) -> bool:
        """Whether the other side is this host itself: mail submitted here, or a filter that runs here."""
        address = self.address.removeprefix("IPv6:")
        return address.startswith("127.") or address == "::1" or self.peer in _LOCAL_NAMES


@dataclass
class _Process:
    """What is remembered of one process: its session as a server, and those with the servers it sent to."""

    seen: datetime
    server_address: str = ""
    server: Session | None = None
    auth_ssf: int = 0
    clients: dict[str, Session] = field(default_factory=dict)
    latest: tuple[Literal["server", "client"], str] | None = None


class MailHistory:
    """Reads a mail log line by line, oldest first.

    ``now`` (aware) gives years to time stamps that have none; ``utc_offset`` is the host's, for those without a zone;
    what is older than ``since`` is passed over. ``lines`` counts the lines read, ``not_understood`` those that look
    like sendmail's about a message and could not be read; ``first`` and ``last`` are the times of the earliest and
    latest line that told something.
    """

    def __init__(
        self,
        *,
        now: datetime,
        since: datetime | None = None,
        utc_offset: timedelta = timedelta(0),
        most_processes: int = MOST_PROCESSES,
    ) -> None:
        self.lines = 0
        self.not_understood = 0
        self.first: datetime | None = None
        self.last: datetime | None = None
        self._clock = LogClock(now, utc_offset)
        self._since = since
        self._most_processes = most_processes
        self._processes: OrderedDict[tuple[str, int], _Process] = OrderedDict()
        # Old releases write ESMTP with TLS too; once an "S" was seen, its absence means that there was none.
        self._protocol_tells = False

    @property
    def processes(self) -> int:
        """How many processes are remembered now."""
        return len(self._processes)

    def feed(self, line: bytes) -> Event | None:
        """Take in one line, with or without its end; the event that it completes. Never raises, whatever it holds."""
        self.lines += 1
        if not _may_tell(line):
            return None
        if len(line) > LONGEST_LINE:
            self.not_understood += 1
            return None
        entry = parse_line(line.decode("utf-8", "replace"))
        if entry is None:
            return None
        told = what_it_tells(entry)
        if told is None:
            if _is_farewell(entry.text):
                self._processes.pop((entry.host, entry.pid), None)
            self.not_understood += _should_have_told(entry)
            return None
        time = self._clock.read(entry.time_text)
        if time is None:
            self.not_understood += 1
            return None
        if self._since is not None and time < self._since:
            return None
        if self.first is None or time < self.first:
            self.first = time
        if self.last is None or time > self.last:
            self.last = time
        return self._take(told, time, self._process(entry.host, entry.pid, time))

    def _process(self, host: str, pid: int, time: datetime) -> _Process:
        process = self._processes.pop((host, pid), None)
        if process is None or time - process.seen > _LONGEST_IDLE:
            process = _Process(time)
        process.seen = time
        self._processes[host, pid] = process
        if len(self._processes) > self._most_processes:
            self._processes.popitem(last=False)
        return process

    def _take(self, told: Told, time: datetime, process: _Process) -> Event | None:
        match told:
            case StarttlsLine(direction="server"):
                process.server_address = told.relay_address
                process.server = Session(told.verify, told.bits)
                process.auth_ssf = 0
                process.latest = ("server", "")
            case StarttlsLine():
                server = _key(told.relay_name, told.relay_address)
                process.clients.pop(server, None)
                process.clients[server] = Session(told.verify, told.bits)
                if len(process.clients) > MOST_SERVERS:
                    del process.clients[next(iter(process.clients))]
                process.latest = ("client", server)
            case CertificateLine():
                _add_certificate(process, told)
            case AuthLine():
                process.auth_ssf = told.bits
            case RejectLine():
                return self._refused(told, time, process)
            case ReceivedLine():
                return self._received(told, time, process)
            case DeliveryLine():
                return _sent(told, time, process)
        return None

    def _received(self, line: ReceivedLine, time: datetime, process: _Process) -> Event | None:
        # Without an address it was handed over by a program; without a recipient left, refused for other reasons.
        if not line.relay_address or line.recipient_count == 0:
            return None
        tls_by_protocol = line.protocol.endswith(("S", "SA"))
        self._protocol_tells = self._protocol_tells or tls_by_protocol
        session = process.server if process.server_address == line.relay_address else None
        if session is None or (self._protocol_tells and not tls_by_protocol):
            session = _UNKNOWN if tls_by_protocol else _NO_TLS
        if process.auth_ssf:
            session = replace(session, auth_ssf=process.auth_ssf)
        return _from_client(line.relay_name, line.relay_address, line.relay_forged, time, session)

    def _refused(self, line: RejectLine, time: datetime, process: _Process) -> Event | None:
        direction = _RULESETS.get(line.ruleset)
        if direction is None and not (line.ruleset == "check_rcpt" and _TLS_REPLY.search(line.reply)):
            return None
        if direction is None or direction == "server":
            session = process.server if process.server_address == line.relay_address else None
            event = _from_client(line.relay_name, line.relay_address, False, time, session or _NO_TLS)
        else:
            session = process.clients.get(_key(line.relay_name, line.relay_address), _NO_TLS)
            recipients = tuple(_RECIPIENT.findall(line.arg1)) if direction == "recipient" else ()
            event = _to_server(line.relay_name, line.relay_address, time, session, recipients)
        return replace(event, refused=True, direction=direction or "server")


def events(lines: Iterable[bytes], history: MailHistory) -> Iterator[Event]:
    """The events of a log, in the order of its lines."""
    for line in lines:
        event = history.feed(line)
        if event is not None:
            yield event


def _may_tell(line: bytes) -> bool:
    """Cheap, and before anything else: most lines of a mail log are none that count."""
    return (
        b": from=" in line
        # Deliveries that did not leave the host, or did not succeed, need no look.
        or (b": to=" in line and b"stat=Sent" in line and b"mailer=local" not in line)
        or b": STARTTLS=" in line
        or b"] STARTTLS=" in line
        or b"ruleset=" in line
        or b"AUTH=server" in line
        or b"lost input channel from" in line
        or b"did not issue MAIL" in line
    )


def _is_farewell(text: str) -> bool:
    return "did not issue MAIL" in text or "lost input channel from" in text


def _should_have_told(entry: LogLine) -> bool:
    """Whether a line that nothing could be made of is one of sendmail's about a message or a session."""
    if not entry.tag.startswith(("sendmail", "sm-")):
        return False
    text = entry.text.partition(": ")[2]
    return text.startswith(("from=", "to=")) or (entry.text.startswith("STARTTLS=") and ", verify=" in entry.text)


def _add_certificate(process: _Process, line: CertificateLine) -> None:
    """The line follows that of its session at once, in the same process."""
    if process.latest is None or process.latest[0] != line.direction:
        return
    server = process.latest[1]
    if line.direction == "server" and process.server is not None:
        process.server = replace(process.server, cert_subject=line.subject, cert_issuer=line.issuer)
    elif server in process.clients:
        session = process.clients[server]
        process.clients[server] = replace(session, cert_subject=line.subject, cert_issuer=line.issuer)


def _sent(line: DeliveryLine, time: datetime, process: _Process) -> Event | None:
    recipients = tuple(_RECIPIENT.findall(line.recipients))
    if not line.is_sent or not line.relay_address or not recipients:
        return None
    session = process.clients.get(_key(line.relay_name, line.relay_address), _NO_TLS)
    event = _to_server(line.relay_name, line.relay_address, time, session, recipients)
    # The submission agent hands over to this host's own server, by a configuration that these rules are no part of.
    return None if line.mailer == "relay" and event.is_local else event


def _from_client(name: str, address: str, forged: bool, time: datetime, session: Session) -> Event:
    # A name from identd stands before an @.
    name = name.rpartition("@")[2].lower()
    as_written = _as_written(address)
    if forged or not name:
        return Event("server", time, f"[{as_written}]", as_written, session, claimed_name=name)
    return Event("server", time, name, as_written, session)


def _to_server(name: str, address: str, time: datetime, session: Session, recipients: tuple[str, ...]) -> Event:
    as_written = _as_written(address)
    return Event("client", time, name.lower() or f"[{as_written}]", as_written, session, recipients=recipients)


def _key(name: str, address: str) -> str:
    # A client's session is logged with the server's name, or with its address where that is all there is.
    return name.lower() or address


def _as_written(address: str) -> str:
    return f"IPv6:{address}" if ":" in address else address
