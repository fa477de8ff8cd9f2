"""A client that nobody knows: it shows a certificate of a CA made for one connection and gone after it."""

from __future__ import annotations

from mailtls_nb.errors import CommandTimedOut
from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.port25 import PAUSES_S, seen_as

# $1: server and port, $2: seconds to wait for the reply to EHLO. The keys lie in a directory of their own for as long
# as the script runs; mkdir fails where the name is taken. QUIT has to wait for the reply to EHLO, since sendmail
# rejects traffic before it.
_SCRIPT = r"""
umask 077
directory=${TMPDIR:-/tmp}/mailtls-nb-stranger.$$
mkdir "$directory" || exit 1
trap 'rm -rf "$directory"' 0
trap 'exit 1' 1 2 15
cd "$directory" || exit 1
make() { openssl req "$@" -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -sha256; }
make -x509 -days 1 -subj "/CN=Unknown CA $$" -keyout ca.key -out ca.pem >made 2>&1 || { cat made >&2; exit 1; }
make -new -subj "/CN=unknown.invalid" -keyout key -out request >made 2>&1 || { cat made >&2; exit 1; }
openssl x509 -req -sha256 -in request -CA ca.pem -CAkey ca.key -set_serial 2 -days 1 -out certificate >made 2>&1 ||
    { cat made >&2; exit 1; }
{ printf 'EHLO probe.invalid\r\n'; sleep "$2"; printf 'QUIT\r\n'; } |
    openssl s_client -connect "$1" -starttls smtp -ign_eof -cert certificate -key key
"""
_TIMEOUT_S = 120


def seen_as_stranger(probe: Host, server: str, *, port: int = 25) -> str:
    """Connect from ``probe`` with such a certificate; returns the name and address by which the server saw it.

    Empty where TLS did not come about. Needs openssl on the probe.
    """
    for pause_s in PAUSES_S:
        argv = ("sh", "-c", _SCRIPT, "sh", f"{server}:{port}", str(pause_s))
        try:
            completed = probe.run(argv, timeout_s=_TIMEOUT_S)
        except CommandTimedOut:
            return ""
        if peer := seen_as(completed.stdout):
            return peer
        if b"BEGIN CERTIFICATE" not in completed.stdout:
            break
    return ""
