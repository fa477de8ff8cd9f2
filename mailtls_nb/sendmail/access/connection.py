"""What the value of an entry demands of a connection: sendmail's rulesets TLS_connection and TLS_req.

Sources: cf/m4/proto.m4 of 8.15.2, 8.17.1 and 8.18.1, followed rule by rule, so that a value that sendmail
misunderstands is misunderstood here in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from string import ascii_lowercase, ascii_uppercase
from typing import Literal

from mailtls_nb.sendmail.access.case import Case, Decision

# A release of sendmail, such as (8, 17, 1).
Release = tuple[int, ...]

# CITag, {verify}=TRUSTED and DANE came with it (RELEASE_NOTES).
RELEASE_WITH_CITAG: Release = (8, 16, 1)
# From here on a failed DANE check is judged for each recipient, unless the recipient has a requirement of its own.
_RELEASE_WITH_DANE_BY_RECIPIENT: Release = (8, 18)

_ACCEPT = Decision("")
_PERMANENT = Decision("permanent")
_TEMPORARY = Decision("temporary")

# sendmail's prescan: comments go, white space parts, a quoted string is one token, and so is each of OperatorChars
# (.:%@!^/[]+) and of the delimiters that are always there.
_COMMENT = re.compile(r"\([^()]*\)")
_TOKEN = re.compile(r'"(?:\\.|[^"\\])*"?|[.:%@!^/\[\]+()<>,;]|[^.:%@!^/\[\]+()<>,;"\s]+')
# Measured on all three releases: beyond these prescan fails, and the entry counts as if it demanded nothing.
_LONGEST_TOKEN = 255
_LONGEST_TOKENS = 1250  # each with the NUL that ends it
_NUMBER = re.compile(r"([+-]?)(0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")

_FOLD = str.maketrans(ascii_uppercase, ascii_lowercase)

_Tokens = tuple[str, ...]
_AND: _Tokens = ("+", "+")


@dataclass(frozen=True)
class Rulesets:
    """What of a sendmail.cf and its sendmail changes how a requirement is judged.

    ``skip``: FEATURE(`access_db', , `skip'), as in Debian's cf: the value SKIP ends a walk from a name to its parents.
    ``alternative_names``: FEATURE(`check_cert_altnames'), 8.16.1 and later: CN is also compared with the names in the
    certificate's subjectAltName.
    """

    release: Release
    skip: bool = True
    alternative_names: bool = False


def judge(value: str, case: Case, rulesets: Rulesets, *, lookup: Callable[[str], str | None]) -> Decision:
    """What sendmail with these ``rulesets`` decides for ``case`` where the access map gave ``value``.

    ``lookup`` gives the value of another key of the map, or None; CITag asks it for ``tag:issuer``.
    """
    tokens = _tokens(value)
    if is_too_long(value):
        return _ACCEPT
    refused, demand = _temper(tokens)
    if handshake := _failed_handshake(tokens, demand, refused, case, rulesets.release):
        return handshake
    split = _split(demand)
    if split is None:
        return _ACCEPT
    word, bits, extensions = split
    if word == "verify":
        if not _is_verified(case.verify, rulesets.release):
            return refused
        if bits is None and not extensions:
            return _ACCEPT
    if max(case.bits, case.auth_ssf) < _number(bits or "0"):
        return refused
    return _Extensions(case, rulesets, refused, lookup).judge(extensions)


def fold(text: str) -> str:
    """In lower case as sendmail and makemap fold: ASCII letters only."""
    return text.translate(_FOLD)


def is_too_long(value: str) -> bool:
    """Whether sendmail cannot read the value for its length, and so accepts everybody."""
    lengths = [len(token.encode("utf-8", "surrogateescape")) for token in _tokens(value)]
    return sum(lengths) + len(lengths) > _LONGEST_TOKENS or max(lengths, default=0) > _LONGEST_TOKEN


def reads_alike(value: str, other: str) -> bool:
    """Whether sendmail reads both values as the same: case, white space and comments in parentheses do not count."""
    return _tokens(value) == _tokens(other)


def default_decision(case: Case, rulesets: Rulesets) -> Decision:
    """What sendmail decides where no entry was found: only a handshake that failed is refused.

    For a recipient without a requirement the connection was judged before (tls_server); DANE apart, from 8.18 on.
    """
    failures = _handshake_failures(rulesets.release)
    if case.direction == "recipient":
        by_recipient = rulesets.release >= _RELEASE_WITH_DANE_BY_RECIPIENT
        failures = {"DANE_FAIL", "DANE_NOTLS", "DANE_TEMP"} if by_recipient else set()
    return _TEMPORARY if case.verify.upper() in failures else _ACCEPT


def _tokens(text: str) -> _Tokens:
    while (bare := _COMMENT.sub(" ", text)) != text:
        text = bare
    return tuple(_TOKEN.findall(fold(text)))


def _temper(tokens: _Tokens) -> tuple[Decision, _Tokens]:
    """How a failure of this value is refused, and the value from VERIFY or ENCR on; () where it has neither."""
    if tokens[:2] in (("perm", "+"), ("temp", "+")) and tokens[2:3] in (("verify",), ("encr",)):
        return (_PERMANENT if tokens[0] == "perm" else _TEMPORARY), tokens[2:]
    return _TEMPORARY, tokens if tokens[:1] in (("verify",), ("encr",)) else ()


def _handshake_failures(release: Release) -> set[str]:
    failures = {"SOFTWARE", "PROTOCOL"}
    if release >= RELEASE_WITH_CITAG:
        failures |= {"CONFIG"} | ({"DANE_FAIL"} if release < _RELEASE_WITH_DANE_BY_RECIPIENT else set())
    return failures


def _failed_handshake(
    tokens: _Tokens, demand: _Tokens, refused: Decision, case: Case, release: Release
) -> Decision | None:
    if case.verify.upper() not in _handshake_failures(release):
        return None
    if not demand and len(tokens) > 2 and tokens[1] == ":":
        # "ERROR:550 ..." is taken for a reply code and its extended code; what comes out has no code and becomes 553.
        return _PERMANENT
    return refused


def _split(demand: _Tokens) -> tuple[Literal["verify", "encr"], str | None, _Tokens] | None:
    """The word, the bits and the extensions; None for what no rule matches, which sendmail accepts."""
    word: Literal["verify", "encr"] = "verify" if demand[:1] == ("verify",) else "encr"
    rest = demand[1:]
    if demand == ("verify",):
        return word, None, ()
    if word == "verify" and rest[:1] == ("+",) and len(rest) > 1:
        return word, None, rest[1:]
    if rest[:1] == (":",) and len(rest) == 2:
        return word, rest[1], ()
    if rest[:1] == (":",) and len(rest) > 3 and rest[2] == "+":
        return word, rest[1], rest[3:]
    return None


def _is_verified(verify: str, release: Release) -> bool:
    return verify.upper() == "OK" or (verify.upper() == "TRUSTED" and release >= RELEASE_WITH_CITAG)


def _number(text: str) -> int:
    """As strtol with base 0 reads it, which the map ``arith`` uses: 0x80 is 128, 0112 is 74, "strong" is 0."""
    match = _NUMBER.match(text)
    if match is None:
        return 0
    digits = match[2]
    base = 16 if digits.startswith("0x") else 8 if digits.startswith("0") else 10
    return int(match[1] + digits, base)


@dataclass(frozen=True)
class _Extensions:
    """The ruleset TLS_req: all conditions must hold, but one that no rule knows ends the list and is accepted."""

    case: Case
    rulesets: Rulesets
    refused: Decision
    lookup: Callable[[str], str | None]

    def judge(self, tokens: _Tokens) -> Decision:
        if tokens[-2:] == _AND:
            return _ACCEPT
        for extension in _split_extensions(tokens):
            decision = self._judge_one(extension)
            if decision is not None:
                return decision
        return _ACCEPT

    def _judge_one(self, extension: _Tokens) -> Decision | None:
        """None where this one holds and the next one counts."""
        if extension == ("cn",):
            extension = ("cn", ":", *_tokens(self.case.peer))
        if self.rulesets.alternative_names and extension[:2] == ("cn", ":"):
            if self._is_alternative_name(extension[2:]):
                return None
            if extension[3:4] == (".",) and self._is_alternative_name(("*", *extension[3:])):
                # What follows a name found by wildcard is not looked at: the ruleset passes on the wrong part.
                return _ACCEPT
            # A name given in the entry is dropped for the name of the other side.
            extension = ("cn", ":", *_tokens(self.case.peer))
        if self.rulesets.release >= RELEASE_WITH_CITAG:
            if len(extension) == 3 and extension[:2] == ("citag", ":"):
                found = self.lookup(f"{extension[2]}:{self.case.cert_issuer}")
                extension = ("?",) if found is None else _tokens(found)
            if extension in (("ok",), ("?",)):
                return None if extension == ("ok",) else self.refused
        actual = {"cn": self.case.cn_subject, "cs": self.case.cert_subject, "ci": self.case.cert_issuer}
        if extension[:1] not in (("cn",), ("cs",), ("ci",)) or extension[1:2] != (":",):
            return _ACCEPT
        if extension[2:] == _tokens(actual[extension[0]]):
            return None
        return self.refused if len(extension) > 2 else _ACCEPT

    def _is_alternative_name(self, name: _Tokens) -> bool:
        return any(_tokens(alternative) == name for alternative in self.case.alternative_names)


def _split_extensions(tokens: _Tokens) -> list[_Tokens]:
    found = []
    start = 0
    for at in range(1, len(tokens) - 2):
        if tokens[at : at + 2] == _AND and at > start:
            found.append(tokens[start:at])
            start = at + 2
    return [*found, tokens[start:]] if tokens else []
