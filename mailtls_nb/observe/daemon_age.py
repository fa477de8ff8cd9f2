"""Whether the running daemon has read a file that it reads only when it starts, as far as their dates tell."""

from __future__ import annotations

from mailtls_nb.hosts.base import Host
from mailtls_nb.sendmail.layout import Layout


def newer_than_daemon(host: Host, layout: Layout, path: str) -> bool:
    """Whether the file was written after the daemon started, which then writes its pid; False where either is gone."""
    # -H: of a link sendmail reads the file behind it.
    found = host.run(("find", "-H", path, "-newer", layout.pid_file), timeout_s=30)
    return found.status == 0 and bool(found.stdout.strip())
