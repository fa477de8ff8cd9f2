r"""What an entry of the access map may demand of a TLS connection, as types that are valid by construction.

Source: cf/README, "STARTTLS", and the rulesets TLS_connection and TLS_req of cf/m4/proto.m4::

    requirement := [ ("PERM" | "TEMP") "+" ] ( "VERIFY" [":" bits] | "ENCR" ":" bits ) [ "+" ext { "++" ext } ]
    ext := "CN" | "CN:" name | "CS:" dn | "CI:" dn | "CITag:" tag

sendmail accepts far more, and takes much of it for "no requirement"; so nothing else is read or written here.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from mailtls_nb.errors import BadParameter
from mailtls_nb.names import shown
from mailtls_nb.sendmail.access.case import Case
from mailtls_nb.sendmail.access.connection import Rulesets, is_too_long, judge, reads_alike

Kind = Literal["CN", "CS", "CI", "CITag"]
Level = Literal["VERIFY", "ENCR"]
OnFailure = Literal["", "PERM", "TEMP"]
Effect = Literal["as meant", "nothing", "less", "too much"]

# No cipher has more, and ENCR:0 would be met by plain text.
MOST_BITS = 256
# X509_NAME_oneline fills a buffer of MAXNAME (256) octets in sendmail: of a longer name only the beginning is compared.
_LONGEST_NAME = 255
# A line of the access map, key and all, is at most 1,022 octets (makemap).
_LONGEST_REQUIREMENT = 700

_KINDS: dict[str, Kind] = {"cn": "CN", "cs": "CS", "ci": "CI", "citag": "CITag"}
_ENCODED = re.compile(r"\+([0-9A-F]{2})")
_ALWAYS_ENCODED = ' \\<>()"+'
_TAG = re.compile(r"[A-Za-z0-9_-]{1,64}")
_DN = re.compile(r"(?:/[A-Za-z][A-Za-z0-9.-]*=[^=]*.*|/[0-9]+(?:\.[0-9]+)+=.*)")
_REQUIREMENT = re.compile(
    r"(?:(?P<on_failure>PERM|TEMP)\+)?(?:(?P<verify>VERIFY)(?::(?P<verify_bits>[^+]*))?|(?P<encr>ENCR):(?P<bits>[^+]*))"
    r"(?:\+(?P<extensions>.*))?",
    re.IGNORECASE | re.ASCII,
)


class BadRequirement(BadParameter):
    """A requirement that sendmail would not read as meant; ``consequence`` says what it would do with it."""

    def __init__(self, problem: str, consequence: str = "") -> None:
        self.consequence = consequence
        super().__init__(
            "requirement",
            problem + (f"; {consequence}" if consequence else ""),
            do="write for example PERM+VERIFY:112+CI:/C=DE/O=Partner/CN=Partner+20CA, or ENCR:112",
        )

    def __reduce__(self) -> tuple[object, ...]:
        return (_again, (self.problem, self.consequence))


def _again(problem: str, consequence: str) -> BadRequirement:
    error = BadRequirement(problem)
    error.consequence = consequence
    return error


@dataclass(frozen=True)
class Extension:
    r"""One more condition. ``CN`` without a value compares the certificate's CN with the name of the other side.

    ``value`` is spelled as sendmail spells what it compares (``names.sendmail_dn``): space, \ < > ( ) " + and what is
    not printable ASCII are ``+HH``. For CITag it is the tag that goes before the issuer's name in the access map.
    Raises BadRequirement.
    """

    kind: Kind
    value: str = ""

    def __post_init__(self) -> None:
        if self.kind not in _KINDS.values():
            raise BadRequirement(f"{shown(self.kind)} is no extension (CN, CS, CI, CITag)")
        if not self.value:
            if self.kind != "CN":
                raise BadRequirement(f"{self.kind} has no value", "sendmail would ignore it")
            return
        if self.kind == "CITag":
            if not _TAG.fullmatch(self.value):
                raise BadRequirement(f"CITag: {shown(self.value)} is not a tag of letters, digits, - and _")
            return
        self._check_spelling()
        if self.kind in ("CS", "CI") and not _DN.fullmatch(self.value):
            raise BadRequirement(f"{self.kind}: {shown(self.value)} is no name of the form /C=.../O=.../CN=...")

    def _check_spelling(self) -> None:
        rest = _ENCODED.sub("", self.value)
        wrong = next((char for char in rest if not "!" <= char <= "~" or char in _ALWAYS_ENCODED), None)
        if wrong is not None:
            how = f"write +{ord(wrong):02X}" if ord(wrong) < 256 else "write its octets as +HH"
            raise BadRequirement(f"{self.kind}: {shown(self.value)} holds {wrong!a} as it is: {how}")
        octets = [int(code, 16) for code in _ENCODED.findall(self.value)]
        needless = next((o for o in octets if o == 0 or (0x21 <= o <= 0x7E and chr(o) not in _ALWAYS_ENCODED)), None)
        if needless is not None:
            raise BadRequirement(
                f"{self.kind}: {shown(self.value)} holds +{needless:02X}, which sendmail does not write so",
                "no certificate would ever match",
            )
        if len(rest) + len(octets) > _LONGEST_NAME:
            raise BadRequirement(f"{self.kind}: {shown(self.value)} is longer than {_LONGEST_NAME} octets")

    def __str__(self) -> str:
        return f"{self.kind}:{self.value}" if self.value else self.kind


@dataclass(frozen=True)
class Requirement:
    """A demand on a connection: a verified certificate or only encryption, and what happens where it is not met.

    ``bits`` is the least effective key length of the cipher (or of SASL's layer); None, for VERIFY only, asks for none.
    ``on_failure``: PERM refuses for good (5xx), TEMP for the time being (4xx); empty leaves it to sendmail's default,
    TEMP unless its cf was built with TLS_PERM_ERR. All ``extensions`` must hold. Raises BadRequirement.
    """

    level: Level
    bits: int | None
    on_failure: OnFailure = ""
    extensions: tuple[Extension, ...] = ()

    def __post_init__(self) -> None:
        if self.level not in ("VERIFY", "ENCR"):
            raise BadRequirement(f"{shown(str(self.level))} is neither VERIFY nor ENCR", _ACCEPTS_ANYTHING)
        if self.on_failure not in ("", "PERM", "TEMP"):
            raise BadRequirement(f"{shown(str(self.on_failure))} is neither PERM nor TEMP", _ACCEPTS_ANYTHING)
        if self.bits is None and self.level == "ENCR":
            raise BadRequirement("ENCR needs a number of bits, such as ENCR:112", _ACCEPTS_ANYTHING)
        if self.bits is not None and (isinstance(self.bits, bool) or not 1 <= self.bits <= MOST_BITS):
            raise BadRequirement(f"{self.bits} bits are not between 1 and {MOST_BITS}")
        kinds = [extension.kind for extension in self.extensions if extension.kind != "CITag"]
        if len(set(kinds)) != len(kinds):
            raise BadRequirement(f"two of one kind cannot both hold: {', '.join(map(str, self.extensions))}")
        if len(str(self)) > _LONGEST_REQUIREMENT or is_too_long(str(self)):
            raise BadRequirement("it is too long for sendmail")

    def __str__(self) -> str:
        text = f"{self.on_failure}+" if self.on_failure else ""
        text += self.level + (f":{self.bits}" if self.bits is not None else "")
        return text + ("+" + "++".join(map(str, self.extensions)) if self.extensions else "")


_ACCEPTS_ANYTHING = "sendmail would accept mail without TLS and without a certificate"


def parse_requirement(text: str) -> Requirement:
    """Read a requirement strictly; upper and lower case of the words do not matter. Raises BadRequirement."""
    try:
        return _parse(text)
    except BadRequirement as error:
        if error.consequence:
            raise
        raise BadRequirement(error.problem, _consequence(text)) from error


def effect(value: str) -> Effect:
    """What sendmail makes of a value that `parse_requirement` refuses, as its rulesets judge two peers.

    ``as meant``: it is only written in another way; ``nothing``: it accepts mail without TLS; ``less``: it demands less
    than the text says; ``too much``: it refuses every peer.
    """
    if _meant(value) is not None:
        return "as meant"
    if _accepts(value, Case("server", _PEER, "192.0.2.1", verify="NONE")):
        return "nothing"
    return "less" if _accepts(value, _best_peer(value)) else "too much"


_CONSEQUENCE: dict[Effect, str] = {
    "nothing": _ACCEPTS_ANYTHING,
    "less": "sendmail would demand less than it says",
    "too much": "sendmail would refuse every peer",
}


_PEER = "peer.invalid"
_EXTENSION_IN_TEXT = re.compile(r"(?:^|\+)(CN|CS|CI):(.*)$", re.IGNORECASE | re.ASCII)


def _best_peer(value: str) -> Case:
    """A peer with the best of everything, whose certificate says what the value asks for, if one can."""
    names: dict[str, str] = {"CN": _PEER}
    for part in value.split("++"):
        if match := _EXTENSION_IN_TEXT.search(part):
            try:
                extension = _extension(f"{match[1]}:{match[2]}")
            except BadRequirement:
                continue
            names[extension.kind] = extension.value
    return Case(
        "server",
        _PEER,
        "192.0.2.1",
        verify="OK",
        bits=MOST_BITS,
        cn_subject=names["CN"],
        cert_subject=names.get("CS", ""),
        cert_issuer=names.get("CI", ""),
    )


def _consequence(value: str) -> str:
    return _CONSEQUENCE.get(effect(value)) or f"sendmail would read it as {_meant(value)}"


def _meant(value: str) -> Requirement | None:
    try:
        requirement = _parse("".join(re.sub(r"\([^()]*\)", "", value).split()))
    except BadRequirement:
        return None
    return requirement if reads_alike(value, str(requirement)) else None


def _accepts(value: str, peer: Case) -> bool:
    # The same in all releases for what matters here; any CITag is taken for known.
    return judge(value, peer, Rulesets((8, 17, 1)), lookup=lambda _key: "OK").accepted


def _parse(text: str) -> Requirement:
    if len(text) > _LONGEST_REQUIREMENT:
        raise BadRequirement(f"{shown(text)} is too long")
    match = _REQUIREMENT.fullmatch(text)
    if match is None:
        if re.fullmatch(r"(?:(?:PERM|TEMP)\+)?ENCR(?:\+.*)?", text, re.IGNORECASE | re.ASCII):
            raise BadRequirement(f"{shown(text)}: ENCR has no bits, such as ENCR:112")
        raise BadRequirement(f"{shown(text)} is not [PERM+|TEMP+] VERIFY[:bits] or ENCR:bits [+extensions]")
    on_failure: OnFailure = "PERM" if (word := (match["on_failure"] or "").upper()) == "PERM" else ""
    return Requirement(
        level="VERIFY" if match["verify"] else "ENCR",
        bits=_bits(match["verify_bits"] if match["verify"] else match["bits"]),
        on_failure="TEMP" if word == "TEMP" else on_failure,
        extensions=tuple(map(_extension, match["extensions"].split("++"))) if match["extensions"] is not None else (),
    )


def _bits(text: str | None) -> int | None:
    if text is None:
        return None
    # A leading 0 would be read as octal.
    if not re.fullmatch("[1-9][0-9]{0,3}", text):
        raise BadRequirement(f"{shown(text)} is no number of bits")
    return int(text)


def _extension(text: str) -> Extension:
    word, colon, value = text.partition(":")
    kind = _KINDS.get(word.lower())
    if kind is None:
        raise BadRequirement(f"{shown(word)} is no extension (CN, CN:, CS:, CI:, CITag:; several are joined by ++)")
    if colon and not value:
        raise BadRequirement(f"{kind}: has no value")
    return Extension(kind, value if kind == "CITag" else _canonical(value))


def _canonical(value: str) -> str:
    return re.sub(r"\+[0-9A-Fa-f]{2}", lambda match: match[0].upper(), value)
