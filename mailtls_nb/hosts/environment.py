"""What programs that we start get of this process's environment: by name, since any other may be a secret (env:NAME).

Some stay long after us: the connection that ssh shares, a container engine's daemon.
"""

from __future__ import annotations

import os

_PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")
_DAEMON = frozenset(("PATH", "HOME", *_PROXIES, *(name.upper() for name in _PROXIES)))
_CLIENT = _DAEMON | {
    *("USER", "LOGNAME", "SHELL", "LANG", "TERM", "TMPDIR", "TZ", "DISPLAY", "WAYLAND_DISPLAY"),
    *("SSH_AUTH_SOCK", "SSH_AGENT_PID", "SSH_ASKPASS", "SSH_ASKPASS_REQUIRE", "DBUS_SESSION_BUS_ADDRESS"),
}
_CLIENT_PREFIXES = ("DOCKER_", "CONTAINER", "PODMAN_", "XDG_", "LC_", "KRB5")


def client_environment() -> dict[str, str]:
    """For ssh and the container engines' clients."""
    return {name: value for name, value in os.environ.items() if name in _CLIENT or name.startswith(_CLIENT_PREFIXES)}


def daemon_environment() -> dict[str, str]:
    """For a container engine's daemon."""
    return {name: value for name, value in os.environ.items() if name in _DAEMON}
