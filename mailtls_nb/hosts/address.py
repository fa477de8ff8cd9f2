"""Addresses of hosts, as operators write them in parameters."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from typing import Literal

from mailtls_nb.errors import BadParameter

Kind = Literal["testbed", "local", "docker", "podman", "ssh"]

_TESTBED_HOSTS = ("relay", "partner", "stranger")
_FORMS = "testbed:relay, local, docker://NAME, podman://NAME or ssh://[user@]host[:port], with ?sudo=yes for sudo"
_SUDO = "?sudo=yes"
# What Docker and Podman take for a container's name or id.
_CONTAINER = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")
_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\\+-]*\$?")
# A DNS name or an alias of the operator's ssh configuration.
_SSH_HOST = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?")
_PORT = re.compile(r"[1-9][0-9]{0,4}")


@dataclass(frozen=True)
class HostAddress:
    """Where a host is and how it is reached. ``where`` is the testbed's host, the container, or the ssh host."""

    kind: Kind
    where: str = ""
    user: str = ""
    port: int | None = None
    sudo: bool = False

    @classmethod
    def parse(cls, parameter: str, text: str) -> HostAddress:
        """Read an address; raises BadParameter for anything but the five forms, and for what could pass as an option.

        The text of a refused address is repeated only where it cannot hold a password.
        """
        if not text:
            raise BadParameter(parameter, "is empty", do=f"give {_FORMS}")
        shown = "this" if "@" in text else ascii(text)
        if not text.isascii() or not text.isprintable() or " " in text:
            raise BadParameter(parameter, f"{shown} holds a space or a character outside ASCII", do=f"give {_FORMS}")
        bare, sudo = (text.removesuffix(_SUDO), True) if text.endswith(_SUDO) else (text, False)
        if "?" in bare:
            raise BadParameter(parameter, "the only thing allowed after ? is sudo=yes", do=f"give {_FORMS}")
        if bare == "local":
            return cls("local", sudo=sudo)
        kind, colon, rest = bare.partition(":")
        match kind if colon else "":
            case "testbed":
                return cls._testbed(parameter, rest, sudo)
            case "docker" | "podman" as engine if rest.startswith("//"):
                container = rest.removeprefix("//")
                if not _CONTAINER.fullmatch(container):
                    raise BadParameter(parameter, f"{shown} does not name a container")
                return cls(engine, container, sudo=sudo)
            case "ssh" if rest.startswith("//"):
                return cls._ssh(parameter, rest.removeprefix("//"), sudo)
            case _:
                raise BadParameter(parameter, f"{shown} is not a host's address", do=f"give {_FORMS}")

    @classmethod
    def _testbed(cls, parameter: str, name: str, sudo: bool) -> HostAddress:
        if name not in _TESTBED_HOSTS:
            raise BadParameter(
                parameter, f"the testbed has no host {name!r}", do=f"name one of {', '.join(_TESTBED_HOSTS)}"
            )
        if sudo:
            raise BadParameter(parameter, "the testbed's hosts need no sudo", do=f"give testbed:{name}")
        return cls("testbed", name)

    @classmethod
    def _ssh(cls, parameter: str, authority: str, sudo: bool) -> HostAddress:
        user, at, place = authority.rpartition("@")
        if ":" in user:
            raise BadParameter(
                parameter,
                "holds a password (not repeated here), which would be written down in the notebook and the record",
                do="use a key or an agent: ssh is never asked for a password",
            )
        if at and not _USER.fullmatch(user):
            raise BadParameter(parameter, f"{user!r} is not a user's name")
        if place.startswith("["):
            host, bracket, port_part = place[1:].partition("]")
            if not bracket or not _is_ipv6(host):
                raise BadParameter(parameter, f"{place!r} is not an IPv6 address in brackets")
        else:
            host, colon, port_text = place.partition(":")
            port_part = colon + port_text
            if ":" in port_text:
                raise BadParameter(parameter, f"{place!r}: put an IPv6 address in brackets, as in ssh://[2001:db8::1]")
            if not _SSH_HOST.fullmatch(host):
                raise BadParameter(parameter, f"{host!r} is not the name of a host")
        return cls("ssh", host, user, _port(parameter, port_part), sudo)

    @property
    def is_testbed(self) -> bool:
        """Whether it is one of the testbed's hosts."""
        return self.kind == "testbed"

    @property
    def ssh_destination(self) -> str:
        """``[user@]host`` as ssh takes it."""
        return f"{self.user}@{self.where}" if self.user else self.where

    def __str__(self) -> str:
        match self.kind:
            case "testbed":
                return f"testbed:{self.where}"
            case "local":
                bare = "local"
            case "docker" | "podman":
                bare = f"{self.kind}://{self.where}"
            case "ssh":
                host = f"[{self.where}]" if ":" in self.where else self.where
                bare = f"ssh://{self.user}{'@' if self.user else ''}{host}{f':{self.port}' if self.port else ''}"
        return bare + (_SUDO if self.sudo else "")


def _is_ipv6(text: str) -> bool:
    address, _, zone = text.partition("%")
    try:
        ipaddress.IPv6Address(address)
    except ValueError:
        return False
    return "%" not in text or re.fullmatch(r"[A-Za-z0-9_.-]+", zone) is not None


def _port(parameter: str, port_part: str) -> int | None:
    if not port_part:
        return None
    digits = port_part.removeprefix(":")
    if not port_part.startswith(":") or not _PORT.fullmatch(digits) or int(digits) > 65535:
        raise BadParameter(parameter, f"{digits!r} is not a port", do="give a number from 1 to 65535")
    return int(digits)


def host_addresses(parameter: str, text: str) -> tuple[HostAddress, ...]:
    """A comma-separated list of addresses, each once; () for an empty one. Raises BadParameter."""
    if not text.strip():
        return ()
    found = [HostAddress.parse(parameter, item.strip()) for item in text.split(",")]
    if twice := [str(host) for host in dict.fromkeys(found) if found.count(host) > 1]:
        raise BadParameter(parameter, f"{', '.join(twice)} stands there twice", do="name each host once")
    return tuple(found)
