"""Whether OpenSSL takes a chain for good: an instrument that nothing of ours takes part in."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

from mailtls_nb.hosts.base import Completed, Host

# A name that is nobody's (RFC 2606), to see that names count.
WRONG_NAME = "another-name.invalid"
# With -CAfile, openssl trusts the system's CAs as well. -no-CApath and -no-CAstore are not known to every release; the
# variables are.
ONLY_CAFILE = ("env", "SSL_CERT_DIR=/nonexistent", "SSL_CERT_FILE=/nonexistent")
_TIMEOUT_S = 60
_REASON = re.compile(r"error \d+ at \d+ depth lookup: ?([^\r\n]+)")
# openssl takes a certificate from standard input and its chain from a file: here both come through pipes.
_VERIFY_PEM = """
leaf=$1 chain=$2; shift 2
printf '%s\\n' "$chain" | { exec 3<&0; printf '%s\\n' "$leaf" | openssl verify -untrusted /dev/fd/3 "$@"; }
"""


def openssl_verify(
    host: Host,
    certificate: str,
    *,
    trusted: str,
    purpose: Literal["sslserver", "sslclient"],
    name: str = "",
    untrusted: str = "",
) -> str:
    """``OK`` or ``refused`` for a certificate file on ``host``, by the CAs in the file ``trusted`` and no others.

    ``name`` is the host name it must be for; ``untrusted`` a file with intermediates. Any CA in ``trusted`` counts,
    self-signed or not (-partial_chain): this asks whether the certificate is one of that CA. sendmail asks for more: it
    takes an intermediate CA only together with its root (8.17.1, measured: verify=FAIL without it), see `verified_by`.
    """
    checks: tuple[str, ...] = ("-partial_chain", "-purpose", purpose, "-CAfile", trusted)
    checks += ("-verify_hostname", name) if name else ()
    checks += ("-untrusted", untrusted) if untrusted else ()
    completed = host.run((*ONLY_CAFILE, "openssl", "verify", *checks, certificate), timeout_s=_TIMEOUT_S)
    return "OK" if completed.status == 0 else "refused"


def verified_by(
    host: Host,
    chain: Sequence[str],
    *,
    trusted_file: str = "",
    trusted_path: str = "",
    purpose: Literal["sslserver", "sslclient", "any"] = "any",
    by_intermediate: bool = False,
    crl_file: str = "",
) -> str:
    """``OK``, or why not, for a chain (PEM, the certificate itself first), by CAs on ``host`` and no others.

    ``trusted_file`` and ``trusted_path`` are as sendmail's CACertFile and CACertPath; the reason is the host's
    OpenSSL's. An intermediate CA counts only together with its root, as for sendmail (8.17.1, measured), unless
    ``by_intermediate``. With ``crl_file``, a file there, its CRL counts. Nothing is written there.
    """
    checks: tuple[str, ...] = ("-purpose", purpose, *(("-partial_chain",) if by_intermediate else ()))
    checks += ("-CAfile", trusted_file) if trusted_file else ()
    checks += ("-CApath", trusted_path) if trusted_path else ()
    checks += ("-crl_check", "-CRLfile", crl_file) if crl_file else ()
    argv = (*ONLY_CAFILE, "sh", "-c", _VERIFY_PEM, "sh", chain[0], "\n".join(chain), *checks)
    return _verdict(host.run(argv, timeout_s=_TIMEOUT_S))


def _verdict(completed: Completed) -> str:
    if completed.status == 0:
        return "OK"
    printed = (completed.stdout + completed.stderr).decode("utf-8", "replace")
    reason = _REASON.search(printed)
    return reason[1].strip() if reason else (printed.strip().splitlines() or ["not OK"])[-1]
