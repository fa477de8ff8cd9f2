"""Every form in which a value may stand in a file, as patterns over bytes.

A pattern allows each character of the value to be written in its own way, so that mixed and nested escapes (JSON
within JSON within HTML) are one search, without decoding anything.
"""

from __future__ import annotations

import base64
import functools
import json
import quopri
import re
from collections.abc import Callable, Iterable
from html import unescape
from html.entities import html5
from urllib.parse import unquote_to_bytes

# A backslash, plain or escaped for a URL, a mail or a page.
_BACKSLASH = rb"(?:\\|%(?:25)*5[Cc]|=5[Cc]|&#0*92;|&#[xX]0*5[cC];|&bsol;)"
_NUMBERED_BACKSLASH = _BACKSLASH + rb"++(?:134|x5[cC]|u005[cC])"
# As Python, C and JSON can write it with its number.
_NUMBERED_BACKSLASH = _BACKSLASH + rb"++(?:134|x5[cC]|u005[cC])"
_PERCENTS = rb"(?:25)*"
_AMPERSANDS = rb"(?:amp;|#38;)*"
_SHORT_ESCAPES = {"\n": b"n", "\r": b"r", "\t": b"t", "\b": b"b", "\f": b"f", "\v": b"v", "\a": b"a", "\0": b"0"}
_SINGLE = rb"(?:'|&#0*39;|&#[xX]27;|&apos;|%27)"
_DOUBLE = rb"(?:\"|&#0*34;|&#[xX]22;|&quot;|%22)"
# A shell's ways of a quote within quotes: '"'"' and '\\''.
_SHELL_QUOTE = b"(?:%s|%s)" % (
    (_BACKSLASH + b"*+").join((_SINGLE, _DOUBLE, _SINGLE, _DOUBLE, _SINGLE)),
    _SINGLE + _BACKSLASH + b"++" + _SINGLE + _SINGLE,
)
_LINE_END = rb"\r?\n"
# What may stand between the characters of base64: line ends, also as an escape, and what a mail folds with.
_WRAP = rb"(?:[ \t\r\n]|\\++[rn]|%0[AaDd]|=[\r\n])*+"
# What may stand between the bytes of a hexadecimal dump.
_BETWEEN_BYTES = rb"(?:[ \t\r\n:,;._-]|0[xX]|\\++[xrn]){0,6}+"
_BASE64_CHARACTERS = rb"[A-Za-z0-9+/_-]"
_IN_BASE64 = {
    ord("+"): rb"(?:\+|-|%2[Bb]|\\++u002[bB]|&#43;|&plus;)",
    ord("/"): rb"(?:\\*+/|_|%2[Ff]|&#47;|&sol;)",
}


def text_pattern(value: bytes) -> re.Pattern[bytes]:
    """The value as it is, and escaped for JSON, Python, C, HTML, URLs and quoted-printable, several times over too."""
    parts: list[bytes] = []
    text = value.decode("utf-8", "surrogateescape")
    behind_backslashes = False
    for run in re.findall(r"\\+|[^\\]", text):
        if run[0] == "\\":
            # The escapes double it each time; possessive, so that a long run of them costs nothing.
            least = b"{%d,}+" % len(run)
            numbered = b"(?:%s){%d}" % (_NUMBERED_BACKSLASH, len(run))
            parts.append(_any([rb"\\" + least, numbered, _BACKSLASH + least]))
        else:
            parts.append(_character(run, is_first=not parts, behind_backslashes=behind_backslashes))
        behind_backslashes = run[0] == "\\"
    # Behind a backslash the run began earlier, and was looked at from there.
    return re.compile((rb"(?<!\\)" if text.startswith("\\") else b"") + b"".join(parts))


def base64_pattern(value: bytes) -> re.Pattern[bytes]:
    """What is the same in the base64 of any text with the value in it, at each of the three alignments.

    Of a value shorter than eight bytes that is so little that it would be found by chance.
    """
    inner = []
    for before in range(3):
        encoded = base64.b64encode(bytes(before) + value)
        inner.append(encoded[-(-8 * before // 6) : 8 * (before + len(value)) // 6])
    return re.compile(b"|".join(_joined_base64(characters) for characters in inner))


def hexadecimal_pattern(value: bytes) -> re.Pattern[bytes]:
    """The value in hexadecimal digits of either case; colons, blanks, line ends or 0x may stand between the bytes."""
    return re.compile(_joined_hexadecimal(value))


def whole_base64_pattern(value: bytes) -> re.Pattern[bytes]:
    """The base64 of exactly the value, or of it and a line end, and of nothing more."""
    # Looked behind after the first character: a pattern that begins with a character is searched for much faster.
    begins = rb"(?:(?<!%s.)|(?<=\\[nrt].))" % _BASE64_CHARACTERS
    ends = rb"(?:=|%%3[Dd]|\\++u003[dD])*+(?!%s)" % _BASE64_CHARACTERS
    whole = (base64.b64encode(value + end).rstrip(b"=") for end in (b"", b"\n", b"\r\n"))
    return re.compile(b"|".join(_joined_base64(characters, begins) + ends for characters in whole))


def whole_hexadecimal_pattern(value: bytes) -> re.Pattern[bytes]:
    """The hexadecimal digits of exactly the value, or of it and a line end, not within others."""
    digits = rb"[0-9A-Fa-f]"
    begins = rb"(?:(?<![0-9A-Za-z].)(?<!%s[:-].)|(?<=\\[nrtx].)|(?<=0[xX].))" % digits
    ends = rb"(?:%s(?:0[dD]%s)?0[aA])?+(?![0-9A-Za-z]|[:-]%s)" % (_BETWEEN_BYTES, _BETWEEN_BYTES, digits)
    return re.compile(_joined_hexadecimal(value, begins) + ends)


def form_of(found: bytes, value: bytes) -> str:
    """How the value is written in what ``text_pattern`` found."""
    if found == value:
        return "as it is"
    for form, decode in _DECODERS.items():
        if times := _times(decode, found, value):
            return form if times == 1 else f"{form} {times} times over"
    if value in found:  # with backslashes of its surroundings
        return "as it is"
    others = (b"%", b"&", b"=")
    if b"\\" in found and [found.count(sign) for sign in others] == [value.count(sign) for sign in others]:
        return "escaped by backslashes"
    return "escaped in several ways"


def _times(decode: Callable[[bytes], bytes], found: bytes, value: bytes) -> int:
    """How often it has to be decoded to give the value, at most five times; 0: it never does."""
    for times in range(1, 6):
        try:
            decoded = decode(found)
        except ValueError:
            return 0
        if decoded == value:
            return times
        found = decoded
    return 0


def _from_html(data: bytes) -> bytes:
    return unescape(data.decode()).encode()


def _from_json(data: bytes) -> bytes:
    return str(json.loads(b'"' + data + b'"', strict=False)).encode()


def _from_url(data: bytes) -> bytes:
    return unquote_to_bytes(data.replace(b"+", b" "))


_DECODERS: dict[str, Callable[[bytes], bytes]] = {
    "JSON-escaped": _from_json,
    "HTML-escaped": _from_html,
    "URL-escaped": _from_url,
    "in quoted-printable": quopri.decodestring,
}


def _character(char: str, *, is_first: bool, behind_backslashes: bool) -> bytes:
    """One character (not a backslash) in all of its forms, sorted by the byte that they begin with."""
    data = char.encode("utf-8", "surrogateescape")
    escapes = _any(_backslash_escapes(char, data))
    percent = _any([(b"%" + _PERCENTS).join(map(_hexadecimal, data)), rb"5[Cc]%s*+%s" % (_BACKSLASH, escapes)])
    entity_or_backslash = rb"(?:#0*92|#[xX]0*5[cC]|bsol);%s*+%s" % (_BACKSLASH, escapes)
    # At the first character a run of backslashes is looked at from its beginning only: time grows with its length.
    backslash = rb"\\(?<!\\\\)" if is_first else rb"\\"
    forms = [
        _LINE_END if char == "\n" else re.escape(data),
        rb"%s%s*+%s" % (backslash, _BACKSLASH, escapes),
        b"%" + _PERCENTS + percent,
        b"=" + b"=".join(map(_hexadecimal, data)),
    ]
    entities = _entities(char)
    if entities:
        forms.append(b"&" + _AMPERSANDS + _any([*entities, entity_or_backslash]))
        # An ampersand escaped once more: for a script in a page, or for a URL.
        forms.append(backslash + rb"\\*+u0026" + _AMPERSANDS + _any(entities))
        forms.append(b"%" + _PERCENTS + b"26" + _AMPERSANDS + _any(entities))
    if char == " ":
        forms.append(rb"\+")
    if char == "'":
        forms.append(_SHELL_QUOTE)
    if behind_backslashes:
        # The run of backslashes before has taken this escape's own.
        forms.append(escapes)
    return _any(forms)


def _backslash_escapes(char: str, data: bytes) -> list[bytes]:
    r"""What may follow the backslashes of an escape: ``u00e9``, ``xe9``, ``xc3\xa9``, ``303\251``, ``n``, a quote."""
    number = ord(char)
    utf16 = char.encode("utf-16-be", "surrogatepass")
    units = [utf16[at : at + 2] for at in range(0, len(utf16), 2)]
    backslashes = _BACKSLASH + b"++"
    forms = [
        backslashes.join(b"u" + b"".join(map(_hexadecimal, unit)) for unit in units),
        b"U" + b"".join(map(_hexadecimal, number.to_bytes(4))),
        rb"u\{0*" + _either_case(b"%x" % number) + rb"\}",
        backslashes.join(b"x" + _hexadecimal(byte) for byte in data),
        backslashes.join(b"%03o" % byte for byte in data),
    ]
    if number < 256:
        forms.append(b"x" + _hexadecimal(number))
    if char in _SHORT_ESCAPES:
        forms.append(_SHORT_ESCAPES[char])
    if number < 128 and not char.isalnum():
        # Only the backslash was an escape; what it escapes may be written in another way itself.
        forms += [re.escape(data), b"%" + _PERCENTS + _hexadecimal(number), b"&" + _AMPERSANDS + _any(_entities(char))]
    return forms


def _entities(char: str) -> list[bytes]:
    number = ord(char)
    if 0xD800 <= number < 0xE000:
        return []
    hexadecimal = rb"#[xX]0*" + _either_case(b"%x" % number) + b"(?:;|(?![0-9A-Fa-f]))"
    return [b"#0*%d(?:;|(?![0-9]))" % number, hexadecimal, *(name.encode() for name in _entity_names().get(char, ()))]


@functools.cache
def _entity_names() -> dict[str, tuple[str, ...]]:
    names: dict[str, tuple[str, ...]] = {}
    for name, chars in html5.items():
        names[chars] = (*names.get(chars, ()), name)
    return names


def _joined_base64(characters: bytes, behind_first: bytes = b"") -> bytes:
    first, *rest = (_IN_BASE64.get(character, bytes([character])) for character in characters)
    return _WRAP.join([first + behind_first, *rest])


def _joined_hexadecimal(value: bytes, behind_first: bytes = b"") -> bytes:
    first, second = (_either_case(b"%x" % digit) for digit in divmod(value[0], 16))
    return _BETWEEN_BYTES.join([first + behind_first + second, *map(_hexadecimal, value[1:])])


def _hexadecimal(byte: int) -> bytes:
    return _either_case(b"%02x" % byte)


def _either_case(digits: bytes) -> bytes:
    return re.sub(rb"[a-z]", lambda letter: b"[%s%s]" % (letter[0], letter[0].upper()), digits)


def _any(forms: Iterable[bytes]) -> bytes:
    return b"(?:" + b"|".join(dict.fromkeys(forms)) + b")"
