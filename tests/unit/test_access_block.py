"""The managed block of an access map: a group for each partner, and nothing else is touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtls_nb.errors import BadParameter, NotReady
from mailtls_nb.sendmail.access.block import (
    BEGIN,
    END,
    managed_block,
    managed_groups,
    with_partner,
    without_managed_block,
)
from mailtls_nb.sendmail.access.entries import Entry, exempt_entry, no_tls_entry, tls_entry
from mailtls_nb.sendmail.access.requirement import Requirement

VERIFY = Requirement("VERIFY", 112, "PERM")
PARTNER, OTHER = "partner.example.test", "other.example.test"
ENTRIES = (tls_entry("TLS_Clt", PARTNER, VERIFY), tls_entry("TLS_Clt", "192.0.2", VERIFY))
OTHERS = (no_tls_entry(OTHER),)
THERE = b'# spam\nspammer.test\tREJECT\n\nAuthInfo:smart.test "U:me" "P:secret"\n'


def written(access: bytes, partner: str = PARTNER, entries: tuple[Entry, ...] = ENTRIES) -> bytes:
    return with_partner(access, partner, entries, name="access")


def test_the_block_holds_a_group_for_each_partner() -> None:
    access = written(written(THERE), OTHER, OTHERS)
    assert access == THERE + (
        BEGIN + b"\n"
        b"# partner: partner.example.test\n"
        b"TLS_Clt:partner.example.test\tPERM+VERIFY:112\n"
        b"TLS_Clt:192.0.2\tPERM+VERIFY:112\n"
        b"# partner: other.example.test\n"
        b"Try_TLS:other.example.test\tNO\n" + END + b"\n"
    )
    assert managed_groups(access, name="access") == {PARTNER: ENTRIES, OTHER: OTHERS}
    assert managed_block(access, name="access") == access[len(THERE) :]
    assert managed_block(THERE, name="access") == b""


def test_writing_the_same_again_changes_nothing() -> None:
    access = written(THERE)
    assert written(access) == access


def test_one_partner_is_replaced_and_the_other_stays() -> None:
    access = written(written(written(THERE), OTHER, OTHERS), PARTNER, ENTRIES[:1])
    assert managed_groups(access, name="access") == {PARTNER: ENTRIES[:1], OTHER: OTHERS}
    assert managed_groups(written(access, PARTNER, ()), name="access") == {OTHER: OTHERS}


def test_the_host_itself_can_be_exempted_and_nobody_else() -> None:
    exempted = (tls_entry("TLS_Clt", "", VERIFY), exempt_entry("TLS_Clt", "127.0.0.1"))
    assert managed_groups(written(b"", PARTNER, exempted), name="access") == {PARTNER: exempted}
    with pytest.raises(BadParameter):
        written(b"", PARTNER, (Entry("TLS_Clt", "192.0.2.1", "OK"),))


_unmarked = st.binary().filter(lambda found: b"mailtls-nb" not in found)


@given(_unmarked, _unmarked)
def test_without_its_groups_the_file_is_as_it_was(before: bytes, after: bytes) -> None:
    """Byte for byte, final newline or not; and what the operator adds below the block stays."""
    try:
        access = written(before)
    except NotReady:  # the bytes hold one of our keys
        return
    assert written(written(access, OTHER, OTHERS), OTHER, ()) == access
    assert written(access, PARTNER, ()) == before
    assert without_managed_block(access, name="access") == before
    if access.endswith(b"\n"):
        assert written(access + after, PARTNER, ()) == before + after


@given(st.lists(st.sampled_from([BEGIN, END, b"# partner: a.test", b"TLS_Clt:a.test\tVERIFY", b"x", b"", b"\0"])))
def test_any_block_is_understood_or_refused(lines: list[bytes]) -> None:
    access = b"\n".join(lines)
    try:
        groups = managed_groups(access, name="access")
    except NotReady:
        with pytest.raises(NotReady):
            written(access)
    else:
        assert managed_groups(written(access), name="access") == {**groups, PARTNER: ENTRIES}


@pytest.mark.parametrize(
    ("access", "said"),
    [
        (BEGIN + b"\n", r"BEGIN: 1, END: 0; lines 1\)"),
        (END + b"\n" + BEGIN + b"\n", "do not pair"),
        (written(THERE) + BEGIN + b"\n" + END + b"\n", "BEGIN: 2"),
        (written(THERE).replace(b"PERM+VERIFY", b"PERM+VERFY"), "access, line 7"),
        (written(THERE).replace(END, b"TLS_Clt:a.test OK\n" + END), "line 9"),
        (written(THERE).replace(END, b"# mine\n" + END), "line 9"),
        (written(THERE).replace(END, b"\n" + END), "line 9"),
        (written(THERE).replace(END, b"spammer2.test REJECT\n" + END), "line 9"),
        (written(THERE).replace(b"# partner: ", b"# "), "line 6"),
        (written(THERE).replace(END, b"TLS_Clt:192.0.2\tPERM+VERIFY:112\n" + END), "line 9"),
        (written(THERE).replace(END, b"# partner: partner.example.test\n" + END), "line 9"),
    ],
)
def test_a_damaged_block_is_refused_with_its_place(access: bytes, said: str) -> None:
    with pytest.raises(NotReady, match=said):
        managed_groups(access, name="access")
    with pytest.raises(NotReady, match=said):
        written(access)


@pytest.mark.parametrize("line", [b"TLS_Clt:192.0.2\tVERIFY\n", b"tls_clt:Partner.Example.TEST OK\n"])
def test_a_key_that_is_there_already_is_refused_with_its_line(line: bytes) -> None:
    """As makemap compares keys: in any case."""
    for access in (THERE + line, written(THERE) + line):
        with pytest.raises(NotReady, match=r"access, line \d+: there is an entry .* outside the managed block"):
            written(access)
    assert written(THERE + line.replace(b"_", b"-"))


def test_a_key_of_another_partner_is_refused_with_its_name() -> None:
    with pytest.raises(NotReady, match=r"line 8: .* of partner partner\.example\.test"):
        written(written(THERE), OTHER, ENTRIES[1:])


def test_a_password_is_not_shown() -> None:
    with pytest.raises(NotReady) as caught:
        written(THERE + b"TLS_Clt:192.0.2 secret\n" + BEGIN)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("partner", ["a.test\nTLS_Clt:x OK", "partner", "", "a b.test"])
def test_a_partner_that_is_no_host_name_is_refused(partner: str) -> None:
    with pytest.raises(BadParameter):
        written(b"", partner)


@pytest.mark.parametrize(
    "entries",
    [
        (ENTRIES[0], ENTRIES[0]),
        (Entry("Connect", "a.test", "REJECT"),),
        (Entry("TLS_Clt", "a.test", "PERM+VERFY"),),
        (Entry("TLS_Clt", "a.test\nb.test", "VERIFY"),),
        (Entry("TLS_Clt", "a.test", "VERIFY\n# END mailtls-nb"),),
        (Entry("Try_TLS", "a.test", "YES"),),
    ],
)
def test_entries_that_are_not_ours_are_not_written(entries: tuple[Entry, ...]) -> None:
    with pytest.raises(BadParameter):
        written(b"", PARTNER, entries)
