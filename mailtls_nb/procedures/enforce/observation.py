"""What 04 saw before, and what it makes of it: the entries wished for, the candidate map, the table of cases."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from cryptography import x509
from cryptography.x509.oid import NameOID

from mailtls_nb.errors import NotReady
from mailtls_nb.names import is_within, sendmail_dn
from mailtls_nb.observe.access_map import AccessMap
from mailtls_nb.observe.names import Address
from mailtls_nb.observe.port25 import Presented
from mailtls_nb.procedures.enforce.cases import ExpectedCase, KnownPeer, Shown, sample_address
from mailtls_nb.procedures.enforce.wish import EnforceWish
from mailtls_nb.sendmail.access.case import Decision, Direction
from mailtls_nb.sendmail.access.entries import Entry, address_names, exempt_entry, no_tls_entry, tls_entry
from mailtls_nb.sendmail.access.model import TAG_OF
from mailtls_nb.sendmail.access.requirement import Extension, Requirement
from mailtls_nb.sendmail.impact import Impact
from mailtls_nb.sendmail.layout import Layout

# As sendmail spells them, compressed or not.
_LOOPBACK = ("127.0.0.1", "IPv6:0:0:0:0:0:0:0:1")


@dataclass(frozen=True)
class PartnerBefore:
    """The partner as the host sees it: its addresses with their reverse names, and what its port 25 shows."""

    addresses: tuple[Address, ...]
    reverse_names: Mapping[Address, str]
    presented: Presented

    @property
    def shows(self) -> str:
        """Why no certificate is seen on its port 25, empty where one is."""
        seen = self.presented
        if seen.chain:
            return ""
        if not seen.connected:
            return f"no connection: {seen.problem}"
        return seen.problem if seen.starttls_offered else "it does not offer STARTTLS"

    @property
    def verifies(self) -> bool:
        """Whether the host's own OpenSSL takes its certificate for good, by the CAs that its sendmail trusts."""
        return self.presented.verified == "0 (ok)"


@dataclass(frozen=True)
class EnforceBefore:
    """Everything that the plan of 04 rests on.

    ``live`` and ``candidate`` are the rulesets' answers to ``cases`` by the map in service and by the one wished for.
    ``waiting`` is the number of messages in the queue for the partner, ``servers`` are where mail for its domains goes.
    """

    at: datetime
    layout: Layout
    cf: bytes
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
    servers: tuple[str, ...]


def identity(wish: EnforceWish, partner: PartnerBefore, layout: Layout) -> Extension | None:
    """What a verified peer's certificate must say; raises NotReady where the partner's issuer is not to be seen."""
    if wish.requirement != "verify" or wish.identity == "any":
        return None
    if wish.identity == "name":
        return Extension("CN")
    if isinstance(wish.identity, Extension):
        return wish.identity
    if not partner.presented.chain:
        raise NotReady(
            f"{wish.partner} shows no certificate on port 25 ({partner.shows}), so its CA cannot be pinned",
            left="nothing was touched",
            do="have its server speak STARTTLS first (the testbed's partner does once 03-trust-partner has run); if it "
            "only sends, name its CA in identity (CI:/C=.../CN=...)",
        )
    return Extension("CI", _spelled(partner.presented.chain[0].issuer, layout))


def shown_certificate(partner: PartnerBefore, layout: Layout) -> Shown | None:
    """What the certificate on port 25 says, as the host's sendmail spells it."""
    if not partner.presented.chain:
        return None
    certificate = partner.presented.chain[0]
    names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    # sendmail takes the last one (tls.c); without any it has a word that no rule is written for.
    common_name = x509.Name(names[-1:])
    spelled = _spelled(common_name, layout).removeprefix("/CN=")
    subject, issuer = (_spelled(name, layout) for name in (certificate.subject, certificate.issuer))
    return Shown("OK" if partner.verifies else "FAIL", spelled, subject, issuer)


def _spelled(name: x509.Name, layout: Layout) -> str:
    release = layout.openssl_version.split()[1:2]
    before_3 = bool(release) and release[0].startswith(("0.", "1."))
    return sendmail_dn(name, before_openssl_3=before_3)


def known_peers(
    wish: EnforceWish, partner: PartnerBefore, address_rules: tuple[str, ...], entries: tuple[Entry, ...]
) -> tuple[KnownPeer, ...]:
    """Clients that are the partner too.

    They are its addresses with their reverse names, each address rule, and whom somebody's entry in the access map
    names more closely than these rules do.
    """
    found = {}
    for number, (address, name) in enumerate(partner.reverse_names.items(), start=1):
        (spelled,) = address_names(str(address))
        if name and (is_within(name, wish.partner) or any(_covers(rule, spelled) for rule in address_rules)):
            found[name, spelled] = f"{name} (address {number} in DNS)"
    for number, rule in enumerate(address_rules, start=1):
        sample = sample_address(rule)
        found[f"[{sample}]", sample] = f"address {number} of the rules"
    somewhere = sample_address(address_rules[0]) if address_rules else ""
    for entry in entries:
        if entry.tag != "TLS_Clt" or entry.name in (*address_rules, wish.partner, ""):
            continue
        if is_within(entry.name.lower(), wish.partner) and somewhere:
            found[entry.name.lower(), somewhere] = f"{entry.name} in line {entry.line}"
        elif any(_covers(rule, entry.name) for rule in address_rules):
            sample = sample_address(entry.name)
            found[f"[{sample}]", sample] = f"{entry.name} in line {entry.line}"
    return tuple(KnownPeer(name, address, called) for (name, address), called in found.items())


def refuse_no_tls(wish: EnforceWish, entries: tuple[Entry, ...], file: str) -> None:
    """Raise NotReady where an entry keeps STARTTLS from the partner that is to be held to it: its mail would stop."""
    if not wish.demands or wish.everyone or not {"client", "recipient"} & set(wish.directions):
        return
    for entry in entries:
        keeps = entry.tag == "Try_TLS" and entry.value.upper().startswith("NO")
        if keeps and (not entry.name or is_within(wish.partner, entry.name.lower())):
            raise NotReady(
                f"{file}, line {entry.line}: {entry.written_key} NO keeps sendmail from STARTTLS with {wish.partner}, "
                "so all mail to it would stop",
                left="nothing was touched",
                do="remove that line first",
            )


def _covers(rule: str, address: str) -> bool:
    separator = ":" if rule.startswith("IPv6:") else "."
    return f"{address}{separator}".lower().startswith(f"{rule}{separator}".lower())


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
    tag = TAG_OF[direction]
    requirement = Requirement(
        level="VERIFY" if wish.requirement == "verify" else "ENCR",
        bits=wish.bits,
        on_failure="PERM" if wish.failure(direction) == "permanent" else "TEMP",
        extensions=(extension,) if extension else (),
    )
    if wish.everyone:
        # Without these the bare tag would stop what programs on the host itself submit, or are handed.
        exempt = tuple(exempt_entry(tag, name) for name in _LOOPBACK) if direction != "recipient" else ()
        return (tls_entry(tag, "", requirement), *exempt)
    names = wish.partner_domains if direction == "recipient" else (wish.partner,)
    if direction == "server":
        # Where the reverse lookup fails, a client has no name, and a rule by name alone lets it in.
        names += tuple(address_names)
    return tuple(tls_entry(tag, name, requirement) for name in names)
