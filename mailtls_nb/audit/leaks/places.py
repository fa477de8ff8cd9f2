"""The texts in a file of a run's folder, each with its place in an operator's words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

# Members whose strings are words of the program and of the notebook's format, not of whoever ran it: a passphrase
# that is such a word (root, changed, code) is not told by them.
_OWN_WORDS = frozenset(
    {
        *(
            "_type",
            "approval",
            "approve",
            "argv",
            "ca_dir",
            "claims",
            "cell_type",
            "host",
            "hosts",
            "how",
            "id",
            "mode",
        ),
        *("kernelspec", "language_info", "operator", "outcome", "output_type", "owner", "plan", "predicateType"),
        *("runbook", "status", "subject", "tags", "what"),
    }
)

NameOf = Callable[[str], str]


@dataclass(frozen=True, repr=False)
class Place:
    """A text (UTF-8 where it was text), where it is, and whether what stands alone in it was somebody's value.

    ``joined_of`` names the places that it was put together from; what they hold themselves is told of them.
    """

    where: str
    text: bytes
    has_values: bool = True
    joined_of: str = ""


def notebook_places(notebook: Any, name_of: NameOf) -> Iterator[Place]:
    """The texts of a notebook (format 4), its cells and outputs counted from 1; ``name_of`` says how to show a name."""
    if not isinstance(notebook, dict):
        yield from json_places(notebook, "", name_of)
        return
    cells = notebook.get("cells")
    for number, cell in enumerate(cells if isinstance(cells, list) else (), 1):
        yield from _cell_places(cell, f"cell {number}", name_of)
    rest = {name: value for name, value in notebook.items() if name != "cells" or not isinstance(value, list)}
    yield from json_places(rest, "", name_of)


def json_places(value: Any, where: str, name_of: NameOf, *, has_values: bool = True) -> Iterator[Place]:
    """The strings of parsed JSON and its members' names, as ``where.member[1].member``, list items counted from 1."""
    match value:
        case str():
            yield Place(where, _bytes_of(value), has_values)
        case dict():
            for name, member in value.items():
                yield Place(f"{where}, the name of a member".removeprefix(", "), _bytes_of(name), False)
                inner = f"{where}.{name_of(name)}".removeprefix(".")
                yield from json_places(member, inner, name_of, has_values=has_values and name not in _OWN_WORDS)
        case list():
            for number, item in enumerate(value, 1):
                yield from json_places(item, f"{where}[{number}]", name_of, has_values=has_values)
        case _:
            return


def _cell_places(cell: Any, where: str, name_of: NameOf) -> Iterator[Place]:
    if not isinstance(cell, dict):
        yield from json_places(cell, where, name_of)
        return
    streams: dict[str, list[str]] = {}
    for name, member in cell.items():
        if name == "outputs" and isinstance(member, list):
            for number, output in enumerate(member, 1):
                yield from _output_places(output, f"{where}, output {number}", name_of)
                if isinstance(output, dict) and output.get("output_type") == "stream":
                    streams.setdefault(str(output.get("name")), []).append(_joined(output.get("text")) or "")
        else:
            yield from _member_places(name, member, where, name_of)
    # A kernel sends what is printed in pieces, and each may become an output.
    for stream, pieces in streams.items():
        if len(pieces) > 1:
            text = _bytes_of("".join(pieces))
            yield Place(f"{where}, outputs to {name_of(stream)} together", text, joined_of=f"{where}, output ")


def _output_places(output: Any, where: str, name_of: NameOf) -> Iterator[Place]:
    if not isinstance(output, dict):
        yield from json_places(output, where, name_of)
        return
    for name, member in output.items():
        if name == "text" and output.get("output_type") == "stream":
            yield from _member_places(str(output.get("name")), member, where, name_of)
        elif name == "data" and isinstance(member, dict):
            for mime_type, content in member.items():
                yield from _member_places(mime_type, content, where, name_of)
        elif name != "name" or output.get("output_type") != "stream":
            yield from _member_places(name, member, where, name_of)


def _member_places(name: str, member: Any, where: str, name_of: NameOf) -> Iterator[Place]:
    text = _joined(member, "\n" if name == "traceback" else "")
    inner = f"{where}, {name_of(name)}"
    if text is None:
        yield Place(f"{where}, the name of a member", _bytes_of(name), False)
        yield from json_places(member, inner, name_of)
    else:
        yield Place(f"{where}, the name of a member", _bytes_of(name), False)
        yield Place(inner, _bytes_of(text), name not in _OWN_WORDS)


def _joined(value: Any, separator: str = "") -> str | None:
    """The text of a string, or of a list of its lines, as which notebooks are written; None for anything else."""
    if isinstance(value, str):
        return value
    if isinstance(value, list) and value and all(isinstance(line, str) for line in value):
        return separator.join(value)
    return None


def _bytes_of(text: str) -> bytes:
    # JSON may hold halves of UTF-16 pairs, which UTF-8 has no form for.
    return text.encode("utf-8", "surrogatepass")


def parsed(data: bytes) -> Any:
    """The data as JSON; raises ValueError where it is none, or is nested deeper than any file of a run."""
    try:
        return json.loads(data)
    except RecursionError:
        raise ValueError("nested too deeply") from None
