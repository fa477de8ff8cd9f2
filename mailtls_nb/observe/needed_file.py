"""A file without which nothing can be planned."""

from __future__ import annotations

from mailtls_nb.errors import NotReady
from mailtls_nb.hosts.base import Host


def needed_file(host: Host, path: str) -> bytes:
    """The content of a file on the host; raises NotReady where there is none."""
    content = host.read(path)
    if content is None:
        raise NotReady(f"{host.name}: there is no {path}", left="nothing was touched")
    return content
