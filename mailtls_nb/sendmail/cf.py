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


# Kinds that makemap makes (makemap(8)), with the ending of the file that sendmail opens; of dbm there are two files.
_MADE_BY_MAKEMAP = {"hash": ".db", "btree": ".db", "cdb": ".cdb", "dbm": ".pag"}

# "Kname class flags file" (Sendmail Installation and Operation Guide, 5.11); each flag is one word.
_ACCESS_LINE = re.compile(
    rb"^(?P<start>Kaccess[ \t]+(?P<kind>\S+)(?P<flags>(?:[ \t]+-\S*)*))(?:[ \t]+(?P<path>[^-\s][^\r\n]*?))?[ \t\r]*$",
    re.MULTILINE,
)


@dataclass(frozen=True)
class AccessDatabase:
    """The map of FEATURE(access_db): ``kind`` such as hash, cdb or ldap, ``path`` as the cf names it.

    ``optional``: sendmail starts and looks nothing up where the file is missing (flag -o).
    """

    kind: str
    path: str
    optional: bool

    @property
    def made_by_makemap(self) -> bool:
        """Whether ``makemap kind database < text`` makes it; an ldap or sequence map has no text file."""
        return self.kind in _MADE_BY_MAKEMAP and self.path.startswith("/")

    @property
    def text(self) -> str:
        """The file that makemap is fed, where Debian, Red Hat and cf/README have it: the path without its ending."""
        return self.path.removesuffix(_MADE_BY_MAKEMAP.get(self.kind, ""))

    @property
    def endings(self) -> tuple[str, ...]:
        """The endings of all files that makemap makes."""
        return (".pag", ".dir") if self.kind == "dbm" else (_MADE_BY_MAKEMAP.get(self.kind, ""),)

    @property
    def database(self) -> str:
        """The file that makemap makes and sendmail opens, whether the path names its ending or not."""
        return self.text + _MADE_BY_MAKEMAP.get(self.kind, "")


def access_database(cf: bytes) -> AccessDatabase | None:
    """The access map of a built cf, None without FEATURE(access_db): then no entry of it means anything."""
    lines = list(_ACCESS_LINE.finditer(cf))
    if not lines:
        return None
    found = lines[-1]
    kind, path = (part.decode("utf-8", "surrogateescape") for part in (found["kind"], found["path"] or b""))
    return AccessDatabase(kind, path, optional=b"-o" in found["flags"].split())


def with_access_path(cf: bytes, path: str) -> bytes:
    """A cf whose access map is looked for at ``path``, all else as it is."""
    return _ACCESS_LINE.sub(lambda line: line["start"] + b" " + path.encode(), cf)
