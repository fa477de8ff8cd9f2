"""Reading a built sendmail.cf, and what m4 said while building it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

# "O Name=value" (Sendmail Installation and Operation Guide, 5.6); other lines with O are the old one-letter options.
_OPTION = re.compile(rb"^O[ \t]+([A-Za-z][A-Za-z0-9]*)[ \t]*=?[ \t]*([^\r\n]*?)[ \t\r]*$", re.MULTILINE)


def option_values(cf: bytes, name: str) -> tuple[str, ...]:
    """All values of one option, in order: DaemonPortOptions may stand there several times."""
    return tuple(
        value.decode("utf-8", "surrogateescape") for key, value in _OPTION.findall(cf) if key.decode("ascii") == name
    )


def options(cf: bytes) -> dict[str, str]:
    """The options that are set; of one set twice the last counts, as for sendmail."""
    return {key.decode("ascii"): value.decode("utf-8", "surrogateescape") for key, value in _OPTION.findall(cf)}


def differing_options(cf: bytes, expected: Mapping[str, str]) -> tuple[str, ...]:
    """One sentence for each expected option that the cf does not set to its value."""
    found = options(cf)
    return tuple(
        f"{name} is {found[name]!r} where {value!r} is expected"
        if name in found
        else f"{name} is not set where {value!r} is expected"
        for name, value in expected.items()
        if found.get(name) != value
    )


@dataclass(frozen=True)
class Listener:
    """Where the daemon takes mail: an address to connect to from the host itself, and a port."""

    address: str
    port: int


_PORTS = {"smtp": 25, "mta": 25, "submission": 587, "msa": 587, "smtps": 465, "submissions": 465}


def smtp_listener(cf: bytes) -> Listener:
    """The daemon's first listener, port 25 preferred; 127.0.0.1 where it takes any address."""
    listeners = []
    for value in option_values(cf, "DaemonPortOptions"):
        fields: dict[str, str] = {}
        for part in value.split(","):
            key, _, setting = part.strip().partition("=")
            # sendmail looks at the first letter of each key only.
            fields[key[:1].upper()] = setting.strip()
        family_is_6 = fields.get("F", "").lower() in ("inet6", "ipv6")
        address = fields.get("A", "")
        if address in ("", "0.0.0.0", "::", "IPv6:::"):  # noqa: S104  # read, not bound
            address = "::1" if family_is_6 else "127.0.0.1"
        port = fields.get("P", "smtp").lower()
        number = int(port) if port.isdigit() else _PORTS.get(port, 25)
        listeners.append(Listener(address.removeprefix("IPv6:").strip("[]"), number))
    for listener in listeners:
        if listener.port == 25:
            return listener
    return listeners[0] if listeners else Listener("127.0.0.1", 25)


_M4_COMPLAINT = re.compile(r"^\S*m4:", re.MULTILINE)


def m4_errors(output: str) -> tuple[str, ...]:
    """The lines of m4's error output that mean failure; m4 itself ends with status 0 on sendmail's ``*** ERROR``."""
    return tuple(
        line.strip()
        for line in output.splitlines()
        if "*** ERROR" in line or (_M4_COMPLAINT.match(line) and "warning:" not in line.lower())
    )


def m4_remarks(output: str) -> tuple[str, ...]:
    """Other lines of m4's error output, such as ``*** WARNING``."""
    errors = m4_errors(output)
    return tuple(line.strip() for line in output.splitlines() if line.strip() and line.strip() not in errors)
