"""Requirements of the access map: what is written is what is read, and what sendmail would misread is refused."""

from __future__ import annotations

import pickle
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtls_nb.sendmail.access.case import Case
from mailtls_nb.sendmail.access.connection import Rulesets, judge
from mailtls_nb.sendmail.access.requirement import (
    BadRequirement,
    Effect,
    Extension,
    Requirement,
    effect,
    parse_requirement,
)

ISSUER = "/C=DE/O=Partner/CN=Partner+20CA"

_spelled = st.lists(
    st.one_of(
        st.sampled_from([chr(c) for c in range(0x21, 0x7F) if chr(c) not in '\\<>()"+']),
        st.sampled_from(["+20", "+5C", "+3C", "+3E", "+28", "+29", "+22", "+2B", "+C3+A4"]),
    ),
    max_size=30,
).map("".join)
_dn = st.builds("/C=DE/CN={}".format, _spelled)
_extensions = st.builds(
    lambda *found: tuple(extension for extension in found if extension is not None),
    st.none() | st.builds(Extension, st.just("CI"), _dn),
    st.none() | st.builds(Extension, st.just("CS"), _dn),
    st.none() | st.builds(Extension, st.just("CITag"), st.from_regex("[A-Za-z0-9_-]{1,20}", fullmatch=True)),
    st.none() | st.builds(Extension, st.just("CN"), _spelled),
)
_bits = st.integers(1, 256)
requirements = st.one_of(
    st.builds(Requirement, st.just("VERIFY"), st.none() | _bits, st.sampled_from(["", "PERM", "TEMP"]), _extensions),
    st.builds(Requirement, st.just("ENCR"), _bits, st.sampled_from(["", "PERM", "TEMP"]), _extensions),
)


@given(requirements)
def test_what_is_written_is_what_is_read(requirement: Requirement) -> None:
    assert parse_requirement(str(requirement)) == requirement


@given(requirements)
def test_whatever_is_written_refuses_a_peer_without_tls(requirement: Requirement) -> None:
    """No requirement that can be made fails open."""
    stranger = Case("server", "stranger.test", "192.0.2.1", verify="NONE")
    for release in ((8, 15), (8, 17), (8, 18)):
        assert not judge(str(requirement), stranger, Rulesets(release), lookup=lambda _: "OK").accepted


@given(requirements)
def test_a_peer_that_meets_all_of_it_is_accepted(requirement: Requirement) -> None:
    """So the test above does not hold because everything is refused."""
    value = {extension.kind: extension.value for extension in requirement.extensions}
    peer = Case(
        "server", "partner.test", "192.0.2.1", "OK", 256, 0,
        cn_subject=value.get("CN") or "partner.test",
        cert_subject=value.get("CS", ""),
        cert_issuer=value.get("CI", ""),
    )  # fmt: skip
    assert judge(str(requirement), peer, Rulesets((8, 17)), lookup=lambda _: "OK").accepted


@given(st.text() | st.text('PERMTVIFYNC+:CISag/=0x129 ()"\\<>\t\r'))
def test_any_text_is_read_or_refused(text: str) -> None:
    try:
        requirement = parse_requirement(text)
    except BadRequirement:
        effect(text)  # does not raise
    else:
        assert str(requirement).lower() == text.lower()


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("perm+verify:112", "PERM+VERIFY:112"),
        ("Temp+Encr:128+cn", "TEMP+ENCR:128+CN"),
        (f"verify+ci:{ISSUER}++citag:My-Tag", f"VERIFY+CI:{ISSUER}++CITag:My-Tag"),
        ("VERIFY+CS:/CN=a+3cb+3e", "VERIFY+CS:/CN=a+3Cb+3E"),
    ],
)
def test_it_is_printed_in_one_form(text: str, canonical: str) -> None:
    assert str(parse_requirement(text)) == canonical


@pytest.mark.parametrize(
    ("text", "what_sendmail_makes_of_it"),
    [
        # The same values were put to sendmail 8.15.2, 8.17.1 and 8.18.1.
        ("PERM+VERFY:112", "nothing"),
        ("PERM+ENCR", "nothing"),
        ("ENCR+CN", "nothing"),
        ("ENCR:0", "nothing"),
        ("ENCR:abc", "nothing"),
        ("ENCR:-5", "nothing"),
        ("REJECT", "nothing"),
        ("ERROR:550 go away", "nothing"),
        ("OK", "nothing"),
        ("VERIFY # comment", "nothing"),
        ('"VERIFY"', "nothing"),
        ("TEMP+PERM+VERIFY", "nothing"),
        ("VERIFY:", "nothing"),
        ("VERIFY+", "nothing"),
        ("ENCR:0112", "less"),
        ("VERIFY+FOO", "less"),
        ("VERIFY+CI:", "less"),
        ("VERIFY+CN:partner.test++", "less"),
        ("VERIFY+CITag:a.b", "less"),
        (f"VERIFY+FOO++CI:{ISSUER}", "less"),
        (f"VERIFY+CI:{ISSUER}++FOO", "less"),
        (f"VERIFY+CN+CI:{ISSUER}", "less"),
        ("VERIFY:512", "too much"),
        ("VERIFY+CI:/O=A B", "too much"),
        ("VERIFY+CI:/CN=+41", "too much"),
        ("PERM + VERIFY : 112", "as meant"),
        ("VERIFY (comment)", "as meant"),
        ("VER\u0131FY", "nothing"),
    ],
)
def test_what_sendmail_would_not_read_so_is_refused(text: str, what_sendmail_makes_of_it: Effect) -> None:
    with pytest.raises(BadRequirement):
        parse_requirement(text)
    assert effect(text) == what_sendmail_makes_of_it


@pytest.mark.parametrize(
    ("longest", "too_long"),
    [
        # Put to sendmail 8.15.2, 8.17.1 and 8.18.1: the second accepts mail without TLS.
        ("VERIFY+CN:" + "x" * 255, "VERIFY+CN:" + "x" * 257),
        ("VERIFY+CI:/CN=" + "+20a" * 205, "VERIFY+CI:/CN=" + "+20a" * 206),
        ("VERIFY+CI:/CN=" + "." * 612, "VERIFY+CI:/CN=" + "." * 616),
    ],
    ids=["one word", "words", "signs"],
)
def test_a_value_too_long_for_sendmail_fails_open_and_is_refused(longest: str, too_long: str) -> None:
    stranger = Case("client", "stranger.test", "192.0.2.1", verify="NONE")
    assert not judge(longest, stranger, Rulesets((8, 17)), lookup=lambda _: None).accepted
    assert judge(too_long, stranger, Rulesets((8, 17)), lookup=lambda _: None).accepted
    with pytest.raises(BadRequirement):
        parse_requirement(too_long)
    assert effect(too_long) == "nothing"


def test_parts_that_are_short_enough_can_make_a_requirement_that_is_not() -> None:
    dots = "/CN=" + "." * 220
    extensions = (Extension("CI", dots), Extension("CS", dots), Extension("CN", "." * 200))
    Requirement("VERIFY", 112, "", extensions[:2])
    with pytest.raises(BadRequirement, match="too long"):
        Requirement("VERIFY", 112, "", extensions)


@pytest.mark.parametrize(
    "value", ["a b", "a\tb", "a\nb", "a\0b", 'a"b', "a(b", "a<b", "a\\b", "a+b", "a+4", "ä", "x" * 256]
)
def test_a_value_that_must_be_encoded_is_refused(value: str) -> None:
    with pytest.raises(BadRequirement):
        Extension("CN", value)
    with pytest.raises(BadRequirement):
        Extension("CI", f"/CN={value}")


@pytest.mark.parametrize(
    ("level", "bits", "on_failure", "extensions"),
    [
        ("ENCR", None, "", ()),
        ("VERIFY", 0, "", ()),
        ("VERIFY", 257, "", ()),
        ("VERIFY", True, "", ()),
        ("VERFY", 112, "", ()),
        ("VERIFY", 112, "HARD", ()),
        ("VERIFY", 112, "", (Extension("CI", "/CN=a"), Extension("CI", "/CN=b"))),
    ],
)
def test_a_requirement_that_cannot_be_meant_is_not_made(
    level: str, bits: int, on_failure: str, extensions: tuple[Extension, ...]
) -> None:
    with pytest.raises(BadRequirement):
        Requirement(cast(Any, level), bits, cast(Any, on_failure), extensions)


@pytest.mark.parametrize(("kind", "value"), [("CS", ""), ("CI", "CN=a"), ("CITag", "a:b"), ("XX", "a")])
def test_an_extension_that_cannot_be_meant_is_not_made(kind: str, value: str) -> None:
    with pytest.raises(BadRequirement):
        Extension(cast(Any, kind), value)


def test_the_error_says_what_sendmail_would_do_and_survives_a_process() -> None:
    with pytest.raises(BadRequirement, match="would accept mail without TLS") as caught:
        parse_requirement("PERM+VERFY:112")
    again = pickle.loads(pickle.dumps(caught.value))
    assert (str(again), again.consequence) == (str(caught.value), caught.value.consequence)
