"""The access map's source file, line by line, and entries for it.

Lines are taken apart as makemap takes them (makemap/makemap.c, measured on 8.15.2, 8.17.1 and 8.18.1): the key ends at
the first white space, ``#`` begins a comment only at the start of a line, quotes mean nothing, the key is folded to
lower case, everything after the white space is the value.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from mailtls_nb.errors import BadParameter
from mailtls_nb.names import hostname, shown
from mailtls_nb.sendmail.access.connection import fold
from mailtls_nb.sendmail.access.requirement import Requirement

TLS_TAGS = ("TLS_Clt", "TLS_Srv", "TLS_Rcpt")
# How STARTTLS is used with a host at all (op.me, "STARTTLS").
FEATURE_TAGS = ("Try_TLS", "Srv_Features", "Clt_Features", "TLS_Srv_Features", "TLS_Clt_Features")
_SPELLING = {tag.lower(): tag for tag in (*TLS_TAGS, *FEATURE_TAGS)}

# makemap reads into a buffer of 1,024 octets: the line, its line break and a NUL.
LONGEST_LINE = 1022
# Any word that is no requirement demands nothing.
EXEMPT = "OK"
_IPV6_LOOPBACK = "IPv6:0:0:0:0:0:0:0:1"
# An address prefix becomes so many entries at most.
MOST_NAMES = 256
# C's isspace in the locale that makemap runs in.
_WHITE = b" \t\n\v\f\r"
_ENTRY = re.compile(rb"([^ \t\n\v\f\r]+)[ \t\v\f\r]+(.*)", re.DOTALL)
_TAG = re.compile(r"([A-Za-z][A-Za-z0-9_-]*):(.*)", re.DOTALL)
_USER = re.compile(r"[A-Za-z0-9._+=-]{1,64}")
_OCTET = "(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_GROUP = "(?:0|[1-9a-f][0-9a-f]{0,3})"
_IPV4_NAME = re.compile(rf"{_OCTET}(?:\.{_OCTET}){{0,3}}")
_IPV6_NAME = re.compile(rf"ipv6:{_GROUP}(?::{_GROUP}){{0,7}}", re.IGNORECASE | re.ASCII)


@dataclass(frozen=True)
class Entry:
    """One entry: ``tag:name`` and its value. A bare tag has no name, an old-style entry no tag.

    ``line`` is its line in the file, counted from 1; 0 for an entry that is not from a file. The value is not in the
    repr, since an access map may hold passwords (AuthInfo).
    """

    tag: str
    name: str
    value: str = field(repr=False)
    line: int = field(default=0, compare=False)

    @property
    def written_key(self) -> str:
        return f"{self.tag}:{self.name}" if self.tag else self.name

    @cached_property
    def key(self) -> str:
        """The key as makemap stores it, and as sendmail looks it up: in lower case."""
        return fold(self.written_key)

    @property
    def is_tls(self) -> bool:
        """Whether the value is a requirement (TLS_Clt, TLS_Srv, TLS_Rcpt)."""
        return self.tag in TLS_TAGS

    def __str__(self) -> str:
        return f"{self.written_key}\t{self.value}"


@dataclass(frozen=True)
class Line:
    """One line of the file: ``raw`` is what stands there, line break and all.

    ``problem`` says why makemap refuses the line, with which it leaves the whole run with an error.
    """

    number: int
    raw: bytes = field(repr=False)
    kind: Literal["entry", "comment", "blank", "broken"]
    entry: Entry | None = None
    problem: str = ""


def read_access(access: bytes, *, first_line: int = 1) -> tuple[Line, ...]:
    """All lines of the file, or of a part that begins at ``first_line``. Never raises.

    Their ``raw`` joined is the file again, byte for byte.
    """
    return tuple(_line(number, raw) for number, raw in enumerate(_raw_lines(access), start=first_line))


def access_entries(access: bytes) -> tuple[Entry, ...]:
    """The entries that makemap finds in the file, in their order, doubles among them."""
    return tuple(line.entry for line in read_access(access) if line.entry is not None)


def tls_entry(tag: str, name: str, requirement: Requirement) -> Entry:
    """An entry that demands ``requirement`` of the peers or recipients of that name; an empty name is the bare tag.

    Raises BadParameter for another tag, or for a name that sendmail would never look up under it.
    """
    if tag not in TLS_TAGS:
        raise BadParameter("tag", f"{shown(tag)} is none of {', '.join(TLS_TAGS)}")
    return _checked(Entry(tag, _name(tag, name), str(requirement)))


def no_tls_entry(name: str) -> Entry:
    """An entry that keeps sendmail from using STARTTLS with the servers of that name (``Try_TLS:name NO``)."""
    return _checked(Entry("Try_TLS", _name("Try_TLS", name), "NO"))


def exempt_entry(tag: str, name: str) -> Entry:
    """An entry that lets programs on the host itself through where a bare tag would stop them; for loopback only."""
    if tag not in TLS_TAGS or not is_loopback(name):
        raise BadParameter("name", f"{shown(name)} is no address of the host itself, so it is not exempted from {tag}")
    return _checked(Entry(tag, _name(tag, name), EXEMPT))


def is_loopback(name: str) -> bool:
    """Whether a name in the access map is that of the host itself: 127, 127.0.0.1, IPv6:...:1, localhost."""
    if _IPV4_NAME.fullmatch(name):
        return name.split(".")[0] == "127"
    return fold(name) in (fold(_IPV6_LOOPBACK), "localhost")


def address_names(text: str, *, parameter: str = "addresses") -> tuple[str, ...]:
    """Addresses and prefixes, separated by commas, as the names that sendmail looks up.

    sendmail strips an address octet by octet (IPv6: group by group, written in full, as in ``IPv6:2001:db8:0:0``), so
    a prefix that ends elsewhere becomes several names: 192.0.2.0/23 is 192.0.2 and 192.0.3. Raises BadParameter for
    what is no address, has bits set behind the prefix, or would need more than 256 names.
    """
    if not text:
        return ()
    names: dict[str, None] = {}
    for item in text.split(","):
        names |= dict.fromkeys(_prefix_names(parameter, item.strip(" ")))
    return tuple(names)


def _raw_lines(access: bytes) -> Iterator[bytes]:
    start = 0
    while start < len(access):
        end = access.find(b"\n", start) + 1 or len(access)
        yield access[start:end]
        start = end


def _line(number: int, raw: bytes) -> Line:
    text = raw.removesuffix(b"\n")
    if not text:
        return Line(number, raw, "blank")
    if text.startswith(b"#"):
        return Line(number, raw, "comment")
    problem = _problem(text)
    match = _ENTRY.fullmatch(text)
    if problem or match is None or not match[2]:
        return Line(number, raw, "broken", problem=problem or "no value after the key")
    return Line(number, raw, "entry", entry=_entry(match[1], match[2], number))


def _problem(text: bytes) -> str:
    if b"\0" in text:
        return "a NUL: what follows is not read"
    if len(text) > LONGEST_LINE:
        return f"longer than {LONGEST_LINE} octets"
    if text[:1] in _WHITE:
        return "white space at the start of a line with text" if text.strip(_WHITE) else "white space on a blank line"
    return ""


def _entry(key: bytes, value: bytes, number: int) -> Entry:
    # sendmail takes white space round a value for nothing, so for one with CR LF.
    written, text = (part.decode("utf-8", "surrogateescape") for part in (key, value.rstrip(_WHITE)))
    match = _TAG.fullmatch(written)
    if match is None or match[1].lower() == "ipv6":
        return Entry("", written, text, number)
    return Entry(_SPELLING.get(match[1].lower(), match[1]), match[2], text, number)


def _checked(entry: Entry) -> Entry:
    """The entry, if its line is read back as what it is: the last guard against text that breaks out of its place."""
    line = f"{entry}\n".encode("ascii", "replace")
    if access_entries(line) != (entry,) or len(line) > LONGEST_LINE:
        raise BadParameter("entry", f"{shown(str(entry))} cannot be written into an access map")
    return entry


def _name(tag: str, name: str) -> str:
    if not name:
        return name
    if not name.isascii():
        raise BadParameter("name", f"{shown(name)} is not ASCII", do="write internationalised names as A-labels (xn--)")
    if "@" in name:
        return _recipient_name(tag, name)
    if _IPV4_NAME.fullmatch(name) or _IPV6_NAME.fullmatch(name):
        if tag == "TLS_Rcpt":
            raise BadParameter("name", f"{shown(name)} is an address; {tag} is looked up by the recipient's domain")
        return "IPv6:" + name[5:].lower() if name[:5].lower() == "ipv6:" else name
    return _domain(name)


def _domain(name: str) -> str:
    # A parent domain may be a single label, such as "test".
    return hostname("name", f"any.{name}").removeprefix("any.")


def _recipient_name(tag: str, name: str) -> str:
    user, _, domain = name.partition("@")
    if tag != "TLS_Rcpt":
        raise BadParameter("name", f"{shown(name)} is a mail address; {tag} is looked up by host")
    if not _USER.fullmatch(user):
        raise BadParameter("name", f"{shown(name)}: the part before @ is not one of letters, digits and . _ + = -")
    return f"{user}@{_domain(domain)}" if domain else name


def _prefix_names(parameter: str, item: str) -> Iterator[str]:
    network = _network(parameter, item)
    step, shortest = (8, 8) if network.version == 4 else (16, 16)
    if network.prefixlen < shortest:
        raise BadParameter(
            parameter,
            f"{shown(item)} takes in too much of the internet",
            do=f"give prefixes of /{shortest} or longer",
        )
    border = -(-network.prefixlen // step) * step
    if (count := 1 << (border - network.prefixlen)) > MOST_NAMES:
        raise BadParameter(
            parameter,
            f"{shown(item)} would need {count} entries: sendmail looks addresses up only by whole octets or groups",
            do=f"give the prefix as /{border - step} or as the /{border} prefixes that are in use",
        )
    for subnet in network.subnets(new_prefix=border):
        yield _looked_up(subnet.network_address, border // step)


def _network(parameter: str, item: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network:
    try:
        if not re.fullmatch(r"[0-9A-Fa-f.:]+(?:/[0-9]{1,3})?", item):
            raise ValueError("an address or address/length is needed")  # noqa: TRY301
        network = ipaddress.ip_network(item)
    except ValueError as error:
        reason = str(error).replace(item, shown(item)) if item.isprintable() else "an address is needed"
        raise BadParameter(parameter, f"{shown(item)} is no IP address or prefix: {reason}") from error
    if isinstance(network, ipaddress.IPv6Network) and (mapped := network.network_address.ipv4_mapped):
        # sendmail writes such an address as the IPv4 address in it.
        if network.prefixlen < 96:
            raise BadParameter(parameter, f"{shown(item)} takes in all IPv4 addresses")
        return ipaddress.ip_network((mapped, network.prefixlen - 96))
    return network


def _looked_up(address: ipaddress.IPv4Address | ipaddress.IPv6Address, parts: int) -> str:
    if isinstance(address, ipaddress.IPv4Address):
        return ".".join(str(address).split(".")[:parts])
    groups = [f"{int(group, 16):x}" for group in address.exploded.split(":")]
    return "IPv6:" + ":".join(groups[:parts])
