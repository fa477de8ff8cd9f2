"""From an address to a host."""

from __future__ import annotations

from collections.abc import Callable

from mailtls_nb.hosts.address import HostAddress
from mailtls_nb.hosts.base import Host
from mailtls_nb.hosts.container import ContainerHost
from mailtls_nb.hosts.local import LocalHost
from mailtls_nb.hosts.ssh import SshHost


def open_host(address: HostAddress, *, testbed: Callable[[str], Host]) -> Host:
    """The host at ``address``; ``testbed`` gives the testbed's hosts by name. Nothing is contacted yet."""
    name = str(address)
    match address.kind:
        case "testbed":
            return testbed(address.where)
        case "local":
            return LocalHost(name, sudo=address.sudo)
        case "docker" | "podman":
            return ContainerHost((address.kind,), address.where, name, sudo=address.sudo)
        case "ssh":
            return SshHost(address.ssh_destination, address.port, name, sudo=address.sudo)
