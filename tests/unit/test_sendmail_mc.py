"""The managed block in sendmail.mc as bytes: where it stands, what it leaves alone. With real m4: tests/sendmail."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtls_nb.errors import BadParameter, NotReady
from mailtls_nb.pki.profiles import Roles
from mailtls_nb.sendmail.mc import (
    BEGIN,
    END,
    OPTIONS,
    managed_block,
    managed_settings,
    remarks,
    tls_settings,
    with_managed_block,
    without_managed_block,
)

FILES = Path(__file__).parents[1] / "sendmail" / "mc"
ALL = {path.stem: path.read_bytes() for path in sorted(FILES.glob("*.mc"))}
# Debian bookworm's, shortened; Red Hat's, from memory; in the manner of Solaris, where cf.m4 is read on m4's command
# line, so that # begins no comment; a null client, which has no MAILER lines.
DEBIAN, RED_HAT, SOLARIS, NULL_CLIENT = (ALL[name] for name in ("debian", "red-hat", "solaris", "null-client"))

SETTINGS = tls_settings(
    roles="both",
    certificate="/etc/mail/certs/relay.example.test.pem",
    ca_certificate="/etc/mail/certs/ca.pem",
    ca_path="/etc/mail/certs",
)


@pytest.mark.parametrize(("roles", "absent"), [("both", ""), ("server", "confCLIENT_"), ("client", "confSERVER_")])
def test_roles_leave_out_the_other_side(roles: Roles, absent: str) -> None:
    """A server has no client certificate set, a client no server's."""
    settings = tls_settings(roles=roles, certificate="/c.pem", ca_certificate="/ca.pem", ca_path="/d")
    of_certificates = {name for name in OPTIONS if not name.startswith("confCRL")}
    expected = {name for name in of_certificates if not absent or not name.startswith(absent)}
    assert set(settings) == expected


@pytest.mark.parametrize(
    ("mc", "before", "after"),
    [
        (
            DEBIAN,
            b"include(`/etc/mail/m4/provider.m4')dnl\n",
            b"dnl #\ndnl # Default Mailer setup\nMAILER_DEFINITIONS\n",
        ),
        (RED_HAT, b"dnl MASQUERADE_AS(`mydomain.com')dnl\n", b"MAILER(smtp)dnl\n"),
        (SOLARIS, b"`mailhost$?m.$m$.')dnl\n", b"MAILER(`local')dnl\n"),
        (NULL_CLIENT, b"`hub.example.test')dnl\n", b""),
    ],
)
def test_the_block_stands_before_the_mailers(mc: bytes, before: bytes, after: bytes) -> None:
    """After every define, feature and include; a MAILER in a comment is none."""
    changed = with_managed_block(mc, SETTINGS)
    start, end = changed.index(BEGIN), changed.index(END) + len(END) + 1
    assert changed[:start].endswith(before)
    assert changed[end:].startswith(after)
    assert changed[:start] + changed[end:] == mc


VARIANTS = {
    "as it is": lambda mc: mc,
    "CRLF": lambda mc: mc.replace(b"\n", b"\r\n"),
    "no final newline": lambda mc: mc.rstrip(b"\n"),
    "Latin-1": lambda mc: mc.replace(b"OSTYPE", b"dnl # G\xfcnter's own\nOSTYPE"),
    "two line ends": lambda mc: mc.replace(b"dnl\n", b"dnl\r\n", 3),
}


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("name", ALL)
def test_all_else_stays_byte_for_byte(name: str, variant: str) -> None:
    """In and out again gives the same bytes; in twice changes nothing; what is in is what was asked for."""
    mc = VARIANTS[variant](ALL[name])
    changed = with_managed_block(mc, SETTINGS)
    assert without_managed_block(changed) == mc
    assert with_managed_block(changed, SETTINGS) == changed
    assert managed_settings(changed) == SETTINGS
    assert with_managed_block(changed, {}) == mc
    assert managed_settings(mc) is None


def test_crlf_files_get_a_crlf_block() -> None:
    """The block follows the file's line ends."""
    changed = with_managed_block(DEBIAN.replace(b"\n", b"\r\n"), SETTINGS)
    assert managed_block(changed).count(b"\r\n") == managed_block(changed).count(b"\n") == 8


def test_an_empty_file_gets_a_block_only() -> None:
    """Nothing there is nothing to keep."""
    changed = with_managed_block(b"", SETTINGS)
    assert changed == managed_block(changed)
    assert without_managed_block(changed) == b""


# Hypothesis takes constants of the program, the markers among them; what those do is tested below.
_JUNK = st.binary(max_size=200).filter(lambda junk: b"mailtls-nb" not in junk)


@given(_JUNK.map(lambda junk: junk.translate(None, b"`'") + b"\n" + NULL_CLIENT))
def test_any_bytes_around_the_block_are_kept(mc: bytes) -> None:
    """Property: whatever stands there comes back."""
    assert without_managed_block(with_managed_block(mc, SETTINGS)) == mc


def test_a_block_edited_inside_is_written_anew() -> None:
    """It is ours: what was edited is seen as different, and replaced."""
    edited = with_managed_block(DEBIAN, SETTINGS).replace(b"``/etc/mail/certs/ca.pem''", b"`/tmp/evil.pem'")
    assert managed_settings(edited) == {k: v for k, v in SETTINGS.items() if k != "confCACERT"}
    assert with_managed_block(edited, SETTINGS) == with_managed_block(DEBIAN, SETTINGS)


def test_an_empty_block_has_no_settings() -> None:
    """Two markers with nothing between are a block."""
    empty = BEGIN + b"\n" + END + b"\n" + DEBIAN
    assert managed_settings(empty) == {}
    assert without_managed_block(empty) == DEBIAN


@pytest.mark.parametrize(
    "damaged",
    [
        BEGIN + b"\n" + DEBIAN,
        DEBIAN + END + b"\n",
        END + b"\n" + BEGIN + b"\n" + DEBIAN,
        2 * (BEGIN + b"\n" + END + b"\n") + DEBIAN,
    ],
)
def test_markers_that_do_not_pair_are_refused(damaged: bytes) -> None:
    """Where our block begins or ends cannot be told, so nothing is guessed."""
    with pytest.raises(NotReady, match="do not pair"):
        with_managed_block(damaged, SETTINGS)
    with pytest.raises(NotReady, match="do not pair"):
        managed_settings(damaged)


@pytest.mark.parametrize(
    "line",
    [
        b"define(`confSERVER_CERT', `/other.pem')dnl\n",
        b"undefine(`confSERVER_CERT')dnl\n",
        b"define( `confSERVER_CERT',`/x')\n",
        b"ifdef(`X', `define(`confSERVER_CERT', `/x')')dnl\n",
    ],
)
def test_a_later_definition_is_refused_by_its_line(line: bytes) -> None:
    """A setting after the mailers would win: the operator is told its line, with our block in the file or without."""
    number = DEBIAN.count(b"\n") + 1
    with pytest.raises(NotReady, match=f"line {number}: confSERVER_CERT is set there"):
        with_managed_block(DEBIAN + line, SETTINGS)
    block = managed_block(with_managed_block(DEBIAN, SETTINGS))
    with pytest.raises(NotReady, match=f"line {number + block.count(bytes([10]))}: "):
        with_managed_block(with_managed_block(DEBIAN, SETTINGS) + line, SETTINGS)


@pytest.mark.parametrize(
    "line",
    [
        b"dnl define(`confSERVER_CERT', `/other.pem')dnl\n",
        b"define(`confSERVER_CERTS', `x')dnl\n",
        b"define(`confLOG_LEVEL', `14')dnl\n",
    ],
)
def test_a_later_line_that_overrules_nothing_is_let_be(line: bytes) -> None:
    """A comment or another name is no reason to refuse: the refusal above is for its cause only."""
    assert without_managed_block(with_managed_block(DEBIAN + line, SETTINGS)) == DEBIAN + line


def test_an_earlier_definition_and_a_later_include_are_remarked_on() -> None:
    """The first is overruled, the second may overrule: both are told by line."""
    mc = DEBIAN.replace(b"FEATURE(`access", b"define(`confSERVER_CERT', `/old')dnl\nFEATURE(`access")
    mc += b"include(`/etc/mail/local.m4')dnl\n"
    for text in (mc, with_managed_block(mc, SETTINGS)):
        told = remarks(text, SETTINGS)
        assert len(told) == 2
        assert "line 18: confSERVER_CERT is set there too" in told[0]
        assert "included after the managed block" in told[1]
    assert remarks(DEBIAN, SETTINGS) == ()


def test_a_quote_that_is_never_closed_is_refused() -> None:
    """m4 would swallow the block with the rest of the file."""
    number = DEBIAN[: DEBIAN.index(b"MAILER(`smtp'")].count(b"\n") + 1
    with pytest.raises(NotReady, match=f"line {number}: a quote"):
        with_managed_block(DEBIAN.replace(b"MAILER(`smtp'", b"MAILER(`smtp"), SETTINGS)


def test_a_mailer_that_is_quoted_or_diverted_away_is_no_place() -> None:
    """The block goes before the first mailer that counts."""
    noise = b"define(`X', `\nMAILER(`quoted')\n')dnl\ndivert(-1)\nMAILER(`gone')\ndivert(0)dnl\n"
    mc = DEBIAN.replace(b"FEATURE(`access", noise + b"FEATURE(`access")
    changed = with_managed_block(mc, SETTINGS)
    assert changed.index(BEGIN) > changed.index(b"provider.m4")
    assert without_managed_block(changed) == mc


@pytest.mark.parametrize(
    "value",
    [
        "",
        "relative.pem",
        "/a`b",
        "/a'b",
        "/a,b",
        "/a(b)",
        "/a$1",
        "/a b",
        "/a\nb",
        "/a\r",
        "/a#b",
        "/a\\b",
        "/ä",
        "/a\x00",
        "/" + "a" * 255,
    ],
)
def test_a_value_that_cannot_be_quoted_is_refused(value: str) -> None:
    """Nothing that m4 or sendmail could take for its own gets into the file."""
    with pytest.raises(BadParameter, match=r"confSERVER_CERT: .*cannot be written"):
        with_managed_block(DEBIAN, {"confSERVER_CERT": value})


def test_a_setting_that_is_not_ours_is_refused() -> None:
    """The block holds six names and no other."""
    with pytest.raises(BadParameter, match="confLOG_LEVEL"):
        with_managed_block(DEBIAN, {"confLOG_LEVEL": "/14"})
