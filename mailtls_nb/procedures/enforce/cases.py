"""The table of cases that the entries of 04 must decide as wished: what the host's own rulesets are asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal

from mailtls_nb.procedures.enforce.wish import EnforceWish, FailureWord
from mailtls_nb.sendmail.access.case import Case, Decision, Direction
from mailtls_nb.sendmail.access.requirement import Extension

Answer = Literal["accepted", "rejected (5xx)", "deferred (4xx)"]

REFUSED: dict[FailureWord, Answer] = {"permanent": "rejected (5xx)", "temporary": "deferred (4xx)"}
_GOOD_BITS, _FEW_BITS = 256, 40
# A name and addresses that nobody has (RFC 2606, RFC 5737).
_STRANGER = "stranger.invalid"
_NOBODYS_ADDRESSES = ("192.0.2.199", "198.51.100.199", "203.0.113.199")
_OTHER_CA = "/CN=Another+20CA"
_NO_LONGER: dict[Direction, str] = {
    "server": "no longer held: the partner connects",
    "client": "no longer held: the partner's server is connected to",
    "recipient": "no longer held: mail to the partner is sent",
}


@dataclass(frozen=True)
class Shown:
    """What the partner's certificate on port 25 says, in sendmail's spelling, and whether it verifies on the host."""

    verify: str
    cn_subject: str
    cert_subject: str
    cert_issuer: str


@dataclass(frozen=True)
class KnownPeer:
    """A client that counts as the partner, by its reverse name or its address; ``called`` in the table."""

    name: str
    address: str
    called: str


@dataclass(frozen=True)
class ExpectedCase:
    """One case, in words, and what the rulesets must answer to it.

    ``decided_by_others``: other rules may decide it too, so it must be as it was (``live``: it is none of this rule's
    business), or as the map wished for says (``candidate``: it is no longer demanded here).
    """

    label: str
    case: Case
    expected: Answer
    decided_by_others: Literal["", "live", "candidate"] = ""

    @property
    def is_negative(self) -> bool:
        return self.expected != "accepted"


def answer(decision: Decision) -> Answer:
    """A decision of the rulesets in the words of the table."""
    return REFUSED[decision.refused] if decision.refused else "accepted"


def settled(case: ExpectedCase, live: Decision, candidate: Decision) -> ExpectedCase:
    """The case with what other rules make of it: ``live`` before the change, ``candidate`` after it."""
    match case.decided_by_others:
        case "live":
            return replace(case, expected=answer(live))
        case "candidate":
            return replace(case, expected=answer(candidate))
        case _:
            return case


def expected_cases(
    wish: EnforceWish,
    addresses: tuple[str, ...],
    extension: Extension | None,
    *,
    shown: Shown | None = None,
    known: tuple[KnownPeer, ...] = (),
    held_now: tuple[Direction, ...] = (),
) -> tuple[ExpectedCase, ...]:
    """The table for this wish. ``addresses`` are the partner's as in the access map, ``extension`` is the identity.

    ``shown`` is the certificate on the partner's port 25, ``known`` are further clients that are the partner, and
    ``held_now`` the directions in which rules of the partner are in force before the change.
    """
    # What was taken back is looked at in every direction.
    directions: tuple[Direction, ...] = wish.directions if wish.demands else ("server", "client", "recipient")
    found = [case for direction in directions for case in _cases(wish, direction, addresses, extension, shown)]
    if wish.demands and "server" in wish.directions and not wish.everyone:
        refused = REFUSED[wish.failure("server")]
        for peer in known:
            case = Case("server", peer.name, peer.address, "NONE")
            found.append(ExpectedCase(f"{peer.called} connects without STARTTLS", case, refused))
    for direction in held_now:
        if direction not in directions:
            dropped = next(iter(_cases(replace(wish, requirement="none"), direction, addresses, None, None)))
            case = replace(_anonymous(dropped.case, "NONE"), bits=0)
            label = f"{_NO_LONGER[direction]}, without STARTTLS"
            found.append(ExpectedCase(label, case, "accepted", "candidate"))
    return tuple(found)


def _cases(
    wish: EnforceWish,
    direction: Direction,
    addresses: tuple[str, ...],
    extension: Extension | None,
    shown: Shown | None,
) -> Iterator[ExpectedCase]:
    stranger = Case(direction, _STRANGER, _uncovered_address(addresses), "NONE")
    if wish.everyone:
        # The partner may have rules of its own, which come first.
        peer, address, who = _STRANGER, stranger.address, "anybody"
    else:
        peer, address = wish.partner, sample_address(addresses[0]) if addresses else stranger.address
        who = "the partner"
    good = Case(direction, peer, address, "OK", _GOOD_BITS)
    if shown is not None and direction != "server" and not wish.everyone:
        # The server's certificate is the one to be judged here; as a client it may show another.
        good = Case(
            direction,
            peer,
            address,
            shown.verify,
            _GOOD_BITS,
            cn_subject=shown.cn_subject,
            cert_subject=shown.cert_subject,
            cert_issuer=shown.cert_issuer,
        )
    else:
        good = identified(good, extension)
    refused = REFUSED[wish.failure(direction)]
    if direction == "recipient":
        for domain in (_STRANGER,) if wish.everyone else wish.mail_domains:
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
        _by_others(wish, elsewhere),
    )
    if not wish.everyone:
        yield ExpectedCase(
            "mail to another domain is sent without STARTTLS",
            replace(elsewhere, recipient="postmaster@other.invalid"),
            "accepted",
            "live",
        )


def _by_others(wish: EnforceWish, case: Case) -> Literal["", "candidate"]:
    """Where something is taken back other rules may still hold; but mail must leave without TLS where that is asked."""
    leaves = wish.requirement == "never" and case.direction != "server" and case.verify == "NONE"
    return "" if wish.demands or leaves else "candidate"


def _as_wished(
    wish: EnforceWish, who: str, good: Case, refused: Answer, *, identified: bool = True
) -> Iterator[ExpectedCase]:
    """One peer with everything that may be wrong with its connection."""
    verified = wish.requirement == "verify"

    def expect(label: str, case: Case, *, refuse: bool) -> ExpectedCase:
        expected = refused if refuse and wish.demands else "accepted"
        return ExpectedCase(f"{who}, {label}", case, expected, _by_others(wish, case))

    yield expect("with its certificate", good, refuse=verified and not identified)
    yield expect("without STARTTLS", replace(_anonymous(good, "NONE"), bits=0), refuse=True)
    yield expect("without a certificate", _anonymous(good, "NO"), refuse=verified)
    failed = replace(_anonymous(good, "FAIL"), cn_subject=good.cn_subject, cert_issuer=_OTHER_CA)
    yield expect("with a certificate that does not verify", failed, refuse=verified)
    if good.cert_issuer or good.cert_subject or good.cn_subject:
        other = replace(good, cn_subject="other.invalid", cert_subject="/CN=other.invalid", cert_issuer=_OTHER_CA)
        yield expect("with a certificate of somebody else that verifies", other, refuse=verified)
    if wish.bits > _FEW_BITS:
        yield expect(f"with its certificate and a {_FEW_BITS}-bit cipher", replace(good, bits=_FEW_BITS), refuse=True)


def _others(wish: EnforceWish, stranger: Case) -> Iterator[ExpectedCase]:
    held = wish.everyone and wish.demands
    if not wish.everyone:
        who = "a stranger connects" if stranger.direction == "server" else "a stranger's server is connected to"
        yield ExpectedCase(f"{who}, without STARTTLS", stranger, "accepted", "live")
    for address in ("127.0.0.1", "IPv6:0:0:0:0:0:0:0:1"):
        local = Case(stranger.direction, "localhost", address, "NONE")
        what = "submits a message from" if stranger.direction == "server" else "is handed mail at"
        yield ExpectedCase(f"this host itself {what} {address}", local, "accepted", "" if held else "live")


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


def sample_address(name: str) -> str:
    """One address that an address name of the access map covers: itself, or one below a prefix."""
    if name.startswith("IPv6:"):
        groups = name.removeprefix("IPv6:").split(":")
        return "IPv6:" + ":".join([*groups, *["0"] * (7 - len(groups)), "1"][:8]) if len(groups) < 8 else name
    octets = name.split(".")
    return ".".join([*octets, *["0"] * (3 - len(octets)), "1"]) if len(octets) < 4 else name
