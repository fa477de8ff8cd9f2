"""What a host's own resolver says about names and addresses: sendmail there asks the same one."""

from __future__ import annotations

import ipaddress
import re

from mailtls_nb.hosts.base import Host

# getent of the GNU library knows ahosts; that of Solaris ipnodes. The exit status tells of "not found", which is data.
_ADDRESSES = (
    'getent ahosts "$1" 2>/dev/null || getent ipnodes "$1" 2>/dev/null || getent hosts "$1" 2>/dev/null; '
    "echo; echo asked"
)
_REVERSE = 'for address do echo "== $address"; getent hosts "$address" 2>/dev/null; done; echo "== end"'
_TIMEOUT_S = 60
_SERVER = re.compile(r"^\t(\S+)$", re.MULTILINE)

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def addresses_of(host: Host, name: str) -> tuple[Address, ...]:
    """The addresses of a name as the host sees them, IPv4 first; empty where it has none."""
    completed = host.run(("sh", "-c", _ADDRESSES, "sh", name), timeout_s=_TIMEOUT_S)
    found: set[Address] = set()
    for line in completed.check(f"looking up {name}", left="nothing was touched").text.splitlines():
        try:
            address = ipaddress.ip_address(line.split()[0].partition("%")[0]) if line.strip() else None
        except ValueError:
            continue
        if address is not None:
            # An IPv4 address may come in IPv6's clothes where there is no other (RFC 4291 2.5.5.2).
            found.add((address.ipv4_mapped or address) if isinstance(address, ipaddress.IPv6Address) else address)
    return tuple(sorted(found, key=lambda address: (address.version, int(address))))


def mail_servers(host: Host, sendmail: str, domains: tuple[str, ...]) -> tuple[str, ...]:
    """The servers that the host's sendmail would hand mail for these domains to, by DNS alone (``/mx`` of -bt)."""
    questions = "".join(f"/mx {domain}\n" for domain in domains)
    completed = host.run((sendmail, "-bt"), stdin=questions.encode("ascii"), timeout_s=_TIMEOUT_S)
    found = _SERVER.findall(completed.check("asking for mail servers", left="nothing was touched").text)
    return tuple(dict.fromkeys(name.lower().removesuffix(".") for name in found))


def reverse_names(host: Host, addresses: tuple[Address, ...]) -> dict[Address, str]:
    """The reverse name of each address, lower-case without a final dot; empty where it has none."""
    argv = ("sh", "-c", _REVERSE, "sh", *map(str, addresses))
    completed = host.run(argv, timeout_s=_TIMEOUT_S + 20 * len(addresses))
    names: dict[Address, str] = dict.fromkeys(addresses, "")
    asked: Address | None = None
    for line in completed.check("looking up reverse names", left="nothing was touched").text.splitlines():
        if line.startswith("== "):
            word = line.removeprefix("== ")
            asked = ipaddress.ip_address(word) if word != "end" else None
        elif asked is not None and len(line.split()) > 1 and not names[asked]:
            names[asked] = line.split()[1].lower().removesuffix(".")
    return names
