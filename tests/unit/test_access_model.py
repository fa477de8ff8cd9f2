"""Which entry counts, and what comes of it. The whole table against real sendmail: tests/sendmail."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtls_nb.sendmail.access.case import Case, Direction
from mailtls_nb.sendmail.access.entries import access_entries
from mailtls_nb.sendmail.access.model import access_values, decide, find, lookups

CLIENT = Case("server", "mx.partner.test", "192.0.2.7", verify="NONE")
RECIPIENT = Case("recipient", "mx.partner.test", "192.0.2.7", verify="NONE", recipient="Joe+List@Partner.test")


def keys(case: Case) -> list[str]:
    return [lookup.key for walk in lookups(case) for lookup in walk]


def test_a_client_is_looked_up_by_name_address_and_bare_tag() -> None:
    assert keys(CLIENT) == [
        "tls_clt:mx.partner.test",
        "tls_clt:partner.test",
        "tls_clt:test",
        "tls_clt:192.0.2.7",
        "tls_clt:192.0.2",
        "tls_clt:192.0",
        "tls_clt:192",
        "tls_clt:",
    ]


def test_a_client_without_a_name_is_looked_up_by_its_bracketed_address_first() -> None:
    assert keys(replace(CLIENT, peer="[192.0.2.7]"))[:5] == [
        "tls_clt:[192.0.2.7]",
        "tls_clt:[192.0.2]",
        "tls_clt:[192.0]",
        "tls_clt:[192]",
        "tls_clt:192.0.2.7",
    ]


def test_a_server_by_ipv6_is_looked_up_group_by_group() -> None:
    server = Case("client", "mx", "IPv6:2001:db8:0:0:0:0:0:1", verify="NONE")
    parts = ["ipv6", "2001", "db8", "0", "0", "0", "0", "0", "1"]
    assert keys(server) == [
        "tls_srv:mx",
        *("tls_srv:" + ":".join(parts[:count]) for count in range(9, 0, -1)),
        "tls_srv:",
    ]


def test_a_recipient_is_looked_up_by_mail_address_user_and_domain() -> None:
    assert keys(RECIPIENT) == [
        "tls_rcpt:joe+list@partner.test",
        "tls_rcpt:joe+*@partner.test",
        "tls_rcpt:joe@partner.test",
        "tls_rcpt:joe+list@",
        "tls_rcpt:joe+*@",
        "tls_rcpt:joe@",
        "tls_rcpt:partner.test",
        "tls_rcpt:test",
        "tls_rcpt:",
    ]


@pytest.mark.parametrize(
    ("access", "key"),
    [
        ("TLS_Clt:partner.test A\nTLS_Clt:192.0.2.7 B", "tls_clt:partner.test"),
        ("TLS_Clt:mx.partner.test SKIP\nTLS_Clt:partner.test A\nTLS_Clt:192 B", "tls_clt:192"),
        ("TLS_Clt:mx.partner.test ?\nTLS_Clt:test A", "tls_clt:test"),
        ("TLS_Srv:mx.partner.test A\nmx.partner.test B", None),
    ],
)
def test_the_first_hit_counts(access: str, key: str | None) -> None:
    assert find(access_values(access_entries(access.encode())), CLIENT) == key


def test_without_the_feature_skip_is_a_value_like_any_other() -> None:
    entries = access_entries(b"TLS_Clt:mx.partner.test SKIP\nTLS_Clt: PERM+VERIFY")
    assert decide(entries, CLIENT, release=(8, 17)).refused == "permanent"
    assert decide(entries, CLIENT, release=(8, 17), skip=False).accepted


@pytest.mark.parametrize(
    ("direction", "verify", "release", "refused"),
    [
        ("server", "FAIL", (8, 17), ""),
        ("server", "TEMP", (8, 17), ""),
        ("server", "SOFTWARE", (8, 15), "temporary"),
        ("client", "CONFIG", (8, 15), ""),
        ("client", "CONFIG", (8, 17), "temporary"),
        ("client", "DANE_FAIL", (8, 17), "temporary"),
        ("client", "DANE_FAIL", (8, 18), ""),
        ("recipient", "DANE_FAIL", (8, 17), ""),
        ("recipient", "DANE_FAIL", (8, 18), "temporary"),
        ("recipient", "PROTOCOL", (8, 18), ""),
    ],
)
def test_without_an_entry_only_a_failed_handshake_is_refused(
    direction: Direction, verify: str, release: tuple[int, ...], refused: str
) -> None:
    case = replace(RECIPIENT, direction=direction, verify=verify)
    assert decide((), case, release=release).refused == refused


@pytest.mark.parametrize(
    ("requirement", "accepted"), [("VERIFY+CN", True), ("VERIFY+CN:www.test++CN:x", False), ("VERIFY+CN++CN:x", True)]
)
def test_alternative_names_are_compared_where_the_cf_says_so(requirement: str, accepted: bool) -> None:
    """FEATURE(`check_cert_altnames'): a name found by wildcard ends the list, whatever comes after it."""
    names = ("*.partner.test", "www.test")
    case = replace(CLIENT, verify="OK", cn_subject="other.test", alternative_names=names)
    entries = access_entries(f"TLS_Clt:partner.test {requirement}".encode())
    assert decide(entries, case, release=(8, 17), alternative_names=True).accepted == accepted
    assert not decide(entries, case, release=(8, 17)).accepted


@given(st.binary(), st.text(), st.text(), st.text(), st.sampled_from(["server", "client", "recipient"]))
def test_whatever_is_asked_there_is_an_answer(
    access: bytes, peer: str, address: str, recipient: str, direction: Direction
) -> None:
    entries = access_entries(b"TLS_Clt: VERIFY\n" + access)
    decide(entries, Case(direction, peer, address, "OK", recipient=recipient), release=(8, 18))
