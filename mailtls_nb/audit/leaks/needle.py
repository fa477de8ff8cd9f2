"""One value to be searched for, and the rule of where it counts.

A passphrase such as ``relay`` or ``2468`` stands in honest text too, and a false alarm costs the record of a change
that was made. So there are three rules:

- *anywhere*: a value of eight bytes or more counts wherever it stands, as part of a longer word too.
- *word*: a shorter one counts where letters, digits, ``_`` and ``-`` do not go on before or behind it, and where it is
  no part of a name (``mx1.example``). Its base64 and hexadecimal count where they stand whole.
- *value*: one that is ordinary text counts where it stands as a value: behind a word like ``passphrase`` or the
  parameter's name and ``=``, ``:`` or a quote; in a URL before ``@``; alone on its line; or as the whole of a string,
  unless that string is a word of the program's own. Its base64 and hexadecimal count where they stand whole, and it
  does where every character of it is escaped.
  Ordinary are: up to 16 letters that are one word (``relay``, ``Relay``, ``RELAY``), up to 16 digits, whatever has at
  most two different characters, and what stands in the text known beforehand, the runbook's own source. Where that
  source has it in such a place too (``roles: str = "both"``), such places do not count. What is shorter than four
  bytes counts only behind a word like ``passphrase``, and is not searched for in base64 and hexadecimal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from mailtls_nb.audit.leaks.forms import (
    base64_pattern,
    form_of,
    hexadecimal_pattern,
    text_pattern,
    whole_base64_pattern,
    whole_hexadecimal_pattern,
)

Rule = Literal["anywhere", "word", "value"]
_Standing = Literal["labelled", "line", "whole"]

# From this many bytes on a value does not come up by chance.
_LONG = 8
# Fewer are no secret, and their base64 or hexadecimal comes up by chance.
_SHORT = 4
# What is looked at before and behind a match, in bytes.
_AROUND = 200
_ONE_WORD = re.compile(rb"[A-Za-z]?[a-z]{0,15}|[A-Z]{1,16}|[0-9]{1,16}")
_WORD_ENDS_BEFORE = re.compile(
    rb"(?:\A|[^A-Za-z0-9_-]|\\[abfnrtv]|%[0-9A-Fa-f]{2}|\\u[0-9A-Fa-f]{4}|\\x[0-9A-Fa-f]{2})\Z"
)
_NAME_BEFORE = re.compile(rb"[A-Za-z0-9_-][./@]\Z")
_GOES_ON = re.compile(rb"[A-Za-z0-9_-]|[./][A-Za-z0-9_]")
_LABEL = (
    rb"(?i:pass[ _-]?(?:word|phrase|code|wd)|\bpass\b|passin|passout|pwd|secret|credentials?%s)"
    rb"[^\n:=<>\"'`]{0,40}"
    rb"(?:(?:\\*[\"'`]|&quot;|&\#(?:39|x27|34);|\s)*(?:[:=]>?|\\*[\"'`]|&quot;|\bis\b|\bwas\b)|</t[dh]>)"
    rb"(?:<[^<>]{0,80}>|\\*[\"'`]|&quot;|&\#(?:39|x27|34);|\s|\bb(?='))*\Z"
)
_URL_LOGIN = re.compile(rb"://[^\s/@:]*:\Z")
_LINE_ENDS = re.compile(rb"(?:\\*[\"'`]|[ \t\r])*+(?:\Z|\n|\\n|</pre>)")
_BLANKS_AND_QUOTES = b" \t\r\n\v\f\"'`\\"
_QUOTE = re.compile(rb"[\"'`]")
_LABEL_ENDS = (b":", b"=", b">", b";", b"is", b"was")
_PREFORMATTED = re.compile(rb"<pre[^<>]*>\Z")


@dataclass(frozen=True)
class Hit:
    """Where in a text a value was found (``start``, in bytes), and in what form."""

    start: int
    form: str


class Needle:
    """A value to be searched for; it shows neither in its text form nor in its attributes' names."""

    __slots__ = ("_encoded", "_label", "_ordinary_as", "_parameter", "_text", "_value", "rule", "what")

    def __init__(self, what: str, value: bytes, *, parameter: str = "", known_text: bytes = b"") -> None:
        self.what = what
        self._value = value
        self.rule = _rule_of(value, known_text)
        self._text = text_pattern(value)
        self._encoded: list[tuple[str, re.Pattern[bytes]]] = []
        if self.rule == "anywhere":
            self._encoded = [("in base64", base64_pattern(value)), ("in hexadecimal", hexadecimal_pattern(value))]
        elif len(value) >= _SHORT:
            self._encoded = [
                ("in base64", whole_base64_pattern(value)),
                ("in hexadecimal", whole_hexadecimal_pattern(value)),
            ]
        self._parameter = parameter.encode()
        own_name = rb"|\b%s\b(?=[\s:=\"'`<\\&])" % re.escape(parameter.encode()) if parameter else b""
        self._label = re.compile(
            _LABEL % own_name + (rb"|\b%s\s+\Z" % re.escape(parameter.encode()) if parameter else b"")
        )
        self._ordinary_as: frozenset[_Standing] = frozenset()
        if self.rule == "value":
            self._ordinary_as = frozenset(self._standings_in(known_text))

    def __repr__(self) -> str:
        return f"Needle({self.what!r}, rule={self.rule!r})"

    def find(self, text: bytes, *, stands_alone_counts: bool = True) -> Iterator[Hit]:
        """Where it is, form by form. ``stands_alone_counts=False``: a text that is a word of the program's own."""
        for found in self._text.finditer(text):
            if self._counts(text, found, stands_alone_counts):
                yield Hit(found.start(), form_of(found[0], self._value))
        for form, pattern in self._encoded:
            for found in pattern.finditer(text):
                yield Hit(found.start(), form)

    def lines_to_look_at(self, text: bytes) -> Iterator[tuple[int, bytes]]:
        """The lines that hold it by any rule, with their numbers from 1."""
        starts: set[int] = set()
        for pattern in (self._text, *(pattern for _, pattern in self._encoded)):
            end = 0
            while found := pattern.search(text, end):
                starts.add(text.rfind(b"\n", 0, found.start()) + 1)
                end = text.find(b"\n", found.start()) + 1 or len(text) + 1
        number, counted = 1, 0
        for start in sorted(starts):
            number, counted = number + text.count(b"\n", counted, start), start
            yield number, _line_at(text, start)

    def _counts(self, text: bytes, found: re.Match[bytes], stands_alone_counts: bool) -> bool:
        if self.rule == "anywhere":
            return True
        start, end = found.span()
        if end - start >= 3 * len(self._value):
            return True  # every character is escaped: nobody writes ordinary text like that
        before, after = text[max(0, start - _AROUND) : start], text[end : end + _AROUND]
        if not self._is_word(before, after):
            return False
        if self.rule == "word":
            return True
        standing = self._standing(text, start, end, before, after)
        if standing is None or standing in self._ordinary_as:
            return False
        return standing == "labelled" or (stands_alone_counts and len(self._value) >= _SHORT)

    def _is_word(self, before: bytes, after: bytes) -> bool:
        first, last = self._value[:1], self._value[-1:]
        if _is_word_character(first) and (not _WORD_ENDS_BEFORE.search(before[-6:]) or _NAME_BEFORE.search(before)):
            return False
        return not (_is_word_character(last) and _GOES_ON.match(after))

    def _standing(self, text: bytes, start: int, end: int, before: bytes, after: bytes) -> _Standing | None:
        """How it stands as a value there, or None: as a part of ordinary text."""
        # Ordinary values stand in many places, so what is quick is asked first.
        bare = before.rstrip(_BLANKS_AND_QUOTES)
        gap = before[len(bare) :]
        may_be_labelled = bare.endswith(_LABEL_ENDS) or _QUOTE.search(gap) or bare.endswith(self._parameter or b"\0")
        if (may_be_labelled and self._label.search(before)) or (after.startswith(b"@") and _URL_LOGIN.search(before)):
            return "labelled"
        begins_line = b"\n" in gap or bare.endswith(b"\\n") or (bare.endswith(b">") and _PREFORMATTED.search(bare))
        if not (begins_line or len(gap) == start) or not _LINE_ENDS.match(after):
            return None
        if len(gap) == start and len(text) - end <= _AROUND and not after.strip(_BLANKS_AND_QUOTES):
            return "whole"
        return "line"

    def _standings_in(self, known_text: bytes) -> Iterator[_Standing]:
        for found in self._text.finditer(known_text):
            start, end = found.span()
            before, after = known_text[max(0, start - _AROUND) : start], known_text[end : end + _AROUND]
            if re.search(rb"[\"'`]\Z", before) and re.match(rb"\\*[\"'`]", after):
                yield "whole"
            standing = self._standing(known_text, start, end, before, after)
            if standing is not None:
                yield standing


def _rule_of(value: bytes, known_text: bytes) -> Rule:
    if _ONE_WORD.fullmatch(value) or len(set(value)) <= 2 or len(value) < _SHORT or value in known_text:
        return "value"
    return "anywhere" if len(value) >= _LONG else "word"


def _is_word_character(char: bytes) -> bool:
    return char.isalnum() or char in {b"_", b"-"}


def _line_at(text: bytes, start: int) -> bytes:
    end = text.find(b"\n", start)
    return text[start:] if end < 0 else text[start:end]
