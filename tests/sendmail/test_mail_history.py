"""The mail log of a real sendmail, rotated and packed on its host, read and judged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import pytest

from mailtls_nb.errors import NotReady
from mailtls_nb.hosts.base import Completed, Host
from mailtls_nb.observe.layout import observe_layout
from mailtls_nb.observe.mail_history import list_log_files, observe_impact, read_history
from mailtls_nb.sendmail.access.case import Case, Decision
from mailtls_nb.sendmail.history import Event, MailHistory
from mailtls_nb.sendmail.layout import LogSource
from mailtls_nb.sendmail.tally import FittingCertificate, Tally
from mailtls_nb.testbed import Testbed
from mailtls_nb.testbed.witness import witness

pytestmark = pytest.mark.testbed

_CERTIFICATES = r"""
mkdir -p /root/history && cd /root/history || exit 1
for ca in known unknown; do
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 9 -subj "/CN=$ca CA" \
        -keyout $ca.ca.key -out $ca.ca.pem
    openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=stranger.example.test \
        -keyout $ca.key -out $ca.csr
    openssl x509 -req -in $ca.csr -CA $ca.ca.pem -CAkey $ca.ca.key -CAcreateserial -days 9 -out $ca.pem
done >/dev/null 2>&1
cat known.ca.pem
"""
# Parameters: options of swaks. Each message goes through a connection of its own.
_SEND = r"""
cd /root/history || exit 1
exec swaks --server relay.example.test --from a@stranger.example.test --to root@relay.example.test --silent 2 "$@"
"""
PLAIN: tuple[str, ...] = ()
NO_CERTIFICATE = ("--tls",)
KNOWN = ("--tls", "--tls-cert", "known.pem", "--tls-key", "known.key")
UNKNOWN = ("--tls", "--tls-cert", "unknown.pem", "--tls-key", "unknown.key")
# What syslog's own rotation does: mail.log becomes .1, and what was .1 is packed as .2.
_ROTATE = r"""
cd /var/log || exit 1
test ! -f mail.log.1 || gzip -c mail.log.1 >mail.log.2.gz
mv mail.log mail.log.1 && pkill -HUP rsyslogd
"""
_WAIT_FOR_NEW_LOG = r"""
for i in 1 2 3 4 5 6 7 8 9 10; do
    logger -p mail.info x; sleep 0.2; test -s /var/log/mail.log && exit 0
done
exit 1
"""


@dataclass(frozen=True)
class Server:
    relay: Host
    stranger: Host
    log: LogSource

    def receive(self, options: Sequence[str]) -> None:
        self.stranger.run(["sh", "-c", _SEND, "sh", *options], timeout_s=60).check("sending")

    def send(self, recipient: str) -> None:
        argv = ["sendmail", "-Am", "-odi", "-i", recipient]
        self.relay.run(argv, stdin=b"Subject: x\n\nx\n", timeout_s=60).check("sending")

    def rotate(self) -> None:
        self.relay.run(["sh", "-c", _ROTATE], timeout_s=20).check("rotating")
        # syslog makes the new file with the first line that it writes.
        self.relay.run(["sh", "-c", _WAIT_FOR_NEW_LOG], timeout_s=20).check("waiting for the new log")


@pytest.fixture(scope="module")
def server(pristine: Testbed) -> Iterator[Server]:
    """Eight messages, in three files: the oldest packed, one renamed, the newest in place."""
    relay, stranger, partner = (pristine.host(name) for name in ("relay", "stranger", "partner"))
    ca = stranger.run(["sh", "-c", _CERTIFICATES], timeout_s=60).stdout
    server = Server(relay, stranger, observe_layout(relay).log)
    with ExitStack() as stack:
        for host in (relay, partner):
            stack.enter_context(witness(host, ca))
        for options in (PLAIN, KNOWN):
            server.receive(options)
        server.rotate()
        for options in (PLAIN, NO_CERTIFICATE, UNKNOWN):
            server.receive(options)
        server.rotate()
        server.receive(KNOWN)
        server.send("root@partner.example.test")
        server.send("root@stranger.example.test")
        yield server


def read(host: Host, log: LogSource) -> tuple[list[Event], MailHistory, tuple[str, ...]]:
    events: list[Event] = []
    history = MailHistory(now=datetime.now(UTC))
    remarks = read_history(host, log, history, events.append)
    return events, history, remarks


def verified_by(events: Sequence[Event], direction: str, peer: str) -> list[str]:
    return [event.session.verify for event in events if (event.direction, event.peer) == (direction, peer)]


def test_each_message_has_its_session_in_the_order_they_came(server: Server) -> None:
    events, history, remarks = read(server.relay, server.log)
    assert verified_by(events, "server", "stranger.example.test") == ["NONE", "OK", "NONE", "NO", "FAIL", "OK"]
    # The partner's certificate is of its own making; the stranger offers no TLS.
    assert verified_by(events, "client", "partner.example.test") == ["FAIL"]
    assert verified_by(events, "client", "stranger.example.test") == ["NONE"]
    assert [event.recipients for event in events if event.direction == "client"] == [
        ("root@partner.example.test",),
        ("root@stranger.example.test",),
    ]
    assert remarks == ()
    assert history.not_understood == 0
    assert history.last is not None
    assert datetime.now(UTC) - history.last < timedelta(minutes=10)


def test_files_come_oldest_first(server: Server) -> None:
    files = [file.path for file in list_log_files(server.relay, server.log)]
    assert files == ["/var/log/mail.log.2.gz", "/var/log/mail.log.1", "/var/log/mail.log"]


def test_who_would_have_been_refused(server: Server) -> None:
    """By a rule that pins an issuer: at the default log level nobody can tell the issuer of what was verified."""

    def decide(case: Case) -> Decision:
        return Decision("" if case.verify == "OK" and case.cert_issuer == "/CN=known+20CA" else "permanent")

    tally = Tally(decide, directions=["server"], fitting=FittingCertificate(cert_issuer="/CN=known+20CA"))
    impact = observe_impact(server.relay, server.log, tally, now=datetime.now(UTC))
    (stranger,) = (peer for peer in impact.peers if peer.name == "stranger.example.test")
    assert (stranger.messages, stranger.refused, stranger.undecided) == (6, 4, 2)
    assert dict(stranger.reasons) == {
        "no STARTTLS": 2,
        "no certificate shown (verify=NO)": 1,
        "certificate not verified (verify=FAIL)": 1,
        "unknown issuer: cannot be told from this log": 2,
    }


class Disturbed:
    """A host where something happens just before a log file is read."""

    def __init__(self, host: Host, disturb: Callable[[], object]) -> None:
        self._host = host
        self._disturb = [disturb]

    @property
    def name(self) -> str:
        return self._host.name

    def run(self, argv: Sequence[str], *, stdin: bytes = b"", timeout_s: float) -> Completed:
        return self._host.run(argv, stdin=stdin, timeout_s=timeout_s)

    def stream(self, argv: Sequence[str], take: Callable[[bytes], None], *, timeout_s: float) -> Completed:
        while self._disturb:
            self._disturb.pop()()
        return self._host.stream(argv, take, timeout_s=timeout_s)

    def read(self, path: str) -> bytes | None:
        return self._host.read(path)

    def write(self, path: str, data: bytes, *, mode: int, owner: str) -> None:
        self._host.write(path, data, mode=mode, owner=owner)


@pytest.fixture
def copies(server: Server) -> Iterator[LogSource]:
    """Copies of the three files, to be spoilt."""
    copy = "rm -rf /root/logs; mkdir /root/logs; cp -p /var/log/mail.log* /root/logs"
    server.relay.run(["sh", "-c", copy], timeout_s=20).check("copying")
    yield LogSource("/root/logs/mail.log")
    server.relay.run(["rm", "-rf", "/root/logs"], timeout_s=20)


def spoil(server: Server, script: str) -> None:
    server.relay.run(["sh", "-c", f"cd /root/logs && {script}"], timeout_s=20).check("spoiling")


def test_a_log_rotated_meanwhile_is_read_once_and_whole(server: Server, copies: LogSource) -> None:
    """Its files are found by their inodes under the names they have by then."""
    whole, _, _ = read(server.relay, copies)
    rotate = "mv mail.log.2.gz mail.log.3.gz && mv mail.log.1 mail.log.2 && mv mail.log mail.log.1 && : >mail.log"
    disturbed = Disturbed(server.relay, lambda: spoil(server, rotate))
    events, _, remarks = read(disturbed, copies)
    assert (events, remarks) == (whole, ())


@pytest.mark.parametrize(
    ("script", "remark"),
    [
        ("rm mail.log.1", "mail.log.1: it was rotated away while the log was read"),
        ("gzip mail.log.1", "mail.log.1: it was rotated away while the log was read"),
    ],
)
def test_a_file_that_goes_meanwhile_is_named(server: Server, copies: LogSource, script: str, remark: str) -> None:
    events, _, remarks = read(Disturbed(server.relay, lambda: spoil(server, script)), copies)
    assert remarks == (f"/root/logs/{remark}",)
    assert verified_by(events, "server", "stranger.example.test") == ["NONE", "OK", "OK"]


@pytest.mark.parametrize(
    ("script", "remark"),
    [
        ("truncate -s -20 mail.log.2.gz", "unexpected end of file"),
        ("mv mail.log.2.gz mail.log.2.zst", "zstd: not found"),
        ("printf nonsense >mail.log.2.gz", "not in gzip format"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(server: Server, copies: LogSource, script: str, remark: str) -> None:
    spoil(server, script)
    events, _, remarks = read(server.relay, copies)
    (said,) = remarks
    assert "mail.log.2" in said
    assert remark in said
    assert verified_by(events, "server", "stranger.example.test")[-4:] == ["NONE", "NO", "FAIL", "OK"]


def test_old_files_and_others_beside_the_log_are_left_out(server: Server, copies: LogSource) -> None:
    spoil(
        server, "touch -d '40 days ago' mail.log.2.gz; touch mail.log.bak mail.log-notes; cp mail.log mail.log-20261101"
    )
    names = [file.path.removeprefix("/root/logs/") for file in list_log_files(server.relay, copies)]
    assert names == ["mail.log-20261101", "mail.log.1", "mail.log"]


def test_no_log_at_all_is_said(server: Server) -> None:
    with pytest.raises(NotReady, match=r"testbed:relay has no mail log /var/log/none of the last 30 days"):
        read(server.relay, LogSource("/var/log/none"))
