"""What a mail server shows on port 25 to somebody who comes from outside.

The instrument is ``openssl s_client`` on the host that the connection is made from: nothing of sendmail and
nothing of ours takes part in it.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from cryptography import x509

from mailtls_nb.errors import CommandTimedOut, NotReady
from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.openssl_verify import ONLY_CAFILE

# EHLO inside TLS makes the server say under which name and address it sees us. QUIT has to wait for that
# reply, and the reply for the server's greeting pause: since 8.17.1.9 sendmail rejects "traffic before
# response". Without -ign_eof, s_client takes a line that begins with Q or R for a command of its own.
_SCRIPT = (
    "address=$1 name=$2 hello=$3 pause=$4; shift 4; "
    '{ if test -n "$hello"; then printf "EHLO %s\\r\\n" "$hello"; sleep "$pause"; fi; '
    'printf "QUIT\\r\\n"; } | '
    'openssl s_client -connect "$address" -starttls smtp -servername "$name" -showcerts -ign_eof "$@"'
)
_PEM = re.compile(rb"-----BEGIN CERTIFICATE-----.+?-----END CERTIFICATE-----\n?", re.DOTALL)
# TLS 1.3 sessions print it again for each ticket.
_VERIFIED = re.compile(rb"^ *Verify return code: (?P<result>\d+ \([^)]*\))", re.MULTILINE)
_SESSION = re.compile(rb"^New, (?P<protocol>[^,\s]+), Cipher is (?P<cipher>\S+)", re.MULTILINE)
# s_client's own text waits in a buffer: a reply may stand in the middle of one of its lines.
_HELLO = re.compile(rb"250[ -]\S+ Hello (?P<peer>[^\r\n]+?), pleased to meet you")
# /dev/tcp is bash's own. A server may hold its greeting back for some seconds (FEATURE(greet_pause)).
_GREETING = (
    'exec 3<>"/dev/tcp/$0/$1" && IFS= read -r -t 40 line <&3 && printf "QUIT\\r\\n" >&3 && printf "%s\\n" "$line"'
)
# How long to wait for the reply to EHLO; the second where the server greets slowly.
PAUSES_S = (3, 30)
_TIMEOUT_S = 120
_NOT_OFFERED = b"Didn't find STARTTLS in server response"


@dataclass(frozen=True)
class Presented:
    """What was seen on one connection.

    ``chain`` is the certificates as shown, the server's own first; empty when TLS did not come about.
    ``seen_as`` is the name and address that the server gave us in its EHLO reply. ``verified`` is OpenSSL's word on the
    chain, such as ``0 (ok)``; it means something only where CAs were named.
    """

    connected: bool
    starttls_offered: bool
    chain: tuple[x509.Certificate, ...]
    protocol: str
    cipher: str
    seen_as: str
    problem: str
    verified: str = ""

    @property
    def serial(self) -> int | None:
        """The serial number of the certificate on the port, None where there is none."""
        return self.chain[0].serial_number if self.chain else None


def presented_on_port25(
    probe: Host,
    server: str,
    *,
    port: int = 25,
    client_certificate: str = "",
    identify: bool = False,
    trusted_file: str = "",
    trusted_path: str = "",
) -> Presented:
    """Connect from ``probe`` to ``server`` and look. Raises NotReady when the probe has no ``openssl``.

    ``client_certificate`` is the path, on the probe, of a file with certificate and key to show; by default none is
    shown. ``identify`` asks under which name and address the server sees the probe (3 s longer, or 30 s where the
    server greets slowly). ``trusted_file`` and ``trusted_path``, on the probe, are the CAs to verify by, as sendmail's
    CACertFile and CACertPath.
    """
    credentials = ("-cert", client_certificate, "-key", client_certificate) if client_certificate else ()
    trusted: tuple[str, ...] = ("-CAfile", trusted_file) if trusted_file else ()
    trusted += ("-CApath", trusted_path) if trusted_path else ()
    # No -partial_chain: sendmail verifies nothing by an intermediate CA without its root (measured with 8.17.1).
    options = (*credentials, *trusted)
    pauses_s = PAUSES_S if identify else (0,)
    for pause_s in pauses_s:
        seen = _look(probe, server, port, options, pause_s)
        if seen.seen_as or not seen.chain:
            break
    return seen


def greeting_on_port25(probe: Host, server: str, *, port: int = 25) -> str:
    """The first line that the server says, which s_client keeps to itself; empty where none came or bash is missing."""
    return probe.run(("bash", "-c", _GREETING, server, str(port)), timeout_s=_TIMEOUT_S).text.strip()


def _look(probe: Host, server: str, port: int, options: tuple[str, ...], pause_s: int) -> Presented:
    own_name = "probe.invalid" if pause_s else ""
    argv = (*ONLY_CAFILE, "sh", "-c", _SCRIPT, "sh", f"{server}:{port}", server, own_name, str(pause_s), *options)
    try:
        completed = probe.run(argv, timeout_s=_TIMEOUT_S)
    except CommandTimedOut:
        return Presented(False, False, (), "", "", "", f"no answer within {_TIMEOUT_S} s")
    if completed.status == 127:
        raise NotReady(
            f"{probe.name} has no openssl command, so it cannot look at port {port} of {server}",
            left="nothing was touched",
            do="install openssl there, or name another host in probe_from",
        )
    connected = b"CONNECTED(" in completed.stdout
    session = _SESSION.search(completed.stdout)
    verified = _VERIFIED.search(completed.stdout)
    chain = tuple(x509.load_pem_x509_certificate(pem) for pem in _PEM.findall(_shown_chain(completed.stdout)))
    return Presented(
        connected=connected,
        starttls_offered=connected and _NOT_OFFERED not in completed.stderr,
        chain=chain,
        protocol=session["protocol"].decode() if session and chain else "",
        cipher=session["cipher"].decode() if session and chain else "",
        seen_as=seen_as(completed.stdout),
        problem="" if chain else _last_words(completed.stderr),
        verified=verified["result"].decode("ascii", "replace") if verified and chain else "",
    )


def seen_as(output: bytes) -> str:
    """The name and address that the server gave its client in the EHLO reply, from what s_client printed."""
    hello = _HELLO.search(output)
    return hello["peer"].decode("ascii", "replace") if hello else ""


def _shown_chain(output: bytes) -> bytes:
    # Before 1.1.0 s_client repeats the server's certificate after the chain under this heading.
    return output.partition(b"\nServer certificate")[0] or output


def _last_words(stderr: bytes) -> str:
    text = stderr.decode("utf-8", "replace")
    if re.search(r"name (or service )?not known|nodename nor servname|no address|lookup", text, re.IGNORECASE):
        return "the name is not known there"
    lines = text.strip().splitlines()
    return lines[-1] if lines else "no answer"
