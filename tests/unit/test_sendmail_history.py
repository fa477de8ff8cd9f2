"""Mail logs as events: each message with the TLS session it went through."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtls_nb.sendmail.history import LONGEST_LINE, Event, MailHistory, events
from mailtls_nb.sendmail.log_time import LogClock

NOW = datetime(2026, 11, 23, 1, tzinfo=UTC)
AT = "2026-11-22T20:59:53.105642+00:00 relay sm-mta"
TLS = "STARTTLS=server, relay=partner.example.test [172.19.0.3], version=TLSv1.3, verify=OK, cipher=AES, bits=256/256"
CERTIFICATE = "STARTTLS=server, cert-subject=/C=DE/CN=partner.example.test, cert-issuer=/CN=Partner+20CA, verifymsg=ok"
FROM = (
    "6AMKxrHT000716: from=<a@b.test>, size=287, class=0, nrcpts=1, msgid=<1@b.test>, proto={proto}, daemon=MTA-v4, "
    "relay={relay}"
)
TO = (
    "6AMKxrDS000722: to={to}, delay=00:00:01, xdelay=00:00:01, mailer=esmtp, pri=30011, "
    "relay=mx.partner.example.test. [172.19.0.3], dsn=2.0.0, stat={stat}"
)
CLIENT_TLS = "STARTTLS=client, relay=mx.partner.example.test., version=TLSv1.2, verify=FAIL, cipher=AES, bits=128/128"


def received(pid: int = 716, proto: str = "ESMTP", relay: str = "partner.example.test [172.19.0.3]") -> str:
    return f"{AT}[{pid}]: {FROM.format(proto=proto, relay=relay)}"


def read(lines: Sequence[str], history: MailHistory | None = None) -> list[Event]:
    return list(events((line.encode() for line in lines), history or MailHistory(now=NOW)))


def the_one(*lines: str) -> Event:
    (event,) = read(lines)
    return event


def test_a_message_has_the_session_of_its_process() -> None:
    event = the_one(f"{AT}[716]: {TLS}", received(proto="ESMTPS"))
    assert (event.direction, event.peer, event.address) == ("server", "partner.example.test", "172.19.0.3")
    assert (event.session.verify, event.session.bits) == ("OK", 256)
    assert event.session.cert_issuer is None
    assert event.time == datetime(2026, 11, 22, 20, 59, 53, 105642, UTC)
    assert not event.is_local


def test_a_message_without_starttls() -> None:
    event = the_one(f"{AT}[715]: {TLS}", received())
    assert (event.session.verify, event.session.bits) == ("NONE", 0)


def test_subject_and_issuer_of_log_level_12() -> None:
    event = the_one(f"{AT}[716]: {TLS}", f"{AT}[716]: {CERTIFICATE}", received())
    assert event.session.cert_subject == "/C=DE/CN=partner.example.test"
    assert event.session.cn_subject == "partner.example.test"
    assert event.session.cert_issuer == "/CN=Partner+20CA"


def test_the_old_form_of_8_12() -> None:
    """Two versions in one word, and no S in the protocol's name though there is TLS."""
    event = the_one(
        "Nov 22 20:59:53 gate sendmail[9]: " + TLS.replace("TLSv1.3", "TLSv1/SSLv3"),
        received().replace(AT + "[716]", "Nov 22 20:59:53 gate sendmail[9]"),
    )
    assert event.session.verify == "OK"


def test_a_session_that_the_log_does_not_hold_is_unknown_not_absent() -> None:
    """ESMTPS says that there was TLS; its line was rotated away, or the log level is below 9."""
    assert the_one(received(proto="ESMTPS")).session.verify == ""


@pytest.mark.parametrize(
    "between",
    [
        f"{AT}[716]: lost input channel from partner.example.test [172.19.0.3] to MTA-v4 after rcpt",
        f"{AT}[716]: 6AM: partner.example.test [172.19.0.3] did not issue MAIL/EXPN/VRFY/ETRN during connection to MTA",
        "2026-11-22T22:30:00+00:00 relay sm-mta[717]: nothing",
    ],
)
def test_a_process_id_used_again_has_no_session_of_the_one_before(between: str) -> None:
    later = received().replace("20:59:53", "22:30:00") if "22:30" in between else received()
    assert the_one(f"{AT}[716]: {TLS}", between, later).session.verify == "NONE"


def test_another_client_has_no_part_in_the_session() -> None:
    """The same process id, another address."""
    event = the_one(f"{AT}[716]: {TLS}", received(relay="other.example.test [172.19.0.4]"))
    assert event.session.verify == "NONE"


def test_a_plain_protocol_outweighs_an_old_session_once_the_log_tells() -> None:
    lines = [f"{AT}[716]: {TLS}", received(proto="ESMTPS"), received(proto="ESMTP")]
    assert [event.session.verify for event in read(lines)] == ["OK", "NONE"]


@pytest.mark.parametrize(
    ("relay", "peer", "address", "claimed"),
    [
        ("[192.0.2.1]", "[192.0.2.1]", "192.0.2.1", ""),
        ("x.test [192.0.2.1] (may be forged)", "[192.0.2.1]", "192.0.2.1", "x.test"),
        ("ident@x.test [192.0.2.1]", "x.test", "192.0.2.1", ""),
        ("X.Test [IPv6:2001:db8::1]", "x.test", "IPv6:2001:db8::1", ""),
        ("[IPv6:2001:db8::1]", "[IPv6:2001:db8::1]", "IPv6:2001:db8::1", ""),
    ],
)
def test_the_peer_is_what_the_rules_look_up(relay: str, peer: str, address: str, claimed: str) -> None:
    event = the_one(received(relay=relay))
    assert (event.peer, event.address, event.claimed_name) == (peer, address, claimed)


@pytest.mark.parametrize("relay", ["localhost [127.0.0.1]", "[IPv6:::1]", "localhost.localdomain [192.0.2.1]"])
def test_this_host_is_local(relay: str) -> None:
    assert the_one(received(relay=relay)).is_local


def test_what_a_program_hands_over_is_no_connection() -> None:
    assert read([received(relay="nobody@localhost")]) == []


def test_a_message_with_no_recipient_left_is_none() -> None:
    assert read([received().replace("nrcpts=1", "nrcpts=0")]) == []


def test_authentication_counts_with_its_bits() -> None:
    auth = f"{AT}[716]: AUTH=server, relay=partner.example.test [172.19.0.3], authid=joe, mech=GSSAPI, bits=56"
    assert the_one(auth, received()).session.auth_ssf == 56


def test_a_delivery_has_the_session_with_its_server() -> None:
    to = TO.format(to="<x@P.test>,<y@q.test>,local", stat="Sent (ok)")
    event = the_one(f"{AT}[725]: {CLIENT_TLS}", f"{AT}[725]: {to}")
    assert (event.direction, event.peer, event.address) == ("client", "mx.partner.example.test", "172.19.0.3")
    assert (event.session.verify, event.session.bits) == ("FAIL", 128)
    assert event.recipients == ("x@P.test", "y@q.test")


def test_a_delivery_to_another_server_has_none_of_it() -> None:
    to = TO.format(to="<x@p.test>", stat="Sent").replace("mx.partner", "mx2.partner")
    assert the_one(f"{AT}[725]: {CLIENT_TLS}", f"{AT}[725]: {to}").session.verify == "NONE"


@pytest.mark.parametrize("stat", ["Deferred: Connection refused", "Deferred: 451 x, stat=Sent", "User unknown"])
def test_what_was_not_delivered_does_not_count(stat: str) -> None:
    """Not even if the other server's reply says so."""
    assert read([f"{AT}[725]: {TO.format(to='<x@p.test>', stat=stat)}"]) == []


def test_the_submission_agents_delivery_to_this_host_is_none() -> None:
    line = (
        "6AMKxrDS000722: to=root@x.test, ctladdr=nobody (65534/65534), delay=00:00:00, xdelay=00:00:00, mailer=relay, "
        "pri=30011, relay=[127.0.0.1] [127.0.0.1], dsn=2.0.0, stat=Sent (6AMKxrHT000723 Message accepted)"
    )
    assert read([f"{AT}[722]: {line}"]) == []


@pytest.mark.parametrize(
    ("line", "direction"),
    [
        ("ruleset=tls_client, arg1=FAIL, arg2=STARTTLS, relay=p.test [192.0.2.1], reject=503 5.7.0 x", "server"),
        ("6AM00001: ruleset=tls_server, arg1=NONE, relay=p.test [192.0.2.1], reject=403 4.7.0 x", "client"),
        ("6AM00001: ruleset=tls_rcpt, arg1=a@p.test, relay=p.test [192.0.2.1], reject=403 4.7.0 x", "recipient"),
        (
            "6AM00001: ruleset=check_rcpt, arg1=<a@p.test>, relay=p.test [192.0.2.1], "
            "reject=503 5.7.0 <a@p.test>... authentication failed",
            "server",
        ),
    ],
)
def test_what_a_rule_refuses_already(line: str, direction: str) -> None:
    event = the_one(f"{AT}[7]: {line}")
    assert (event.refused, event.direction, event.peer) == (True, direction, "p.test")


def test_a_refusal_for_other_reasons_is_none() -> None:
    line = (
        "ruleset=check_rcpt, arg1=<a@p.test>, relay=p.test [192.0.2.1], reject=550 5.7.1 <a@p.test>... Relaying denied"
    )
    assert read([f"{AT}[7]: 6AM00001: {line}"]) == []


@pytest.mark.parametrize(
    ("text", "now", "time"),
    [
        ("Nov 22 20:59:53", NOW, datetime(2026, 11, 22, 20, 59, 53, tzinfo=UTC)),
        ("Dec 31 23:59:59", datetime(2027, 1, 2, tzinfo=UTC), datetime(2026, 12, 31, 23, 59, 59, tzinfo=UTC)),
        ("Jan  1 00:00:01", datetime(2027, 1, 2, tzinfo=UTC), datetime(2027, 1, 1, 0, 0, 1, tzinfo=UTC)),
        # A host whose clock is a little ahead, over the new year too.
        ("Jan  1 00:10:00", datetime(2026, 12, 31, 23, tzinfo=UTC), datetime(2027, 1, 1, 0, 10, tzinfo=UTC)),
        ("Feb 29 12:00:00", NOW, datetime(2024, 2, 29, 12, tzinfo=UTC)),
        ("Jun 30 23:59:60", NOW, datetime(2026, 6, 30, 23, 59, 59, tzinfo=UTC)),
        ("2026-11-22T20:59:53Z", NOW, datetime(2026, 11, 22, 20, 59, 53, tzinfo=UTC)),
        ("2026-11-22T21:59:53+0100", NOW, datetime(2026, 11, 22, 20, 59, 53, tzinfo=UTC)),
        ("2026-11-22T99:59:53Z", NOW, None),
        ("Nov 31 20:59:53", NOW, None),
        ("Foo 22 20:59:53", NOW, None),
    ],
)
def test_times(text: str, now: datetime, time: datetime | None) -> None:
    assert LogClock(now, timedelta(0)).read(text) == time


def test_a_time_without_a_zone_is_the_hosts() -> None:
    assert LogClock(NOW, timedelta(hours=2)).read("Nov 22 22:00:00") == datetime(2026, 11, 22, 20, tzinfo=UTC)


@given(st.datetimes(datetime(2001, 1, 1), datetime(2098, 1, 1)), st.timedeltas(timedelta(0), timedelta(days=360)))
def test_a_time_without_a_year_is_found_again(now: datetime, ago: timedelta) -> None:
    """Within a year before now, whatever the season."""
    time = (now - ago).replace(microsecond=0)
    text = f"{time:%b} {time.day:2} {time:%H:%M:%S}"
    assert LogClock(now.replace(tzinfo=UTC), timedelta(0)).read(text) == time.replace(tzinfo=UTC)


def test_what_is_too_old_is_passed_over() -> None:
    history = MailHistory(now=NOW, since=NOW - timedelta(days=1))
    old = received().replace("2026-11-22", "2026-11-20")
    assert len(read([old, received()], history)) == 1
    assert history.first == history.last == datetime(2026, 11, 22, 20, 59, 53, 105642, UTC)
    assert history.lines == 2


def test_journald_prints_lines_that_are_read() -> None:
    """``journalctl -o short-iso``, with the line that it puts at each boot."""
    text = received(proto="ESMTPS").replace("53.105642+00:00", "53+0000")
    assert the_one("-- Boot 6f9a0c8d4c0e4b5d9a --", text).peer == "partner.example.test"


def test_damaged_lines_are_counted() -> None:
    history = MailHistory(now=NOW)
    damaged = [
        received()[:-70],
        received()[:90],
        received().replace("2026-11", "2026-13"),
        received() + "x" * LONGEST_LINE,
    ]
    assert read([*damaged, f"{AT}[1]: nothing about mail", received()], history) != []
    assert (history.lines, history.not_understood) == (6, 4)


PIDS = st.integers(1, 40)
LINES = st.one_of(
    st.builds(lambda pid: f"{AT}[{pid}]: {TLS}".encode(), PIDS),
    st.builds(lambda pid: f"{AT}[{pid}]: {CLIENT_TLS}".encode(), PIDS),
    st.builds(lambda pid: f"{AT}[{pid}]: {CERTIFICATE}".encode(), PIDS),
    st.builds(lambda pid, proto: received(pid, proto).encode(), PIDS, st.sampled_from(["ESMTP", "ESMTPS", "SMTP"])),
    st.builds(lambda pid: f"{AT}[{pid}]: {TO.format(to='<a@b.test>', stat='Sent')}".encode(), PIDS),
    st.builds(
        lambda words, junk: f"{AT}[7]: {words}".encode() + junk,
        st.sampled_from(
            ["", "STARTTLS=server, relay=", "6AMKxrHT000716: from=", "6AMKxrHT000716: to=<", "AUTH=server"]
        ),
        st.binary(max_size=200),
    ),
    st.binary(max_size=300),
)


@given(st.lists(LINES, max_size=80))
def test_no_line_breaks_it_and_its_memory_is_bounded(lines: list[bytes]) -> None:
    history = MailHistory(now=NOW, most_processes=5)
    found = 0
    for line in lines:
        found += history.feed(line) is not None
        assert history.processes <= 5
    assert history.lines == len(lines)
    assert found + history.not_understood <= len(lines)


@given(st.lists(LINES, max_size=40))
def test_connections_that_are_interleaved_are_told_apart(lines: list[bytes]) -> None:
    """What one process logs does not depend on what others log in between."""
    pid = b"[3]: "
    # ESMTPS in any line makes the protocol of all lines tell, as it is meant to.
    lines = [line.replace(b"ESMTPS", b"ESMTP") for line in lines]
    alone = list(events((line for line in lines if pid in line), MailHistory(now=NOW)))
    history = MailHistory(now=NOW)
    among = [event for line in lines if (event := history.feed(line)) is not None and pid in line]
    assert among == alone
