"""Names in the access map that sendmail never looks up, however right they look."""

from __future__ import annotations

import ipaddress
import re

from mailtls_nb.errors import BadParameter
from mailtls_nb.sendmail.access.connection import fold
from mailtls_nb.sendmail.access.entries import address_names

_HOST = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
_NUMERIC = re.compile(r"[0-9.]+")
_HEX_GROUPS = re.compile(r"[0-9a-f:]*:[0-9a-f:]*")
_SHOWN_NAMES = 4


def never_looked_up(tag: str, name: str) -> str:
    """Why no lookup under ``tag`` ever asks for ``name``, with what to write instead; empty where one may.

    By the rulesets D and A (hosts and addresses) and F, U and D (recipients) of cf/m4/proto.m4.
    """
    folded = fold(name)
    if not name or (tag == "TLS_Rcpt" and "@" in folded):
        return _recipient_problem(folded) if name else ""
    if "@" in folded:
        return "it is a mail address, and hosts are looked up by name and address"
    problem, is_address = _address_problem(folded)
    if is_address:
        return problem or ("recipients are looked up by mail address and domain" if tag == "TLS_Rcpt" else "")
    return _host_problem(folded)


def _recipient_problem(name: str) -> str:
    user, _, domain = name.rpartition("@")
    if not user:
        return f"it begins with @: write the domain alone ({domain})"
    return _host_problem(domain) if domain and not domain.startswith("[") else ""


def _host_problem(name: str) -> str:
    if name.startswith(("*.", ".")):
        return f"it is no pattern: write {name.lstrip('*.')}, which covers all hosts below it"
    if name.endswith("."):
        return "names are looked up without a dot at the end"
    return "" if _HOST.fullmatch(name) else "no host has such a name"


def _address_problem(name: str) -> tuple[str, bool]:
    """What is wrong with an address, and whether it is one at all."""
    if "/" in name:
        names = _names_of(name.removeprefix("ipv6:"))
        return f"prefixes are looked up by whole octets or groups: write {names}", bool(names)
    if name.startswith("[") and name.endswith("]"):
        return "", True
    if name.startswith("ipv6:"):
        return ("" if _is_spelled(name, 8) else _in_full(name.removeprefix("ipv6:"))), True
    if _NUMERIC.fullmatch(name):
        return ("" if _is_spelled(name, 4) else "it is no address as sendmail writes one, nor its first octets"), True
    if _HEX_GROUPS.fullmatch(name):
        return _in_full(name), True
    return "", False


def _is_spelled(name: str, most: int) -> bool:
    parts = name.removeprefix("ipv6:").split(":" if most == 8 else ".")
    if len(parts) > most:
        return False
    if most == 4:
        return all(part.isdecimal() and part == str(int(part)) and int(part) < 256 for part in parts)
    return all(re.fullmatch("0|[1-9a-f][0-9a-f]{0,3}", part) for part in parts)


def _in_full(address: str) -> str:
    try:
        names = ", ".join(address_names(str(ipaddress.IPv6Address(address))))
    except ValueError:
        return (
            "IPv6 addresses are looked up in full, without ::, as in IPv6:2001:db8:0:0:0:0:0:1, or their first groups"
        )
    return f"IPv6 addresses are looked up in full: write {names}"


def _names_of(prefix: str) -> str:
    try:
        names = address_names(prefix)
    except BadParameter:
        return ""
    return ", ".join(names[:_SHOWN_NAMES]) + (", ..." if len(names) > _SHOWN_NAMES else "")
