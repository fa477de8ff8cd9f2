"""Reading sendmail's log lines, recorded from real servers unless named otherwise."""

from __future__ import annotations

import pytest

from mailtls_nb.sendmail.maillog import (
    parse_delivery,
    parse_line,
    parse_received,
    parse_reject,
    parse_starttls,
    trace_message,
)

LOG = """\
2026-11-22T20:59:53.105642+00:00 relay sm-mta[716]: STARTTLS=server, relay=partner.example.test [172.19.0.3], version=TLSv1.3, verify=OK, cipher=TLS_AES_256_GCM_SHA384, bits=256/256
2026-11-22T20:59:53.131147+00:00 relay sendmail[722]: 6AMKxrDS000722: from=nobody, size=11, class=0, nrcpts=1, msgid=<1.6AMKxrDS000722@relay.example.test>, relay=nobody@localhost
2026-11-22T20:59:53.141484+00:00 relay sendmail[722]: STARTTLS=client, relay=[127.0.0.1], version=TLSv1.3, verify=FAIL, cipher=TLS_AES_256_GCM_SHA384, bits=256/256
2026-11-22T20:59:53.141818+00:00 relay sm-mta[723]: STARTTLS=server, relay=localhost [127.0.0.1], version=TLSv1.3, verify=NO, cipher=TLS_AES_256_GCM_SHA384, bits=256/256
2026-11-22T20:59:53.228742+00:00 relay sm-mta[723]: 6AMKxrHT000723: from=<nobody@relay.example.test>, size=287, class=0, nrcpts=1, msgid=<1.6AMKxrDS000722@relay.example.test>, proto=ESMTPS, daemon=MTA-v4, relay=localhost [127.0.0.1]
2026-11-22T20:59:53.236394+00:00 relay sm-mta[723]: 6AMKxrHT000723: to=<root@relay.example.test>, ctladdr=<nobody@relay.example.test> (65534/65534), delay=00:00:00, xdelay=00:00:00, mailer=local, pri=30287, dsn=2.0.0, stat=Sent
2026-11-22T20:59:53.237119+00:00 relay sendmail[722]: 6AMKxrDS000722: to=root, ctladdr=nobody (65534/65534), delay=00:00:00, xdelay=00:00:00, mailer=relay, pri=30011, relay=[127.0.0.1] [127.0.0.1], dsn=2.0.0, stat=Sent (6AMKxrHT000723 Message accepted for delivery)
""".splitlines()  # noqa: E501  # log lines as they are

TEXT = "STARTTLS=server, relay=relay.example.test. [172.19.0.2], version=TLSv1.3, verify=OK, cipher=AES, bits=256/256"


@pytest.mark.parametrize(
    "prefix",
    [
        "Nov  2 20:59:53 relay sm-mta[716]: ",
        "Nov 22 20:59:53 relay.example.test sendmail[716]: ",
        "2026-11-22T20:59:53.105642+00:00 relay sendmail-mta[716]: ",
        "2026-11-22T20:59:53Z relay sm-mta[716]: ",
        "Nov 22 20:59:53 relay sendmail[716]: [ID 801593 mail.info] ",
    ],
)
def test_every_kind_of_syslog_prefix_is_read(prefix: str) -> None:
    """BSD and RFC 3339 time stamps, several tags, Solaris' message id."""
    line = parse_starttls(prefix + TEXT)
    assert line is not None
    assert (line.pid, line.direction, line.verify, line.bits) == (716, "server", "OK", 256)
    assert (line.relay_name, line.relay_address) == ("relay.example.test", "172.19.0.2")


def test_the_old_form_of_8_12_is_read() -> None:
    """From sendmail-facts: two versions in one word, and a relay name with an underscore."""
    line = parse_starttls(
        "Mar  1 09:00:00 gate sm-mta[9]: STARTTLS=server, relay=mail_server [192.168.1.100], "
        "version=TLSv1/SSLv3, verify=FAIL, cipher=DHE-RSA-AES256-SHA, bits=256/256"
    )
    assert line is not None
    assert (line.relay_name, line.version, line.verify) == ("mail_server", "TLSv1/SSLv3", "FAIL")


def test_a_client_line_with_an_address_only_and_a_forged_name() -> None:
    """The name is empty where only an address is logged; what follows the address is no part of it."""
    line = parse_starttls(LOG[2])
    assert line is not None
    assert (line.direction, line.relay_name, line.relay_address) == ("client", "", "127.0.0.1")
    forged = parse_starttls(LOG[0].replace("[172.19.0.3]", "[172.19.0.3] (may be forged)"))
    assert forged is not None
    assert (forged.relay_name, forged.relay_address) == ("partner.example.test", "172.19.0.3")


def test_a_message_cannot_feign_a_tls_session() -> None:
    """The words inside another line, such as a Message-ID from outside, are not taken for sendmail's own."""
    feigned = LOG[4].replace("msgid=<1.", f"msgid=<{TEXT}")
    assert parse_starttls(feigned) is None
    assert parse_received(feigned) is not None


def test_a_refusal_by_a_ruleset() -> None:
    """Before a message (NOQUEUE or nothing) and within one."""
    text = (
        "ruleset=tls_client, arg1=FAIL, arg2=STARTTLS, relay=relay.example.test [172.19.0.2], "
        "reject=503 5.7.0 authentication failed"
    )
    for queue_id in ("", "NOQUEUE: ", "6AMKxrHT000723: "):
        line = parse_reject(f"2026-11-22T20:59:53+00:00 relay sm-mta[7]: {queue_id}{text}")
        assert line is not None
        assert line.queue_id == queue_id.removesuffix(": ").replace("NOQUEUE", "")
        assert (line.ruleset, line.arg1, line.arg2) == ("tls_client", "FAIL", "STARTTLS")
        assert line.relay_address == "172.19.0.2"
        assert line.reply == "503 5.7.0 authentication failed"
    one = parse_reject(
        "Nov 22 20:59:53 relay sm-mta[7]: 6AMKxrHT000723: ruleset=check_rcpt, arg1=<a@b.test>, "
        "relay=x.test [192.0.2.1], reject=550 5.7.1 <a@b.test>... Relaying denied"
    )
    assert one is not None
    assert (one.ruleset, one.arg2) == ("check_rcpt", "")


def test_a_message_is_followed_from_arrival_to_delivery() -> None:
    """By its Message-ID, with the TLS session of the same process, and not the submission agent's."""
    trace = trace_message(LOG, "1.6AMKxrDS000722@relay.example.test")
    assert trace is not None
    assert trace.received.queue_id == "6AMKxrHT000723"
    assert trace.session is not None
    assert (trace.session.pid, trace.session.verify) == (723, "NO")
    assert [delivery.status for delivery in trace.deliveries] == ["Sent"]
    assert trace.deliveries[0].is_sent
    assert trace_message(LOG, "<other@relay.example.test>") is None


def test_a_message_without_tls_has_no_session() -> None:
    """The session of another process does not count for it."""
    without = [line for line in LOG if "sm-mta[723]: STARTTLS" not in line]
    trace = trace_message(without, "<1.6AMKxrDS000722@relay.example.test>")
    assert trace is not None
    assert trace.session is None


@pytest.mark.parametrize(
    ("status", "is_sent"),
    [
        ("Sent", True),
        ("Sent (ok)", True),
        ("Sent-by-nobody", False),
        ("Deferred: Connection refused by [127.0.0.1]", False),
        ("Service unavailable", False),
    ],
)
def test_only_sent_is_sent(status: str, is_sent: bool) -> None:
    """A status that is not Sent is not taken for it."""
    delivery = parse_delivery(LOG[5].replace("stat=Sent", f"stat={status}"))
    assert delivery is not None
    assert delivery.is_sent is is_sent


@pytest.mark.parametrize("line", ["", "garbage", "Nov 22 20:59:53 relay kernel: no pid", "Nov 22 20:59:53 relay"])
def test_other_lines_are_none(line: str) -> None:
    """Nothing raises on a line of another program."""
    assert parse_line(line) is None
    for parse in (parse_starttls, parse_reject, parse_received, parse_delivery):
        assert parse(line) is None
