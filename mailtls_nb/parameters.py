"""Parameters of a runbook: what its parameters cell declares, and checks of what was given.

The cell is read with ast and never run. Each of its lines is ``name: type = default  # meaning, unit``, where
the type is ``str`` or ``int``: the cell is the form that a person fills in, the help text and the declaration
at once.
"""

from __future__ import annotations

import ast
import difflib
import json
import keyword
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Literal

from mailtls_nb.errors import BadParameter, NotReady

# Parameters that name a file or a directory here, and the words in them that are none.
PATHS: Mapping[str, frozenset[str]] = {
    "audit_dir": frozenset(),
    "ca_dir": frozenset({"testbed"}),
    "csr": frozenset(),
    "external_certificate": frozenset({"request"}),
    "partner_ca": frozenset({"testbed"}),
    "partner_crl": frozenset(),
    "textfile": frozenset(),
    "inventory": frozenset({"testbed"}),
}

_COMMENT = re.compile(r"\s*#\s*(?P<meaning>\S.*)")
_WHOLE_NUMBER = re.compile(r"0|-?[1-9][0-9]{0,17}")
_WORD_FOR = {"str": "text", "int": "a whole number"}


@dataclass(frozen=True)
class Declared:
    """One line of a parameters cell."""

    name: str
    type: Literal["str", "int"]
    default: str | int
    meaning: str


def parameters_cell(notebook_json: str) -> str:
    """The source of the one code cell tagged ``parameters``; raises NotReady when there is not exactly one."""
    try:
        cells = json.loads(notebook_json)["cells"]
        sources = [
            "".join(cell["source"])
            for cell in cells
            if cell["cell_type"] == "code" and "parameters" in cell["metadata"].get("tags", ())
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise NotReady("this is not a notebook", left="nothing was touched") from error
    if len(sources) != 1:
        raise NotReady(
            f"the notebook has {len(sources)} cells tagged `parameters`, and must have one", left="nothing was touched"
        )
    return sources[0]


def declared_parameters(cell_source: str) -> tuple[Declared, ...]:
    """Read a parameters cell; raises NotReady naming the first line of another form."""
    declared: dict[str, Declared] = {}
    for number, line in enumerate(cell_source.splitlines(), start=1):
        if not line.strip():
            continue
        parameter = _declared(line)
        if parameter is None or parameter.name in declared:
            raise NotReady(
                f"parameters cell, line {number}: {line.strip()}",
                left="nothing was touched",
                do="write `name: type = default  # meaning, unit` with type str or int, each name once",
            )
        declared[parameter.name] = parameter
    return tuple(declared.values())


def _declared(line: str) -> Declared | None:
    """The declaration on a line; None when it is of another form."""
    try:
        statements = ast.parse(line).body
    except (SyntaxError, ValueError):
        return None
    match statements:
        case [
            ast.AnnAssign(target=ast.Name(id=name), annotation=ast.Name(id=kind), value=ast.expr() as value) as whole
        ]:
            # The statement's end is counted in bytes of UTF-8.
            comment = _COMMENT.fullmatch(line.encode()[whole.end_col_offset :].decode())
        case _:
            return None
    try:
        default = ast.literal_eval(value)
    except ValueError:
        return None
    if comment and kind == "str" and type(default) is str:
        return Declared(name, "str", default, comment["meaning"].strip())
    if comment and kind == "int" and type(default) is int:
        return Declared(name, "int", default, comment["meaning"].strip())
    return None


def typed(declared: Sequence[Declared], given: Mapping[str, str]) -> dict[str, str | int]:
    """Values given as text (command line, YAML read as text), typed as declared.

    Only what was given comes back. Raises BadParameter for unknown names and values of another form.
    """
    types = _types(declared, given)
    return {name: _value(name, text, types[name]) for name, text in given.items()}


def _value(name: str, text: str, kind: str) -> str | int:
    if kind == "str":
        return _printable(name, text)
    if not _WHOLE_NUMBER.fullmatch(text):
        raise BadParameter(name, f"{text!r} is not a whole number")
    return int(text)


def check_values(declared: Sequence[Declared], values: Mapping[str, object]) -> dict[str, str | int]:
    """Values that came typed already, as plain papermill passes them; the type must be the declared one.

    papermill guesses types from the command line: ``-p serial 12e45678`` arrives as inf, ``0012`` as 12.
    Raises BadParameter for unknown names and values of another type.
    """
    types = _types(declared, values)
    checked: dict[str, str | int] = {}
    for name, value in values.items():
        kind = types[name]
        if kind == "str" and type(value) is str:
            checked[name] = _printable(name, value)
        elif kind == "int" and type(value) is int:
            checked[name] = value
        else:
            raise BadParameter(
                name,
                f"is of type {type(value).__name__} ({value!r:.60}) and must be {_WORD_FOR[kind]}",
                do="quote it, or use -r instead of -p: papermill guesses types; `mailtls-nb run` does not"
                if kind == "str"
                else "give digits only",
            )
    return checked


def _types(declared: Sequence[Declared], given: Mapping[str, object]) -> dict[str, str]:
    """The declared types by name, once every given name is known to be declared."""
    types: dict[str, str] = {parameter.name: parameter.type for parameter in declared}
    for name in given:
        if name in types:
            continue
        known = ", ".join(types) or "none"
        # A name is pasted into the notebook as code by papermill, so what is no name is named as such.
        if not name.isidentifier() or keyword.iskeyword(name):
            raise BadParameter(f"{name!r:.80}", "is no parameter name", do=f"the parameters are: {known}")
        near = difflib.get_close_matches(name, types, n=3)
        hint = f"did you mean {' or '.join(near)}? " if near else ""
        raise BadParameter(name, "is not a parameter of this runbook", do=f"{hint}The parameters are: {known}")
    return types


def make_paths_absolute(values: Mapping[str, str | int], started_from: Path) -> dict[str, str | int]:
    """The values with relative paths taken from ``started_from``, ``file:`` references to secrets included.

    A leading ``~`` is left as it is: the notebook then refuses it like any other relative path.
    """
    return {name: _from(started_from, name, value) for name, value in values.items()}


def _from(started_from: Path, name: str, value: str | int) -> str | int:
    if not isinstance(value, str) or value.startswith("~"):
        return value
    if name in PATHS:
        return str(started_from / value) if value and value not in PATHS[name] else value
    scheme, separator, path = value.partition(":")
    if name.endswith("passphrase") and scheme == "file" and separator and path and not path.startswith("~"):
        return f"file:{started_from / path}"
    return value


def _printable(parameter: str, value: str) -> str:
    if "\ufffd" in value or any("\ud800" <= character <= "\udfff" for character in value):
        raise BadParameter(parameter, "is not UTF-8 text")
    control = next((character for character in value if ord(character) < 0x20 or 0x7F <= ord(character) < 0xA0), None)
    if control is not None:
        raise BadParameter(parameter, f"holds a control character ({control!r})")
    return value


def word(parameter: str, value: str, allowed: Sequence[str]) -> str:
    """The value when it is one of the allowed words."""
    if value not in allowed:
        raise BadParameter(parameter, f"{value!r} is none of: {', '.join(allowed)}")
    return value


def whole_number(parameter: str, value: int, minimum: int, maximum: int, unit: str) -> int:
    """The value when it lies between minimum and maximum, both allowed."""
    if not minimum <= value <= maximum:
        raise BadParameter(parameter, f"{value} {unit} is not between {minimum} and {maximum}")
    return value


def absolute_path(parameter: str, value: str) -> PurePath:
    """The value as a path from the root; whether anything is there is not looked at."""
    path = PurePath(_printable(parameter, value))
    if not path.is_absolute():
        raise BadParameter(parameter, f"{value!r} is not a whole path", do="start it with /")
    return path
