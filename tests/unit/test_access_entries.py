"""The lines of an access map as makemap reads them, and entries that cannot break out of their line."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtls_nb.errors import BadParameter
from mailtls_nb.sendmail.access.entries import (
    Entry,
    access_entries,
    address_names,
    exempt_entry,
    no_tls_entry,
    read_access,
    tls_entry,
)
from mailtls_nb.sendmail.access.model import address_and_prefixes
from mailtls_nb.sendmail.access.requirement import parse_requirement

VERIFY = parse_requirement("PERM+VERIFY:112")

# What makemap 8.15.2, 8.17.1 and 8.18.1 made of these lines (makemap -u), by their line numbers.
MEASURED = (
    b"# c\n"
    b"  # indented\n"
    b"TLS_Clt:Host.Example.TEST\t\tPERM+VERIFY  \n"
    b'"TLS_Clt:q" VERIFY\n'
    b"TLS_Clt:novalue\n"
    b" TLS_Clt:lead VERIFY\n"
    b"\n"
    b"TLS_Clt:a VERIFY two words\n"
    b"TLS_Clt:cr VERIFY\r\n"
    b"\tcont VERIFY\n"
    b"TLS_Clt:hash VERIFY # comment\n"
    b"TLS_Clt: VERIFY\n"
    b"TLS_Clt:vt\vVERIFY\n"
    b"TLS_Clt:n\0u VERIFY\n"
    b"TLS_Clt:nonl VERIFY"
)


def test_lines_are_read_as_makemap_reads_them() -> None:
    read = {line.number: line.entry.key for line in read_access(MEASURED) if line.entry is not None}
    assert read == {
        3: "tls_clt:host.example.test",
        4: '"tls_clt:q"',
        8: "tls_clt:a",
        9: "tls_clt:cr",
        11: "tls_clt:hash",
        12: "tls_clt:",
        13: "tls_clt:vt",
        15: "tls_clt:nonl",
    }
    assert [line.number for line in read_access(MEASURED) if line.kind == "broken"] == [2, 5, 6, 10, 14]


def test_a_line_of_more_than_1022_octets_is_broken() -> None:
    head = b"TLS_Clt:a\t"
    long_enough = head + b"x" * (1022 - len(head))
    assert [line.kind for line in read_access(long_enough + b"\n" + long_enough + b"x\n")] == ["entry", "broken"]


@pytest.mark.parametrize(
    ("line", "tag", "name"),
    [
        (b"tls_clt:Partner.test VERIFY", "TLS_Clt", "Partner.test"),
        (b"TLS_Rcpt:user@partner.test VERIFY", "TLS_Rcpt", "user@partner.test"),
        (b"TLS_Srv:IPv6:2001:db8 VERIFY", "TLS_Srv", "IPv6:2001:db8"),
        (b"IPv6:2001:db8 REJECT", "", "IPv6:2001:db8"),
        (b"spammer.test REJECT", "", "spammer.test"),
        (b"CERTIssuer:/C=DE/CN=a RELAY", "CERTIssuer", "/C=DE/CN=a"),
        (b"try_tls:x.test NO", "Try_TLS", "x.test"),
    ],
)
def test_a_key_is_a_tag_and_a_name(line: bytes, tag: str, name: str) -> None:
    (entry,) = access_entries(line)
    assert (entry.tag, entry.name) == (tag, name)


def test_a_password_is_not_in_the_repr() -> None:
    (line,) = read_access(b'AuthInfo:relay.test "U:me" "P:secret"\n')
    assert "secret" not in repr(line)
    assert "relay.test" in repr(line)


@given(st.binary() | st.lists(st.sampled_from([*MEASURED.splitlines(keepends=True), b"x", b"\0"])).map(b"".join))
def test_the_lines_joined_are_the_file_again(access: bytes) -> None:
    assert b"".join(line.raw for line in read_access(access)) == access


@pytest.mark.parametrize(
    ("tag", "name", "key"),
    [
        ("TLS_Clt", "Partner.example.test", "TLS_Clt:partner.example.test"),
        ("TLS_Srv", "test", "TLS_Srv:test"),
        ("TLS_Clt", "192.0.2", "TLS_Clt:192.0.2"),
        ("TLS_Clt", "ipv6:2001:DB8", "TLS_Clt:IPv6:2001:db8"),
        ("TLS_Rcpt", "user+x@example.test", "TLS_Rcpt:user+x@example.test"),
        ("TLS_Rcpt", "user@", "TLS_Rcpt:user@"),
        ("TLS_Clt", "", "TLS_Clt:"),
    ],
)
def test_an_entry_is_written_as_it_is_looked_up(tag: str, name: str, key: str) -> None:
    assert str(tls_entry(tag, name, VERIFY)) == f"{key}\tPERM+VERIFY:112"


@pytest.mark.parametrize("tag", ["TLS_Clt", "TLS_Srv", "TLS_Rcpt"])
@pytest.mark.parametrize(
    "name",
    [
        "a.test\tOK",
        "a.test\nTLS_Clt:b.test OK",
        "a.test\n",
        "a test",
        'a"b.test',
        "a\0b.test",
        "a#b.test",
        "$(id).test",
        "`id`.test",
        "p\u0430rtner.test",  # a Cyrillic a
        "\uff50artner.test",  # a full-width p
        "a..test",
        "*.example.test",
        ".example.test",
        "@example.test",
        "us er@example.test",
        "user@a\tb.test",
        "192.0.2.0/24",
        "IPv6:2001:db8::1",
        "a" * 64 + ".test",
        "a." * 200 + "test",
    ],
)
def test_a_name_that_breaks_out_or_is_never_looked_up_is_refused(tag: str, name: str) -> None:
    with pytest.raises(BadParameter):
        tls_entry(tag, name, VERIFY)
    with pytest.raises(BadParameter):
        no_tls_entry(name)


@pytest.mark.parametrize(
    ("tag", "name"), [("TLS_Clt", "user@example.test"), ("TLS_Rcpt", "192.0.2.1"), ("Connect", "a.test")]
)
def test_a_name_under_the_wrong_tag_is_refused(tag: str, name: str) -> None:
    with pytest.raises(BadParameter):
        tls_entry(tag, name, VERIFY)


@given(st.sampled_from(["TLS_Clt", "TLS_Srv", "TLS_Rcpt"]), st.text() | st.text('aé.@:+ \t\n"#/0129[]'))
def test_whatever_name_is_accepted_stays_in_its_line(tag: str, name: str) -> None:
    try:
        entry = tls_entry(tag, name, VERIFY)
    except BadParameter:
        return
    assert access_entries(f"{entry}\n".encode()) == (entry,)


def test_only_the_host_itself_is_exempted() -> None:
    assert exempt_entry("TLS_Clt", "127.0.0.1") == Entry("TLS_Clt", "127.0.0.1", "OK")
    assert exempt_entry("TLS_Clt", "IPv6:0:0:0:0:0:0:0:1").value == "OK"
    for name in ("192.0.2.1", "partner.test", "127.example.test", ""):
        with pytest.raises(BadParameter):
            exempt_entry("TLS_Clt", name)


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("", ()),
        ("192.0.2.1", ("192.0.2.1",)),
        ("192.0.2.0/24, 10.0.0.0/8", ("192.0.2", "10")),
        ("192.0.2.0/23", ("192.0.2", "192.0.3")),
        ("192.0.2.4/31,192.0.2.5", ("192.0.2.4", "192.0.2.5")),
        # Measured: sendmail with IPV6_FULL, as all three Debian releases are built, says IPv6:0:0:0:0:0:0:0:1 of ::1.
        ("::1", ("IPv6:0:0:0:0:0:0:0:1",)),
        ("2001:DB8::/32", ("IPv6:2001:db8",)),
        ("2001:db8::/31", ("IPv6:2001:db8", "IPv6:2001:db9")),
        ("2001:db8:0:10::/63", ("IPv6:2001:db8:0:10", "IPv6:2001:db8:0:11")),
        ("::ffff:192.0.2.1", ("192.0.2.1",)),
    ],
)
def test_addresses_become_the_names_that_are_looked_up(text: str, names: tuple[str, ...]) -> None:
    assert address_names(text) == names


@pytest.mark.parametrize(
    "text",
    [
        "192.0.2.1/24", "192.0.2", "192.0.2.256", "0.0.0.0/0", "10.0.0.0/7", "::/0", "2001:db8::/33", "::ffff:0:0/90",
        "fe80::1%eth0", "a.test", "192.0.2.1,", "192.0.2.1\n", "192.0.2.1\tOK", "192.0.2.0/-1", "192.0.2.0/24/24", "²",
    ],
)  # fmt: skip
def test_what_is_no_address_or_too_much_is_refused(text: str) -> None:
    with pytest.raises(BadParameter):
        address_names(text)


@given(st.ip_addresses(v=4), st.integers(8, 32), st.ip_addresses(v=4))
def test_a_prefix_covers_just_its_addresses(start: IPv4Address, length: int, other: IPv4Address) -> None:
    """Of any address, one of the names is looked up exactly if it lies in the prefix."""
    network = ip_network(f"{start}/{length}", strict=False)
    assert isinstance(network, IPv4Network)
    names = set(address_names(str(network)))
    assert names & set(address_and_prefixes(str(start)))
    assert bool(names & set(address_and_prefixes(str(other)))) == (other in network)
