"""What a run runs on, for its record."""

from __future__ import annotations

import platform
import socket
from importlib.metadata import PackageNotFoundError, version

from cryptography.hazmat.backends.openssl.backend import backend

# Those whose behaviour a run rests on.
_PACKAGES = ("papermill", "nbclient", "ipykernel", "nbconvert", "cryptography")


def machine() -> str:
    """This machine's host name."""
    return socket.gethostname()


def versions() -> dict[str, str]:
    """The system, Python, the packages that a run rests on, and the OpenSSL that cryptography uses."""
    found = {"system": platform.platform(), "Python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return {**found, "OpenSSL": backend.openssl_version_text().removeprefix("OpenSSL ")}
