"""Reading m4 text as m4 does, as far as needed to tell what is code, what is quoted and what is a comment.

Sources: GNU m4 manual, sections "Comments", "Quoted strings" and "Dnl"; sendmail's cf/m4/cfhead.m4, which says
``changecom()``: before cf.m4 is read, ``#`` begins a comment, after it no more.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from mailtls_nb.errors import NotReady

_WORD = re.compile(rb"[A-Za-z_][A-Za-z0-9_]*")
INCLUDES_CF_M4 = re.compile(rb"s?include\(\s*`?[^')\n]*cf\.m4'?\s*\)")


@dataclass(frozen=True)
class M4Text:
    """A text and two masks of the same length.

    ``code`` has what m4 drops (comments, and what follows ``dnl``) blanked; ``bare`` has quoted text blanked too,
    with its line breaks. Other line breaks stay in both.
    """

    text: bytes
    code: bytes
    bare: bytes

    def line_number(self, offset: int) -> int:
        """The line of an offset, counted from 1."""
        return self.text.count(b"\n", 0, offset) + 1


def read_m4(name: str, text: bytes) -> M4Text:
    """Mask the text; raises NotReady for a quote that is never closed, which m4 would refuse too."""
    code, bare = bytearray(text), bytearray(text)
    # Where the text does not read cf.m4 itself, it was read before (on m4's command line).
    comments = INCLUDES_CF_M4.search(text) is not None
    position, depth, opened_at = 0, 0, 0
    while position < len(text):
        byte = text[position : position + 1]
        if byte == b"`":
            if depth == 0:
                opened_at = position
            depth += 1
            _blank(bare, position, position + 1)
        elif byte == b"'" and depth:
            depth -= 1
            _blank(bare, position, position + 1)
        elif depth:
            _blank(bare, position, position + 1)
        elif byte == b"#" and comments:
            end = _line_end(text, position)
            _blank(code, position, end)
            _blank(bare, position, end)
            position = end
            continue
        elif word := _WORD.match(text, position):
            end = word.end()
            if word[0] == b"dnl":
                end = _line_end(text, position)
                _blank(code, position, end)
                _blank(bare, position, end)
            elif comments and INCLUDES_CF_M4.match(text, position):
                comments = False
            position = end
            continue
        position += 1
    if depth:
        line = text.count(b"\n", 0, opened_at) + 1
        raise NotReady(
            f"{name}, line {line}: a quote ` is opened there and never closed",
            left="nothing was touched",
            do=f"close it with ' ({name} does not build as it is)",
        )
    return M4Text(text, bytes(code), bytes(bare))


def _line_end(text: bytes, position: int) -> int:
    end = text.find(b"\n", position)
    return len(text) if end < 0 else end


def _blank(mask: bytearray, start: int, end: int) -> None:
    mask[start:end] = b" " * (end - start)
