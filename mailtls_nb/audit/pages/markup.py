"""HTML of a notebook reduced to a closed list of tags, and arranged for a page that is read and printed.

What a host printed ends in it, so bleach parses, reduces and writes it; what is added here is added to the tokens in
between, never to text. Added are: a class for each line of a diff, for claims and for findings by what they say; the
column's heading at each cell, for narrow screens; headings without gaps in their levels; a fold around what is long.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from html import unescape
from typing import Any

from bleach.sanitizer import Cleaner

# A token of html5lib's tree walker: type, name, and for a start tag attributes, else text, as data.
Token = dict[str, Any]

# More than this is folded: about a screen.
LONG_LINES = 40
LONG_BYTES = 4096
# Longer words (fingerprints, paths, names in log lines) may be broken in a table, first where they are joined.
_LONG = 23
_WORD = re.compile(r"(\d{4}-\d\d-\d\d(?![\w-])|\S{23,})")
_JOINTS = re.compile(r"(?<=[/.:,;=@_-])(?=\w)")
_HUNK = re.compile(r"@@ -\d+(?:,(\d+))? \+\d+(?:,(\d+))? @@")
_TAGS = (
    "a abbr blockquote br caption code col colgroup dd del details div dl dt em h1 h2 h3 h4 h5 h6 hr i img ins kbd li "
    "ol p pre q s samp section small span strong sub summary sup table tbody td tfoot th thead tr ul"
)
# No id: two outputs may use the same one. No style: the page's own style sheet has colours for light and dark.
_ATTRIBUTES = frozenset({"class", "title", "scope", "colspan", "rowspan", "open"})
_NO_NAMESPACE = None


class Markup:
    """Cleans and arranges the pieces of one page, in the page's order: headings below one of level ``top_level``."""

    def __init__(self, top_level: int = 1) -> None:
        self._top_level = top_level
        self._headings: list[int] = []
        self._cleaner = Cleaner(
            tags=frozenset(_TAGS.split()),
            attributes=_allowed,
            protocols=frozenset({"http", "https", "mailto", "data"}),
            filters=[self._arranged],
        )

    def clean(self, html: str) -> str:
        """The piece without anything that runs or loads, balanced, arranged."""
        return str(self._cleaner.clean("".join(html)))

    def _arranged(self, source: Iterable[Token]) -> Iterator[Token]:
        return self._blocks(list(source))

    def _blocks(self, tokens: list[Token]) -> Iterator[Token]:
        position = 0
        while position < len(tokens):
            token = tokens[position]
            name = token.get("name")
            if token["type"] == "StartTag" and name in {"pre", "table"}:
                end = _end(tokens, position)
                inner = tokens[position + 1 : end]
                yield from _pre(token, inner, tokens[end]) if name == "pre" else self._table(token, inner, tokens[end])
                position = end
            elif name in {"h1", "h2", "h3", "h4", "h5", "h6"}:
                yield {**token, "name": self._heading(token)}
            else:
                yield token
            position += 1

    def _heading(self, token: Token) -> str:
        """The name of the heading's tag: one level below the heading that it belongs to."""
        level = int(token["name"][1])
        if token["type"] == "StartTag":
            while self._headings and self._headings[-1] >= level:
                self._headings.pop()
            self._headings.append(level)
        return f"h{min(self._top_level + len(self._headings), 6)}"

    def _table(self, start: Token, inner: list[Token], end: Token) -> Iterator[Token]:
        headings = _column_headings(inner)
        kind = "table stacking" if headings else "table"
        # Without column headings a table of many columns can only be scrolled; the keyboard must be able to.
        columns = max((len(row) for row in _rows(inner)), default=0)
        more = {"tabindex": "0"} if columns > 2 and not headings else {}
        table = [
            _start("div", **{"class": kind}, **more),
            start,
            *self._cells(inner, headings),
            end,
            _end_of("div"),
        ]
        number = sum(token["type"] == "StartTag" and token["name"] == "tr" for token in inner)
        yield from _folded(f"{number} rows", "", table) if number > LONG_LINES else table

    def _cells(self, inner: list[Token], headings: list[str]) -> Iterator[Token]:
        in_head = False
        column = 0
        for position, token in enumerate(inner):
            name = token.get("name")
            if token["type"] == "StartTag" and name in {"thead", "tr", "th", "td"}:
                in_head = in_head or name == "thead"
                column = 0 if name == "tr" else column
                more: dict[str, str] = {}
                if name == "th":
                    more["scope"] = "col" if in_head else "row"
                if name in {"th", "td"} and not in_head and column < len(headings):
                    text = _text(inner[position + 1 : _end(inner, position)])
                    more |= {"data-label": headings[column], **_meaning(headings[column], text)}
                column += name in {"th", "td"}
                yield _with(token, more)
            elif token["type"] == "Characters":
                yield from _breakable(token["data"])
            else:
                in_head = in_head and not (token["type"] == "EndTag" and name == "thead")
                yield token


def _allowed(tag: str, name: str, value: str) -> bool:
    if tag == "img":
        # A picture lies in the page or is not shown: reading a record must not tell anybody.
        return name in {"alt", "width", "height"} or (name == "src" and value.startswith("data:image/"))
    if tag == "a" and name == "href":
        # Another runbook does not lie beside the page, and a place in the page has no name.
        return not value.startswith(("data:", "#")) and not value.endswith(".ipynb")
    return name in _ATTRIBUTES


def _meaning(heading: str, text: str) -> dict[str, str]:
    """A class for a cell that says how a claim or a finding stands; the words say it too."""
    if heading == "holds" and text in {"yes", "NO"}:
        return {"class": "good" if text == "yes" else "bad"}
    if heading == "finding" and (severity := text.partition(":")[0]) in {"error", "warning", "note"}:
        return {"class": {"error": "bad", "warning": "wait", "note": "note"}[severity]}
    return {}


def _column_headings(inner: list[Token]) -> list[str]:
    """The texts of the table's first row where that is in its head."""
    names = [token["name"] for token in inner if token["type"] == "StartTag"]
    if names[:1] != ["thead"]:
        return []
    return next(_rows(inner), [])


def _rows(inner: list[Token]) -> Iterator[list[str]]:
    row: list[str] | None = None
    for position, token in enumerate(inner):
        if token["type"] == "StartTag" and token["name"] == "tr":
            if row is not None:
                yield row
            row = []
        elif token["type"] == "StartTag" and token["name"] in {"th", "td"} and row is not None:
            row.append(_text(inner[position + 1 : _end(inner, position)]))
    if row is not None:
        yield row


def _pre(start: Token, inner: list[Token], end: Token) -> Iterator[Token]:
    text = _text(inner)
    lines = text.rstrip("\n").count("\n") + 1
    is_diff = "diff" in str(start["data"].get((_NO_NAMESPACE, "class"), "")).split()
    block = [start, *(_diff_lines(text) if is_diff else inner), end]
    size = len(text.encode("utf-8", "surrogatepass"))
    if lines <= LONG_LINES and size <= LONG_BYTES:
        yield from block
        return
    measure = f"{lines} lines" if lines > 1 else f"{size / 1000:.1f} kB"
    first = next((line.strip() for line in text.split("\n") if line.strip()), "")
    yield from _folded(measure, first if len(first) <= 80 else first[:79] + "…", block)


def _diff_lines(text: str) -> Iterator[Token]:
    """A span for each line of a unified diff; within a hunk a line is never a file's name, whatever it begins with."""
    before = after = 0
    for line in text.rstrip("\n").split("\n"):
        hunk = _HUNK.match(line)
        if hunk:
            before, after = (int(count) if count is not None else 1 for count in hunk.groups())
            kind = "hunk"
        elif before <= 0 and after <= 0 and line.startswith(("--- ", "+++ ")):
            kind = "file"
        else:
            kind = {"-": "deleted", "+": "added"}.get(line[:1], "kept")
            before -= kind in {"deleted", "kept"}
            after -= kind in {"added", "kept"}
        yield _start("span", **{"class": kind})
        # The line's end lies in the span: a block of its own needs no other, and a copied diff keeps it.
        yield _characters(line + "\n")
        yield _end_of("span")


def _breakable(text: str) -> Iterator[Token]:
    """Text of a cell: a date stays on its line, a long word may be broken, others are not."""
    for number, part in enumerate(_WORD.split(text)):
        if number % 2 and len(part) < _LONG:
            yield from (_start("span", **{"class": "whole"}), _characters(part), _end_of("span"))
        elif number % 2:
            for place, piece in enumerate(_JOINTS.split(part)):
                if place:
                    yield {"type": "EmptyTag", "name": "wbr", "namespace": None, "data": {}}
                if len(piece) < _LONG:
                    yield _characters(piece)
                else:
                    yield from (_start("span", **{"class": "long"}), _characters(piece), _end_of("span"))
        elif part:
            yield _characters(part)


def _folded(measure: str, first: str, block: list[Token]) -> Iterator[Token]:
    yield _start("details", **{"class": "long-output"})
    yield _start("summary")
    yield _characters(f"{measure}: " if first else measure)
    if first:
        yield from (_start("code"), _characters(first), _end_of("code"))
    yield _end_of("summary")
    yield from block
    yield _end_of("details")


def _text(tokens: list[Token]) -> str:
    parts = []
    for token in tokens:
        if token["type"] in {"Characters", "SpaceCharacters"}:
            parts.append(token["data"])
        elif token["type"] == "Entity":
            parts.append(unescape(f"&{token['name']};"))
    return "".join(parts)


def _end(tokens: list[Token], position: int) -> int:
    """The place of the end tag that belongs to the start tag at ``position``; the tree is balanced."""
    name, depth = tokens[position]["name"], 0
    for place in range(position, len(tokens)):
        token = tokens[place]
        if token.get("name") == name and token["type"] in {"StartTag", "EndTag"}:
            depth += 1 if token["type"] == "StartTag" else -1
            if depth == 0:
                return place
    raise AssertionError(f"<{name}> has no end")


def _characters(text: str) -> Token:
    return {"type": "Characters", "data": text}


def _start(tag: str, **attributes: str) -> Token:
    return _with({"type": "StartTag", "name": tag, "namespace": None, "data": {}}, attributes)


def _with(token: Token, attributes: dict[str, str]) -> Token:
    data = {**token["data"], **{(_NO_NAMESPACE, name): value for name, value in attributes.items()}}
    return {**token, "data": data}


def _end_of(tag: str) -> Token:
    return {"type": "EndTag", "name": tag, "namespace": None, "data": {}}
