"""Parameters: the cell is read without running it, and nothing undeclared or of another type gets through."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mailtls_nb.errors import BadParameter, NotReady
from mailtls_nb.parameters import (
    Declared,
    absolute_path,
    check_values,
    declared_parameters,
    make_paths_absolute,
    parameters_cell,
    typed,
    whole_number,
    word,
)

CELL = """\
serial: str = ""  # the certificate's serial number, hex
valid_days: int = 365  # life of the certificate, days

approve: str = "testbed"  # testbed, auto, a digest, or "" to show the plan only
"""
DECLARED = declared_parameters(CELL)


def test_a_cell_is_read_into_names_types_defaults_and_meanings() -> None:
    assert DECLARED[0] == Declared("serial", "str", "", "the certificate's serial number, hex")
    assert DECLARED[1] == Declared("valid_days", "int", 365, "life of the certificate, days")
    assert [parameter.name for parameter in DECLARED] == ["serial", "valid_days", "approve"]


@pytest.mark.parametrize(
    "line",
    [
        "import os",
        'name: str = "x"',
        'name: str = ""  #',
        'name = "x"  # untyped',
        'name: str = f"x"  # computed',
        "name: str = open('/tmp/seen', 'w').name  # a call",
        "name: str = 5  # of another type",
        "days: int = True  # a truth value",
        "days: int = 1.5  # a fraction",
        "days: float = 1.5  # no such type here",
        'name: "str" = "x"  # quoted',
        'a: str = "x"; b: str = "y"  # two',
        'name: str = ("x"',
        'name: str = """x\ny"""  # two lines',
        "# only a comment",
        'self.name: str = "x"  # no name',
        'name: str = "x"  # once\nname: str = "y"  # twice',
    ],
)
def test_a_line_of_another_form_is_an_error(line: str) -> None:
    with pytest.raises(NotReady):
        declared_parameters(line)


def test_the_error_names_the_line() -> None:
    with pytest.raises(NotReady, match="line 2: import os"):
        declared_parameters('name: str = "é"  # é before the comment\nimport os')


def notebook(*cells: tuple[str, list[str]]) -> str:
    return json.dumps(
        {"cells": [{"cell_type": "code", "metadata": {"tags": tags}, "source": [source]} for source, tags in cells]}
    )


def test_the_tagged_cell_is_found() -> None:
    assert parameters_cell(notebook(("1", []), (CELL, ["parameters"]))) == CELL


@pytest.mark.parametrize(
    "text", [notebook(("1", [])), notebook((CELL, ["parameters"]), (CELL, ["parameters"])), "{}", "no JSON", "[]"]
)
def test_a_notebook_without_exactly_one_is_an_error(text: str) -> None:
    with pytest.raises(NotReady):
        parameters_cell(text)


@pytest.mark.parametrize("text", ["12e45678", "0012", "no", "NO", "1.0", "", "True", "$(id)", '"', "a\\nb"])
def test_text_stays_what_was_typed(text: str) -> None:
    assert typed(DECLARED, {"serial": text}) == {"serial": text}


def test_whole_numbers_become_int() -> None:
    assert typed(DECLARED, {"valid_days": "30"}) == {"valid_days": 30}


@pytest.mark.parametrize("text", ["", "x", "1.0", "1e3", "0012", "٣", " 1", "1_000", "9" * 30, "inf", "+1", "-0"])
def test_other_forms_of_a_whole_number_are_refused(text: str) -> None:
    with pytest.raises(BadParameter, match="valid_days"):
        typed(DECLARED, {"valid_days": text})


@pytest.mark.parametrize("text", ["a\nb", "a\x00", "\x1b[31m", "\udcff", "a\x85"])
def test_control_characters_and_bytes_that_are_no_text_are_refused(text: str) -> None:
    with pytest.raises(BadParameter):
        typed(DECLARED, {"serial": text})
    with pytest.raises(BadParameter):
        check_values(DECLARED, {"serial": text})


def test_an_unknown_name_is_refused_with_the_near_ones_and_the_list() -> None:
    with pytest.raises(
        BadParameter, match=r"valid_day: is not .*\n.*\n.*did you mean valid_days\?.*serial, valid_days"
    ):
        typed(DECLARED, {"valid_day": "3"})


@pytest.mark.parametrize("name", ["x=1;import os;y", "a b", "", "class", "a.b", "1a", "valid_days "])
def test_what_is_no_identifier_is_refused_as_such(name: str) -> None:
    with pytest.raises(BadParameter, match="is no parameter name"):
        typed(DECLARED, {name: "2"})
    with pytest.raises(BadParameter, match="is no parameter name"):
        check_values(DECLARED, {name: 2})


def test_values_typed_already_must_have_the_declared_type() -> None:
    assert check_values(DECLARED, {"serial": "0A", "valid_days": 3}) == {"serial": "0A", "valid_days": 3}
    with pytest.raises(BadParameter, match=r"serial: is of type float \(inf\).*\n.*\n.*quote it, or use -r"):
        check_values(DECLARED, {"serial": float("inf")})


@pytest.mark.parametrize("value", ["3", 3.0, True, None, [3]])
def test_a_whole_number_of_another_type_is_refused(value: object) -> None:
    with pytest.raises(BadParameter, match="valid_days"):
        check_values(DECLARED, {"valid_days": value})


@given(st.dictionaries(st.text(), st.text()))
def test_nothing_undeclared_ever_comes_back(values: dict[str, str]) -> None:
    try:
        result = typed(DECLARED, values)
    except BadParameter:
        return
    assert set(result) <= {"serial", "valid_days", "approve"}


def test_relative_paths_are_taken_from_where_the_command_was_started() -> None:
    values: dict[str, str | int] = {
        "csr": "in/mail.csr",
        "ca_dir": "testbed",
        "audit_dir": "",
        "external_certificate": "/x/y.pem",
        "ca_passphrase": "file:pass",
        "hostname": "in/mail",
        "valid_days": 3,
        "partner_ca": "~/ca.pem",
    }
    assert make_paths_absolute(values, Path("/start")) == {
        "csr": "/start/in/mail.csr",
        "ca_dir": "testbed",
        "audit_dir": "",
        "external_certificate": "/x/y.pem",
        "ca_passphrase": "file:/start/pass",
        "hostname": "in/mail",
        "valid_days": 3,
        "partner_ca": "~/ca.pem",
    }


def test_readers() -> None:
    assert word("roles", "both", ("both", "server")) == "both"
    assert whole_number("valid_days", 1, 1, 10, "days") == 1
    assert str(absolute_path("csr", "/a b")) == "/a b"
    with pytest.raises(BadParameter, match="roles: 'x' is none of: both, server"):
        word("roles", "x", ("both", "server"))
    with pytest.raises(BadParameter, match="0 days is not between 1 and 10"):
        whole_number("valid_days", 0, 1, 10, "days")
    with pytest.raises(BadParameter):
        absolute_path("csr", "~/x")
