"""A question to sendmail's TLS rulesets, and its answer: the words that the model and the real rulesets share."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# server: a client connects to us (tls_client, entries TLS_Clt:); client: we connect to a server (tls_server, TLS_Srv:);
# recipient: before each RCPT that we send (tls_rcpt, TLS_Rcpt:).
Direction = Literal["server", "client", "recipient"]


@dataclass(frozen=True)
class Case:
    """One peer as sendmail knows it when it asks whether the connection is good enough (op.me, STARTTLS macros)."""

    direction: Direction
    # The reverse name of a connecting client ("[192.0.2.1]" where there is none), or the name of the server asked for.
    peer: str
    # The peer's address as sendmail writes it: "192.0.2.1", or "IPv6:2001:db8:0:0:0:0:0:1" (built with IPV6_FULL, as
    # Debian's is; else "IPv6:2001:db8::1").
    address: str
    # {verify}: OK, TRUSTED, NO, NOT, FAIL, NONE, CLEAR, TEMP, PROTOCOL, SOFTWARE, CONFIG, DANE_FAIL. NONE stands
    # also for a client that does no STARTTLS, for which sendmail leaves the macro unset.
    verify: str
    # {cipher_bits}, 0 without TLS; {auth_ssf}.
    bits: int = 0
    auth_ssf: int = 0
    # {cn_subject}, {cert_subject}, {cert_issuer}, in sendmail's spelling (/C=/O=/CN=, +HH for what it encodes).
    cn_subject: str = ""
    cert_subject: str = ""
    cert_issuer: str = ""
    # The names in the certificate's subjectAltName; compared for CN only with FEATURE(`check_cert_altnames'), 8.16.1+.
    alternative_names: tuple[str, ...] = ()
    # Only for "recipient": the address, user@domain.
    recipient: str = ""


@dataclass(frozen=True)
class Decision:
    """What the rulesets say: accepted, or how refused."""

    refused: Literal["", "permanent", "temporary"]
    # The reply as sendmail's ruleset gives it, such as "403 4.7.0 not authenticated"; the model leaves it empty.
    reply: str = ""

    @property
    def accepted(self) -> bool:
        return not self.refused
