"""What 04 saw before, and what it makes of it: the entries wished for, the candidate map, the table of cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from mailtls_nb.errors import NotReady
from mailtls_nb.names import sendmail_dn
from mailtls_nb.observe.access_map import AccessMap
from mailtls_nb.observe.names import Address
from mailtls_nb.observe.port25 import Presented
from mailtls_nb.procedures.enforce.cases import ExpectedCase
from mailtls_nb.procedures.enforce.wish import EnforceWish
from mailtls_nb.sendmail.access.case import Decision, Direction
from mailtls_nb.sendmail.access.entries import Entry, exempt_entry, no_tls_entry, tls_entry
from mailtls_nb.sendmail.access.requirement import Extension, Requirement
from mailtls_nb.sendmail.impact import Impact
from mailtls_nb.sendmail.layout import Layout

_TAGS: dict[Direction, str] = {"server": "TLS_Clt", "client": "TLS_Srv", "recipient": "TLS_Rcpt"}
# As sendmail spells them, compressed or not.
_LOOPBACK = ("127.0.0.1", "IPv6:0:0:0:0:0:0:0:1")


@dataclass(frozen=True)
class PartnerBefore:
    """The partner as the host sees it: its addresses with their reverse names, and what its port 25 shows."""

    addresses: tuple[Address, ...]
    reverse_names: Mapping[Address, str]
    presented: Presented

    @property
    def verifies(self) -> bool:
        """Whether the host's own OpenSSL takes its certificate for good, by the CAs that its sendmail trusts."""
        return self.presented.verified == "0 (ok)"


@dataclass(frozen=True)
class EnforceBefore:
    """Everything that the plan of 04 rests on.

    ``live`` and ``candidate`` are the rulesets' answers to ``cases`` by the map in service and by the one wished for.
    ``waiting`` is the number of messages in the queue for the partner.
    """

    at: datetime
    layout: Layout
    access: AccessMap
    partner: PartnerBefore
    address_names: tuple[str, ...]
    extension: Extension | None
    wanted: bytes
    cases: tuple[ExpectedCase, ...]
    live: tuple[Decision, ...]
    candidate: tuple[Decision, ...]
    impact: Impact | None
    waiting: int


def identity(wish: EnforceWish, presented: Presented, layout: Layout) -> Extension | None:
    """What a verified peer's certificate must say; raises NotReady where the partner's issuer is not to be seen."""
    if wish.requirement != "verify" or wish.identity == "any":
        return None
    if wish.identity == "name":
        return Extension("CN")
    if isinstance(wish.identity, Extension):
        return wish.identity
    if not presented.chain:
        raise NotReady(
            f"the CA of {wish.partner} cannot be pinned: its port 25 shows no certificate ({presented.problem})",
            left="nothing was touched",
            do="name the CA literally (identity CI:/C=.../CN=... in sendmail's spelling), or let its server speak "
            "STARTTLS first",
        )
    release = layout.openssl_version.split()[1:2]
    before_3 = bool(release) and release[0].startswith(("0.", "1."))
    return Extension("CI", sendmail_dn(presented.chain[0].issuer, before_openssl_3=before_3))


def wished_entries(wish: EnforceWish, address_names: tuple[str, ...], extension: Extension | None) -> tuple[Entry, ...]:
    """The partner's group of entries in the managed block; empty for requirement none."""
    match wish.requirement:
        case "none":
            return ()
        case "never":
            return (no_tls_entry(wish.partner),)
        case _:
            return tuple(
                entry for direction in wish.directions for entry in _entries(wish, direction, address_names, extension)
            )


def _entries(
    wish: EnforceWish, direction: Direction, address_names: tuple[str, ...], extension: Extension | None
) -> tuple[Entry, ...]:
    tag = _TAGS[direction]
    requirement = Requirement(
        level="VERIFY" if wish.requirement == "verify" else "ENCR",
        bits=wish.bits,
        on_failure="PERM" if wish.failure(direction) == "permanent" else "TEMP",
        extensions=(extension,) if extension else (),
    )
    if wish.everyone:
        # Without these the bare tag would stop what programs on the host itself submit.
        exempt = tuple(exempt_entry(tag, name) for name in _LOOPBACK) if direction == "server" else ()
        return (tls_entry(tag, "", requirement), *exempt)
    names = wish.partner_domains if direction == "recipient" else (wish.partner,)
    if direction == "server":
        # Where the reverse lookup fails, a client has no name, and a rule by name alone lets it in.
        names += tuple(address_names)
    return tuple(tls_entry(tag, name, requirement) for name in names)
