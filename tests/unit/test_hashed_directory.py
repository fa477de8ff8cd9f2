"""Directories of hash links: what OpenSSL finds in them, what is wrong with them, and how they are put in order."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtls_nb.pki.hashed_directory import (
    Entry,
    LinkStep,
    NameHash,
    arranged,
    found_by_openssl,
    is_hash_name,
    of_hash,
    problems,
)

HASH = "5b1f0e4a"


def link(name: str, target: str = "ca.pem", *, dangling: bool = False, name_hash: str = HASH) -> Entry:
    return Entry(name, target, None if dangling else 0o644, name_hash=NameHash(name_hash, "0ld0ld0l"))


@pytest.mark.parametrize("name", [f"{HASH}.0", f"{HASH}.12", f"{HASH}.r0"])
def test_names_that_openssl_asks_for(name: str) -> None:
    assert is_hash_name(name)


@pytest.mark.parametrize("name", [HASH, f"{HASH}.01", f"{HASH.upper()}.0", f"{HASH}.0.bak", "ca.pem", f"{HASH[:7]}.0"])
def test_names_that_it_does_not(name: str) -> None:
    assert not is_hash_name(name)


def test_the_search_ends_at_a_gap_and_at_a_link_that_leads_nowhere() -> None:
    gap = (link(f"{HASH}.0"), link(f"{HASH}.2"))
    assert [entry.name for entry in found_by_openssl(gap)] == [f"{HASH}.0"]
    dangling = (link(f"{HASH}.0", dangling=True), link(f"{HASH}.1"))
    assert found_by_openssl(dangling) == ()
    assert found_by_openssl((link(f"{HASH}.0", name_hash="ffffffff"),)) == ()


def test_a_sound_directory_has_no_problems() -> None:
    assert problems((), directory_mode=0o755, directory="/d") == ()


@pytest.mark.parametrize(
    ("entries", "mode", "problem"),
    [
        ((), 0o777, "/d can be written by everybody (mode 0777)"),
        ((), 0o775, "/d can be written by its group (mode 0775)"),
        ((link(f"{HASH}.1"),), 0o755, f"/d/{HASH}.1 is never looked at: there is no {HASH}.0 before it"),
        ((link(f"{HASH}.0", dangling=True),), 0o755, f"/d/{HASH}.0 leads to ca.pem, which is not there"),
        (
            (link(f"{HASH}.0", dangling=True), link(f"{HASH}.1")),
            0o755,
            f"/d/{HASH}.1 is never looked at: {HASH}.0 before it leads to nothing",
        ),
        ((Entry(f"{HASH}.0", "ca.pem", 0o666),), 0o755, "file that others can write (mode 0666)"),
        ((Entry(f"{HASH}.0", "ca.pem", 0o644),), 0o755, "holds no certificate that can be read"),
        ((Entry(f"{HASH}.r0", "ca.crl", 0o644),), 0o755, "holds no CRL that can be read"),
    ],
)
def test_what_is_wrong_is_said(entries: Sequence[Entry], mode: int, problem: str) -> None:
    assert any(problem in said for said in problems(entries, directory_mode=mode, directory="/d"))


def done(entries: Sequence[Entry], steps: Sequence[LinkStep]) -> dict[str, str]:
    """The names after the steps, each with its target; each step must find what it says is there."""
    names = {entry.name: entry.target for entry in entries}
    for step in steps:
        assert step.before == (f"link {names[step.name]}" if step.name in names else "absent")
        match step.action:
            case "link":
                names[step.name] = step.to
            case "move":
                names[step.to] = names.pop(step.name)
            case "remove":
                del names[step.name]
    return names


numbered = st.dictionaries(st.integers(0, 6), st.booleans(), max_size=6)


@given(numbered, st.sets(st.integers(0, 6)), st.integers(0, 2))
def test_after_the_steps_there_is_no_gap_and_all_that_is_good_is_found(
    numbers: dict[int, bool], dropped: set[int], more: int
) -> None:
    """Property: numbered from 0, the good ones kept, those asked for added, nothing that leads nowhere."""
    entries = [link(f"{HASH}.{n}", f"{n}.pem", dangling=dangling) for n, dangling in numbers.items()]
    bystander = link("00000000.0", "other.pem")
    add = [f"new-{n}.pem" for n in range(more)]
    drop = [f"{HASH}.{n}" for n in dropped]
    names = done([*entries, bystander], arranged([*entries, bystander], HASH, "ca", add=add, drop=drop))
    assert names.pop("00000000.0") == "other.pem"
    good = {f"{n}.pem" for n, dangling in numbers.items() if not dangling and n not in dropped}
    assert sorted(names.values()) == sorted([*good, *add])
    assert sorted(names) == sorted(f"{HASH}.{n}" for n in range(len(names)))
    again = [link(name, target) for name, target in names.items()]
    assert arranged(again, HASH, "ca", add=add) == ()


def test_a_link_that_leads_to_what_is_added_stays() -> None:
    """It leads nowhere only because its file is about to be written."""
    assert arranged([link(f"{HASH}.0", "new.pem", dangling=True)], HASH, "ca", add=["new.pem"]) == ()


def test_crls_are_numbered_by_themselves() -> None:
    entries = [link(f"{HASH}.0"), link(f"{HASH}.r0")]
    assert [entry.name for entry in of_hash(entries, HASH, "crl")] == [f"{HASH}.r0"]
    (step,) = arranged(entries, HASH, "crl", add=["new.crl"])
    assert step == LinkStep("link", f"{HASH}.r1", "absent", "new.crl")
