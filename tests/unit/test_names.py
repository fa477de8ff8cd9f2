"""Names: host names, distinguished names, subtrees, and the text forms of OpenSSL and sendmail."""

from __future__ import annotations

import ipaddress
import re
import string

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID, ObjectIdentifier
from hypothesis import given
from hypothesis import strategies as st

from mailtls_nb.errors import BadParameter
from mailtls_nb.names import DistinguishedName, hostname, hostnames, name_constraints, openssl_dn, sendmail_dn

LABEL = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,20}[a-z0-9])?", fullmatch=True).filter(lambda text: text[2:4] != "--")
FQDN = st.lists(LABEL, min_size=1, max_size=5).map(lambda labels: ".".join([*labels, "test"]))


@given(FQDN)
def test_a_host_name_has_one_form(name: str) -> None:
    assert hostname("hostname", name) == hostname("hostname", name.upper() + ".") == name


@given(st.text(max_size=300))
def test_any_text_is_a_host_name_in_its_one_form_or_refused_without_control_characters(text: str) -> None:
    try:
        name = hostname("hostname", text)
    except BadParameter as error:
        assert str(error).replace("\n", "").isprintable()  # noqa: PT017 - either outcome is right
    else:
        assert re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+", name)
        assert len(name) <= 253
        assert hostname("hostname", name) == name


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "is empty"),
        ("   ", "is empty"),
        ("relay example.test", "letters, digits"),
        ("relay.example.test\n", "letters, digits"),
        ("relay.example.test;reboot", "letters, digits"),
        ("$(id).example.test", "letters, digits"),
        ("re_lay.example.test", "letters, digits"),
        ("-relay.example.test", "dash"),
        ("relay-.example.test", "dash"),
        ("relay..example.test", "empty label"),
        (".example.test", "empty label"),
        ("relay", "two labels"),
        ("relay.", "two labels"),
        ("a" * 300, "longer than 253"),
        ("a" * 64 + ".test", "label longer than 63"),
        (".".join(["a" * 50] * 5), "longer than 253"),
        ("*.example.test", "wildcard"),
        ("192.0.2.1", "IP address"),
        ("[2001:db8::1]", "IP address"),
        ("192.0.2.1.", "ends in a number"),
        ("\N{FULLWIDTH DIGIT ONE}.2.3.4", "ends in a number"),
        ("xn--\N{LATIN SMALL LETTER U WITH DIAERESIS}.test", "internationalised"),
        ("xn--zzzzzzz-.test", "internationalised"),
        ("relay\N{RIGHT-TO-LEFT OVERRIDE}.test", "internationalised"),
    ],
)
def test_what_is_no_host_name_is_refused_with_the_reason(text: str, problem: str) -> None:
    with pytest.raises(BadParameter, match=problem) as caught:
        hostname("hostname", text)
    assert caught.value.exit_status == 2


def test_an_internationalised_name_is_converted() -> None:
    assert hostname("hostname", "B\u00fccher.Example\u3002test") == "xn--bcher-kva.example.test"
    assert hostname("hostname", "xn--bcher-kva.example.test") == "xn--bcher-kva.example.test"


def test_lists_of_host_names() -> None:
    assert hostnames("dns_names", "") == ()
    assert hostnames("dns_names", "b.test, A.test,b.test.") == ("b.test", "a.test")
    for text in ("a.test,,b.test", ",", "a.test,"):
        with pytest.raises(BadParameter, match="empty item"):
            hostnames("dns_names", text)


def test_name_constraints_are_subtrees_and_prefixes() -> None:
    assert name_constraints("n", "Example.test, .test,10.0.0.0/8,2001:DB8::/32, 192.0.2.1") == (
        "example.test",
        "test",
        "10.0.0.0/8",
        "2001:db8::/32",
        "192.0.2.1/32",
    )
    assert name_constraints("n", "") == ()
    for text in ("10.0.0.1/8", "exa mple.test", ".", "*.test", "10.0.0.0/33", "user@example.test"):
        with pytest.raises(BadParameter):
            name_constraints("n", text)


@pytest.mark.parametrize(
    ("fields", "parameter"),
    [
        (("",), "common_name"),
        (("a\nb",), "common_name"),
        (("a\x00b",), "common_name"),
        (("a\N{RIGHT-TO-LEFT OVERRIDE}b",), "common_name"),
        ((" a",), "common_name"),
        (("a" * 65,), "common_name"),
        (("\u00e9" * 33,), "common_name"),
        (("a", "b\tc"), "organization"),
        (("a", "b" * 65), "organization"),
        (("a", "", "DEU"), "country"),
        (("a", "", "de"), "country"),
        (("a", "", "D\n"), "country"),
    ],
)
def test_a_bad_distinguished_name_is_refused(fields: tuple[str, ...], parameter: str) -> None:
    with pytest.raises(BadParameter) as caught:
        DistinguishedName(*fields)
    assert caught.value.parameter == parameter
    assert str(caught.value).replace("\n", "").isprintable()


def test_a_distinguished_name_goes_from_country_to_common_name() -> None:
    name = DistinguishedName("Example Mail CA", "Beispiel \u00dc", "DE")
    assert [a.value for a in name.x509_name()] == ["DE", "Beispiel \u00dc", "Example Mail CA"]
    assert str(DistinguishedName("x" * 64)) == f"/CN={'x' * 64}"


def test_sendmail_writes_specials_as_hex() -> None:
    """The example of sendmail's cf/README, and the characters that it names."""
    assert sendmail_dn(DistinguishedName("Darth Mail (Cert)").x509_name()) == "/CN=Darth+20Mail+20+28Cert+29"
    name = DistinguishedName('a\\<>()"+/=').x509_name()
    assert sendmail_dn(name) == "/CN=a+5C+3C+3E+28+29+22+5C+2B+5C/="
    assert sendmail_dn(name, before_openssl_3=True) == "/CN=a+5C+3C+3E+28+29+22+2B/="
    # OpenSSL writes \xHH for octets that are not printable ASCII, and sendmail escapes the backslash.
    assert sendmail_dn(DistinguishedName("\u00e9").x509_name()) == "/CN=+5CxC3+5CxA9"


@given(st.text(st.characters(codec="utf-8"), min_size=1, max_size=64))
def test_text_forms_are_printable_ascii(text: str) -> None:
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATION_NAME, text)])
    assert set(openssl_dn(name)) <= set(string.printable[:95])
    assert not set(sendmail_dn(name)) & set(' \\<>()"')


@given(st.integers(0, 2), st.integers(0, 39), st.lists(st.integers(0, 2**40), min_size=1, max_size=6))
def test_unknown_attributes_are_named_by_their_number(first: int, second: int, rest: list[int]) -> None:
    oid = ObjectIdentifier(".".join(str(arc) for arc in (first, second, *rest)))
    text = openssl_dn(x509.Name([x509.NameAttribute(oid, "v", _validate=False)]))
    assert text.endswith("=v")
    assert text[1:-2] == oid.dotted_string or text[1].isalpha()


@given(st.ip_addresses())
def test_no_address_is_a_host_name(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    with pytest.raises(BadParameter):
        hostname("hostname", str(address))
