"""A linter for access maps: entries that fail open, never count, or stop more mail than meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Literal

from mailtls_nb.names import shown
from mailtls_nb.sendmail.access.case import Case
from mailtls_nb.sendmail.access.connection import RELEASE_WITH_CITAG, Release, fold
from mailtls_nb.sendmail.access.entries import FEATURE_TAGS, TLS_TAGS, Entry, Line, is_loopback, read_access
from mailtls_nb.sendmail.access.lookup_names import never_looked_up
from mailtls_nb.sendmail.access.model import address_and_prefixes, find, name_and_parents
from mailtls_nb.sendmail.access.requirement import BadRequirement, Requirement, effect, parse_requirement

Severity = Literal["error", "warning"]

# Tags of rulesets that have nothing to do with TLS rules (cf/README, "Anti-spam configuration control").
_OTHER_TAGS = (
    "connect",
    "from",
    "to",
    "spam",
    "greetpause",
    "clientrate",
    "clientconn",
    "authinfo",
    "certissuer",
    "certsubject",
)
_EXEMPTIONS = ("ok", "skip")
_LIKE_REQUIREMENT = re.compile("verify|encr", re.IGNORECASE)
_ADDRESS = re.compile(r"(?:[0-9.]+|ipv6:[0-9a-f:]+)", re.IGNORECASE | re.ASCII)
# op.me, srv_features: words of one letter; since 8.18.1 a digit may follow.
_FEATURE_WORDS = re.compile(r"[A-Za-z][0-9]?(?:[ \t,]+[A-Za-z][0-9]?)*")
_SESSION_FEATURES = re.compile(r'"?\s*(?:[A-Za-z]+\s*=[^;]*;?\s*)+"?')


@dataclass(frozen=True)
class Finding:
    """Something wrong in an access map. An error fails open: mail that the entry was to hold back goes through.

    ``key`` is empty for a line that is no entry: what stands there may be a password.
    """

    severity: Severity
    file: str
    line: int
    key: str
    what: str
    do: str

    def __str__(self) -> str:
        subject = f"{self.key} {self.what}" if self.key else self.what
        return f"{self.file}, line {self.line}: {self.severity}: {subject}. {self.do}."


@dataclass(frozen=True)
class LintContext:
    """What is known of the world; None, or a missing key, where it is not.

    ``public``: whether the server takes mail from everybody. ``addresses`` gives the addresses of a host name, as
    sendmail writes them; ``reverse_names`` the reverse name of an address, empty where there is none. Names are in
    lower case and have no final dot.
    """

    release: Release | None = None
    access_db: bool | None = None
    public: bool | None = None
    addresses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    reverse_names: Mapping[str, str] = field(default_factory=dict)


def lint(access: bytes, *, file: str, context: LintContext) -> tuple[Finding, ...]:
    """All findings, in the order of the file. Never raises, whatever the bytes."""
    findings = _Linter(read_access(access), file, context).findings()
    return tuple(sorted(findings, key=lambda finding: (finding.line, finding.severity)))


class _Linter:
    def __init__(self, lines: tuple[Line, ...], file: str, context: LintContext) -> None:
        self.lines, self.file, self.context = lines, file, context
        self.entries = [line.entry for line in lines if line.entry is not None]
        # Of entries with one key the first counts.
        self.by_key: dict[str, Entry] = {}
        for entry in self.entries:
            self.by_key.setdefault(entry.key, entry)
        self.values = {key: entry.value for key, entry in self.by_key.items()}
        self.requirements = {
            key: requirement
            for key, entry in self.by_key.items()
            if entry.is_tls and (requirement := _requirement(entry.value)) is not None
        }

        self.values_by_address = {
            fold(entry.value)
            for entry in self.entries
            if entry.tag == "TLS_Clt" and _ADDRESS.fullmatch(entry.name) and not is_loopback(entry.name)
        }

    def findings(self) -> Iterator[Finding]:
        yield from self._broken_lines()
        yield from self._dead_map()
        for entry in self.entries:
            if self.by_key[entry.key].line != entry.line:
                yield self._double(entry)
            elif entry.tag not in (*TLS_TAGS, *FEATURE_TAGS):
                yield from self._strange_tag(entry)
            elif problem := never_looked_up(entry.tag, entry.name):
                yield self._error(entry, f"is never looked up: {problem}", "Write the name as sendmail looks it up")
            elif entry.is_tls:
                yield from self._tls_entry(entry)
            else:
                yield from self._feature(entry)

    def _error(self, entry: Entry, what: str, do: str) -> Finding:
        return Finding("error", self.file, entry.line, entry.written_key, what, do)

    def _warning(self, entry: Entry, what: str, do: str) -> Finding:
        return Finding("warning", self.file, entry.line, entry.written_key, what, do)

    def _broken_lines(self) -> Iterator[Finding]:
        for line in self.lines:
            if line.kind == "broken":
                severity: Severity = "error" if b"tls" in line.raw.lower() else "warning"
                what = f"makemap reports an error and leaves this line out ({line.problem})"
                yield Finding(severity, self.file, line.number, "", what, "Put the line right, or make it a comment")

    def _dead_map(self) -> Iterator[Finding]:
        dead = [entry for entry in self.entries if entry.tag in (*TLS_TAGS, *FEATURE_TAGS)]
        if dead and self.context.access_db is False:
            what = (
                f"and all other TLS entries of this file ({len(dead)} in all) are dead: sendmail.cf has no access map"
            )
            yield self._error(dead[0], what, "Put FEATURE(`access_db') into sendmail.mc and build sendmail.cf")

    def _double(self, entry: Entry) -> Finding:
        first = self.by_key[entry.key]
        what = f"stands in line {first.line} already; makemap reports an error and keeps that one"
        differs = entry.is_tls and first.value != entry.value
        return (self._error if differs else self._warning)(entry, what, "Remove one of the two lines")

    def _strange_tag(self, entry: Entry) -> Iterator[Finding]:
        if fold(entry.tag) in _OTHER_TAGS:
            return
        known = {fold(tag): tag for tag in (*TLS_TAGS, *FEATURE_TAGS)}
        close = difflib.get_close_matches(fold(entry.tag), known, n=1, cutoff=0.75) if entry.tag else []
        if close:
            what = f"has a tag that no ruleset looks up; {known[close[0]]} is one"
        elif _requirement(entry.value) is not None:
            what = "has a requirement as its value, but not one of the tags that ask for one"
        else:
            return
        tags = known[close[0]] if close else ", ".join(TLS_TAGS)
        yield self._error(entry, what, f"Write {tags} before the colon")

    def _tls_entry(self, entry: Entry) -> Iterator[Finding]:
        requirement = _requirement(entry.value)
        if requirement is None:
            yield from self._bad_value(entry)
            return
        yield from self._identity(entry, requirement)
        yield from self._override(entry)
        if not entry.name:
            yield from self._bare_tag(entry)
        elif entry.tag == "TLS_Clt":
            yield from self._name_and_addresses(entry)

    def _bad_value(self, entry: Entry) -> Iterator[Finding]:
        if fold(entry.value) in _EXEMPTIONS:
            if not is_loopback(entry.name):
                what = (
                    f"has the value {entry.value}, which demands nothing, even where a shorter name demands something"
                )
                yield self._warning(entry, what, "Remove the line, unless this exemption is meant")
            return
        try:
            parse_requirement(entry.value)
        except BadRequirement as error:
            opens = effect(entry.value) in ("nothing", "less")
            yield (self._error if opens else self._warning)(
                entry, f"has a value that is no requirement: {error.problem}", "Write for example PERM+VERIFY:112"
            )

    def _identity(self, entry: Entry, requirement: Requirement) -> Iterator[Finding]:
        kinds = [extension.kind for extension in requirement.extensions]
        if requirement.level == "VERIFY" and not {"CI", "CITag"} & set(kinds):
            whose = "" if {"CN", "CS"} & set(kinds) else ", whatever its name"
            what = f"is satisfied by a certificate of any CA that this host trusts{whose}"
            yield self._warning(entry, what, "Name the CA that the partner uses, with CI:")
        for position, extension in enumerate(requirement.extensions):
            if extension.kind != "CITag":
                continue
            if self.context.release is not None and self.context.release < RELEASE_WITH_CITAG:
                what = (
                    f"uses CITag, which sendmail {'.'.join(map(str, self.context.release))} ignores with all after it"
                )
                yield self._error(entry, what, "Use CI: with the issuer's name; CITag came with 8.16.1")
            tagged = [found for found in self.entries if fold(found.tag) == fold(extension.value)]
            if not tagged:
                what = f"refuses every peer: there is no entry {extension.value}:issuer"
                yield self._warning(entry, what, f"Add {extension.value}:/C=.../CN=... with the value OK")
            for found in tagged:
                if fold(found.value) != "ok" and position + 1 < len(requirement.extensions):
                    what = f"checks nothing after CITag, since line {found.line} does not have the value OK"
                    yield self._error(entry, what, "Put CITag last, or give that line the value OK")

    def _override(self, entry: Entry) -> Iterator[Finding]:
        names = [*_broader(entry)]
        reverse_name = self.context.reverse_names.get(entry.name, "") if entry.tag == "TLS_Clt" else ""
        for name in (*name_and_parents(reverse_name), *names):
            other = self.by_key.get(fold(f"{entry.tag}:{name}"))
            if other is None or fold(other.value) == fold(entry.value):
                continue
            if name in names:
                what = f"overrides line {other.line} ({other.written_key}), which demands something else"
            else:
                what = f"does not count for {reverse_name}: line {other.line} ({other.written_key}) is found before it"
            yield self._warning(entry, what, "Give both the same value, unless the difference is meant")
            return

    def _bare_tag(self, entry: Entry) -> Iterator[Finding]:
        if self.context.public is not False:
            what = {
                "TLS_Clt": "demands this of everybody, which a server for the public must not do (RFC 3207, 4)",
                "TLS_Srv": "demands this of every server, so that mail to the others stays or comes back",
                "TLS_Rcpt": "demands this for every recipient, so that mail to the others stays or comes back",
            }[entry.tag]
            yield self._warning(entry, what, "Name the partners, or make sure that all peers can satisfy it")
        local = Case("server", "localhost", "127.0.0.1", verify="NONE")
        if entry.tag == "TLS_Clt" and find(self.values, local) == entry.key:
            what = "also stops what programs on this host submit to 127.0.0.1"
            yield self._warning(entry, what, "Add TLS_Clt:127.0.0.1 with the value OK")

    def _name_and_addresses(self, entry: Entry) -> Iterator[Finding]:
        name = fold(entry.name)
        if _ADDRESS.fullmatch(name) or name.startswith("[") or never_looked_up(entry.tag, name):
            return
        addresses = self.context.addresses.get(name, ())
        open_addresses = [address for address in addresses if not self._has_rule(address)]
        for address in open_addresses:
            reverse_name = self.context.reverse_names.get(address)
            if reverse_name is not None and name not in name_and_parents(fold(reverse_name)):
                is_called = f"has the reverse name {shown(reverse_name)}" if reverse_name else "has no reverse name"
                what = f"does not count for its address {address}, which {is_called}"
                yield self._error(entry, what, f"Add TLS_Clt:{address} with the same value, or use the reverse name")
        if open_addresses or (not addresses and fold(entry.value) not in self.values_by_address):
            what = "is a rule by name alone: a client whose reverse lookup fails is not held to it"
            which = (
                ", ".join(f"TLS_Clt:{address}" for address in open_addresses) or "TLS_Clt: with each of its addresses"
            )
            yield self._warning(entry, what, f"Add {which}")

    def _has_rule(self, address: str) -> bool:
        return any(fold(f"TLS_Clt:{prefix}") in self.requirements for prefix in address_and_prefixes(address))

    def _feature(self, entry: Entry) -> Iterator[Finding]:
        if entry.tag == "Try_TLS":
            if fold(entry.value) != "no":
                what = f"has the value {shown(entry.value)}: only NO means anything, so STARTTLS is used"
                yield self._warning(entry, what, "Write NO, or remove the line")
            elif fold(f"TLS_Srv:{entry.name}") in self.requirements:
                what = "forbids the STARTTLS that the TLS_Srv entry of that name demands, so no mail goes there"
                yield self._warning(entry, what, "Remove one of the two")
            return
        wanted = _SESSION_FEATURES if entry.tag.startswith("TLS_") else _FEATURE_WORDS
        if not wanted.fullmatch(entry.value):
            form = "Name=value; pairs" if wanted is _SESSION_FEATURES else "single letters, separated by spaces"
            what = f"has a value that is not {form}: sendmail ignores what it does not know"
            yield self._warning(entry, what, "See op.me, srv_features and tls_srv_features, for what it may be")


def _requirement(value: str) -> Requirement | None:
    if not _LIKE_REQUIREMENT.search(value):
        return None  # an access map may have very many lines, and the parser's errors are worked out at length
    try:
        return parse_requirement(value)
    except BadRequirement:
        return None


def _broader(entry: Entry) -> Iterator[str]:
    """The names that would be looked up next if the entry were not there, without the bare tag."""
    user, at, domain = entry.name.rpartition("@")
    if at:
        yield from (f"{user}@", *name_and_parents(domain)) if domain else ()
        return
    names = address_and_prefixes(entry.name) if _ADDRESS.fullmatch(entry.name) else name_and_parents(entry.name)
    yield from (name for name in names if name != entry.name)
