"""Any line of a mail log is read or passed over: half of what stands in it comes from strangers."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from mailtls_nb.sendmail.maillog import (
    parse_delivery,
    parse_line,
    parse_received,
    parse_reject,
    parse_starttls,
    trace_message,
)

PREFIXES = [
    "Nov  2 20:59:53 relay sm-mta[716]: ",
    "2026-11-22T20:59:53.105642+00:00 relay sm-mta[716]: ",
    "Nov 22 20:59:53 relay sendmail[716]: [ID 801593 mail.info] ",
]
PARTS = [
    "STARTTLS=server, relay=a.test [192.0.2.1], version=TLSv1.3, verify=OK, cipher=AES, bits=256/256",
    "6AMKxrHT000723: from=<a@b.test>, size=287, class=0, nrcpts=1, msgid=<1@b.test>, relay=a.test [192.0.2.1]",
    "6AMKxrHT000723: to=<a@b.test>, delay=00:00:00, xdelay=00:00:00, mailer=local, dsn=2.0.0, stat=Sent",
    "ruleset=tls_client, arg1=FAIL, arg2=STARTTLS, relay=a.test [192.0.2.1], reject=503 5.7.0 failed",
    "NOQUEUE: ",
    "relay=",
    " (may be forged)",
    "[",
    "]",
    ", ",
    "=",
    "msgid=<",
    "\r",
    "\0",
    "\x85",
    "9" * 5000,
]

_texts = st.text() | st.lists(st.sampled_from(PARTS) | st.text(max_size=5)).map("".join)
_lines = st.builds("{}{}".format, st.sampled_from(PREFIXES), _texts) | _texts


@given(_lines)
def test_any_line_is_read_or_passed_over(line: str) -> None:
    for parse in (parse_line, parse_starttls, parse_reject, parse_received, parse_delivery):
        parse(line)


@given(st.lists(_lines, max_size=10), st.text())
def test_a_message_is_looked_for_in_any_log(lines: list[str], message_id: str) -> None:
    trace_message(lines, message_id)


@given(st.sampled_from(PREFIXES), st.text(st.characters(exclude_categories=["Cs", "Cc", "Zl", "Zp"])))
def test_the_text_of_a_line_is_kept_as_it_is(prefix: str, text: str) -> None:
    entry = parse_line(prefix + text)
    assert entry is not None
    assert entry.text == text
