"""What a host's own openssl says of a CRL that lies there."""

from __future__ import annotations

import re

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailtls_nb.hosts.base import Host

_NUMBER = re.compile(r"crlNumber=(?:0x)?([0-9A-Fa-f]+)")
_TIMEOUT_S = 60


def installed_crl(host: Host, path: str, ca: x509.Certificate) -> str:
    """``verify OK, number N`` for a CRL of this CA, whose certificate comes on standard input; else why not."""
    argv = ("openssl", "crl", "-in", path, "-noout", "-crlnumber", "-CAfile", "/dev/stdin")
    completed = host.run(argv, stdin=ca.public_bytes(Encoding.PEM), timeout_s=_TIMEOUT_S)
    printed = (completed.stdout + completed.stderr).decode("utf-8", "replace")
    number = _NUMBER.search(printed)
    if completed.status == 0 and number and "verify OK" in printed:
        return f"verify OK, number {int(number[1], 16)}"
    lines = [line for line in printed.splitlines() if line.strip()]
    return next((line for line in lines if "verify" in line or "No such file" in line), (lines or ["no answer"])[-1])
