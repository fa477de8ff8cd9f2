"""The table of cases that the entries of 04 must decide as wished: what the host's own rulesets are asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from mailtls_nb.procedures.enforce.wish import EnforceWish, FailureWord
from mailtls_nb.sendmail.access.case import Case, Decision, Direction
from mailtls_nb.sendmail.access.requirement import Extension

Answer = Literal["accepted", "refused for good", "refused for now"]

REFUSED: dict[FailureWord, Answer] = {"permanent": "refused for good", "temporary": "refused for now"}
_GOOD_BITS, _FEW_BITS = 256, 40
# A name and addresses that nobody has (RFC 2606, RFC 5737).
_STRANGER = "stranger.invalid"
_NOBODYS_ADDRESSES = ("192.0.2.199", "198.51.100.199", "203.0.113.199")
_OTHER_CA = "/CN=Another+20CA"


@dataclass(frozen=True)
class ExpectedCase:
    """One case, in words, and what the rulesets must answer to it.

    ``unaffected``: it is none of the rule's business, so it must stay as it was.
    """

    label: str
    case: Case
    expected: Answer
    unaffected: bool = False

    @property
    def is_negative(self) -> bool:
        return self.expected != "accepted"


def answer(decision: Decision) -> Answer:
    """A decision of the rulesets in the words of the table."""
    return REFUSED[decision.refused] if decision.refused else "accepted"


def settled(wish: EnforceWish, case: ExpectedCase, live: Decision, candidate: Decision) -> ExpectedCase:
    """The case with what other rules make of it, which stay in force: ``live`` before the change, ``candidate`` after.

    What is none of the rule's business must stay as it was. What is no longer demanded here may still be demanded by
    them, so it must be as the map then says.
    """
    if case.unaffected:
        return replace(case, expected=answer(live))
    return case if wish.demands else replace(case, expected=answer(candidate))


def expected_cases(
    wish: EnforceWish, addresses: tuple[str, ...], extension: Extension | None
) -> tuple[ExpectedCase, ...]:
    """The table for this wish. ``addresses`` are the partner's as in the access map, ``extension`` is the identity."""
    # What was taken back is looked at in every direction.
    directions: tuple[Direction, ...] = wish.directions if wish.demands else ("server", "client", "recipient")
    return tuple(case for direction in directions for case in _cases(wish, direction, addresses, extension))


def _cases(
    wish: EnforceWish, direction: Direction, addresses: tuple[str, ...], extension: Extension | None
) -> Iterator[ExpectedCase]:
    stranger = Case(direction, _STRANGER, _uncovered_address(addresses), "NONE")
    if wish.everyone:
        # The partner may have rules of its own, which come first.
        peer, address, who = _STRANGER, stranger.address, "anybody"
    else:
        peer, address = wish.partner, _sample(addresses[0]) if addresses else stranger.address
        who = "the partner"
    good = identified(Case(direction, peer, address, "OK", _GOOD_BITS), extension)
    refused = REFUSED[wish.failure(direction)]
    if direction == "recipient":
        for domain in (_STRANGER,) if wish.everyone else wish.partner_domains or (wish.partner,):
            recipient = f"postmaster@{domain}"
            yield from _recipient_cases(
                wish, replace(good, recipient=recipient), replace(stranger, recipient=recipient), refused
            )
        return
    who += " connects" if direction == "server" else "'s server is connected to"
    # A certificate that cannot name the address is no good where the name has to fit.
    nameless = replace(good, peer=f"[{address}]")
    yield from _as_wished(wish, who, good, refused)
    if direction == "server" and addresses and not wish.everyone:
        yield from _as_wished(
            wish, f"{who}, its reverse name missing", nameless, refused, identified=extension != Extension("CN")
        )
    yield from _others(wish, stranger)


def _recipient_cases(wish: EnforceWish, good: Case, elsewhere: Case, refused: Answer) -> Iterator[ExpectedCase]:
    domain = good.recipient.partition("@")[2]
    yield from _as_wished(wish, f"mail to {domain} is sent", good, refused)
    yield ExpectedCase(
        f"mail to {domain} is sent to another server, without STARTTLS",
        elsewhere,
        refused if wish.demands else "accepted",
    )
    if not wish.everyone:
        yield ExpectedCase(
            "mail to another domain is sent without STARTTLS",
            replace(elsewhere, recipient="postmaster@other.invalid"),
            "accepted",
            unaffected=True,
        )


def _as_wished(
    wish: EnforceWish, who: str, good: Case, refused: Answer, *, identified: bool = True
) -> Iterator[ExpectedCase]:
    """One peer with everything that may be wrong with its connection."""
    verified = wish.requirement == "verify"

    def expect(label: str, case: Case, *, refuse: bool) -> ExpectedCase:
        return ExpectedCase(f"{who}, {label}", case, refused if refuse and wish.demands else "accepted")

    yield expect("with its certificate", good, refuse=verified and not identified)
    yield expect("without STARTTLS", replace(_anonymous(good, "NONE"), bits=0), refuse=True)
    yield expect("without a certificate", _anonymous(good, "NO"), refuse=verified)
    failed = replace(_anonymous(good, "FAIL"), cn_subject=good.cn_subject, cert_issuer=_OTHER_CA)
    yield expect("with a certificate that does not verify", failed, refuse=verified)
    if good.cert_issuer or good.cert_subject or good.cn_subject:
        other = replace(good, cn_subject="other.invalid", cert_subject="/CN=other.invalid", cert_issuer=_OTHER_CA)
        yield expect("with a certificate of somebody else that verifies", other, refuse=verified)
    if wish.bits > _FEW_BITS:
        yield expect(f"with its certificate and {_FEW_BITS} bits", replace(good, bits=_FEW_BITS), refuse=True)


def _others(wish: EnforceWish, stranger: Case) -> Iterator[ExpectedCase]:
    who = "a stranger connects" if stranger.direction == "server" else "a stranger's server is connected to"
    held = wish.everyone and wish.demands
    if not wish.everyone:
        yield ExpectedCase(f"{who}, without STARTTLS", stranger, "accepted", unaffected=True)
    if stranger.direction == "server":
        for address in ("127.0.0.1", "IPv6:0:0:0:0:0:0:0:1"):
            local = Case("server", "localhost", address, "NONE")
            yield ExpectedCase(
                f"this host itself submits a message from {address}", local, "accepted", unaffected=not held
            )


def identified(case: Case, extension: Extension | None) -> Case:
    """The case with a certificate that has the identity demanded."""
    match extension:
        case None:
            return case
        case Extension("CN", ""):
            return replace(case, cn_subject=case.peer)
        case Extension("CN", name):
            return replace(case, cn_subject=name)
        case Extension("CS", name):
            return replace(case, cert_subject=name)
        case Extension("CI", name):
            return replace(case, cert_issuer=name)
        case _:
            raise ValueError(f"no certificate is known to have {extension}")


def _anonymous(case: Case, verify: str) -> Case:
    return replace(case, verify=verify, cn_subject="", cert_subject="", cert_issuer="")


def _uncovered_address(names: tuple[str, ...]) -> str:
    """An address that no rule by address holds; nobody who has real partners lists them all."""
    return next((a for a in _NOBODYS_ADDRESSES if not any(f"{a}.".startswith(f"{n}.") for n in names)), "0.0.0.1")


def _sample(name: str) -> str:
    """One address that an address name of the access map covers: itself, or one below a prefix."""
    if name.startswith("IPv6:"):
        groups = name.removeprefix("IPv6:").split(":")
        return "IPv6:" + ":".join([*groups, *["0"] * (7 - len(groups)), "1"][:8]) if len(groups) < 8 else name
    octets = name.split(".")
    return ".".join([*octets, *["0"] * (3 - len(octets)), "1"]) if len(octets) < 4 else name
