"""Whether OpenSSL takes a chain for good: an instrument that nothing of ours takes part in."""

from __future__ import annotations

from typing import Literal

from mailtls_nb.hosts.base import Host

# A name that is nobody's (RFC 2606), to see that names count.
WRONG_NAME = "another-name.invalid"
# With -CAfile, openssl trusts the system's CAs as well. -no-CApath and -no-CAstore are not known to every release; the
# variables are.
ONLY_CAFILE = ("env", "SSL_CERT_DIR=/nonexistent", "SSL_CERT_FILE=/nonexistent")
_TIMEOUT_S = 60


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

    ``name`` is the host name it must be for; ``untrusted`` a file with intermediates. The topmost CA given counts as
    trusted, self-signed or not (-partial_chain), as it does for sendmail.
    """
    checks: tuple[str, ...] = ("-partial_chain", "-purpose", purpose, "-CAfile", trusted)
    checks += ("-verify_hostname", name) if name else ()
    checks += ("-untrusted", untrusted) if untrusted else ()
    completed = host.run((*ONLY_CAFILE, "openssl", "verify", *checks, certificate), timeout_s=_TIMEOUT_S)
    return "OK" if completed.status == 0 else "refused"
