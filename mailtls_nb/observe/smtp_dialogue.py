"""What a server replies to a client that goes as far as RCPT, and no message is sent.

As far as RCPT, because under FEATURE(delay_checks), which Debian ships, what tls_client refuses is refused there.
"""

from __future__ import annotations

import re

from mailtls_nb.errors import CommandTimedOut
from mailtls_nb.hosts.base import Host

# /dev/tcp is bash's own; $0 is the server, $1 the port, the rest are commands. Each waits for the reply before it.
_DIALOGUE = r"""
exec 3<>"/dev/tcp/$0/$1" || exit 1
shift
reply() {
    while IFS= read -r -t 60 line <&3; do
        case $line in [0-9][0-9][0-9]-*) ;; *) printf '%s\n' "$line"; return 0 ;; esac
    done
    return 1
}
reply || exit 1
for command do printf '%s\r\n' "$command" >&3; reply || exit 1; done
"""
_TIMEOUT_S = 120
# swaks marks what the server says with an arrow to the left: `<-` plain, `<~` inside TLS, `<**` where it is an error.
_SAID = re.compile(r"^<[-~*]+ +(\d{3} .*)$", re.MULTILINE)
_NO_REPLY = "no reply"


def plain_reply(client: Host, server: str, *, sender: str, recipient: str, port: int = 25) -> str:
    """The reply to RCPT, or the first refusal before it, to a client that does no STARTTLS; "no reply" without one.

    ``client`` is the host that the connection is made from; it needs bash and nothing else.
    """
    name = sender.partition("@")[2] or "probe.invalid"
    commands = (f"EHLO {name}", f"MAIL FROM:<{sender}>", f"RCPT TO:<{recipient}>", "QUIT")
    try:
        completed = client.run(("bash", "-c", _DIALOGUE, server, str(port), *commands), timeout_s=_TIMEOUT_S)
    except CommandTimedOut:
        return _NO_REPLY
    replies = completed.stdout.decode("utf-8", "replace").replace("\r", "").splitlines()
    # Greeting, EHLO, MAIL, RCPT; not the answer to QUIT.
    return _first_refusal(replies[:4]) if len(replies) >= 4 else _first_refusal(replies) or _NO_REPLY


def tls_reply(client: Host, server: str, *, sender: str, recipient: str, credentials: str = "") -> str:
    """As ``plain_reply``, after STARTTLS; ``credentials`` is a file on the client with certificate and key to show.

    Needs swaks on the client, as the testbed's hosts have.
    """
    shown = ("--tls-cert", credentials, "--tls-key", credentials) if credentials else ()
    where = ("--server", server, "--helo", sender.partition("@")[2], "--from", sender, "--to", recipient)
    completed = client.run(("swaks", *where, "--quit-after", "RCPT", "--tls", *shown), timeout_s=_TIMEOUT_S)
    said = completed.stdout.decode("utf-8", "replace")
    if "TLS started" not in said:
        return "TLS did not come about"
    replies = [reply for reply in _SAID.findall(said) if not reply.startswith("221")]
    return _first_refusal(replies) or _NO_REPLY


def _first_refusal(replies: list[str]) -> str:
    """The first reply of class 4 or 5, else the last one."""
    return next((reply for reply in replies if reply[:1] in "45"), replies[-1] if replies else "")


def reply_class(reply: str) -> str:
    """A reply in words; by its class, since the numbers differ between sendmail's releases."""
    return {"2": "accepted", "4": "deferred (4xx)", "5": "rejected (5xx)"}.get(reply[:1], reply)
