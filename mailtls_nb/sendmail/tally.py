"""Counting who would have been refused: the past connections of a mail log, each judged by a rule on TLS.

What the log does not tell is not guessed: a message is refused when even the best that the log leaves open would be
refused, accepted when even the worst would be accepted, and otherwise undecided. Memory is bounded: the peers with the
least to tell give way, and are summed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Literal

from mailtls_nb.sendmail.access.case import Case, Decision, Direction
from mailtls_nb.sendmail.history import Event
from mailtls_nb.sendmail.impact import Impact, PeerImpact, Period, Rest

MOST_PEERS = 5000
# Kept of one peer.
_MOST_ADDRESSES = 8
_MOST_REASONS = 8
_OTHER_REASONS = "other reasons"
# Judgements kept: most connections of a peer are alike.
_MOST_JUDGEMENTS = 4096
_STRONG_BITS = 256

NO_STARTTLS = "no STARTTLS"
UNKNOWN_NAMES = "unknown issuer: cannot be told from this log"
UNKNOWN_SESSION = "TLS session unknown: cannot be told from this log"
OTHER_CERTIFICATE = "another certificate than the rule asks for"
_VERIFY_WORDS = {
    "NO": "no certificate shown",
    "NOT": "no certificate asked for",
    "FAIL": "certificate not verified",
    "NONE": NO_STARTTLS,
    "CLEAR": "STARTTLS disabled locally",
    "TEMP": "temporary error in TLS",
    "PROTOCOL": "protocol error in TLS",
    "SOFTWARE": "TLS handshake failed",
    "CONFIG": "TLS configuration error",
    "DANE_FAIL": "DANE not fulfilled",
}

_Outcome = Literal["accepted", "refused", "undecided"]


@dataclass(frozen=True)
class FittingCertificate:
    """What a certificate says that the rule is meant for, in sendmail's spelling; empty where the rule asks nothing."""

    cn_subject: str = ""
    cert_subject: str = ""
    cert_issuer: str = ""


class Tally:
    """Judges events one by one, and keeps count by peer.

    ``decide`` is the rule: a pure function. ``directions`` are those that it is about. ``fitting`` and ``bits`` (what
    the rule asks for, 0 where nothing) serve to tell what the log leaves open, and to name reasons.
    """

    def __init__(
        self,
        decide: Callable[[Case], Decision],
        *,
        directions: Collection[Direction] = ("server", "client", "recipient"),
        fitting: FittingCertificate | None = None,
        bits: int = 0,
        most_peers: int = MOST_PEERS,
    ) -> None:
        self._judge = _Judge(decide, fitting or FittingCertificate(), bits)
        self._directions = frozenset(directions)
        self._most_peers = most_peers
        self._peers: dict[tuple[Direction, str], _Count] = {}
        self._rest = Rest()

    def add(self, event: Event) -> None:
        """Count one event: once in each direction that it concerns, once for each domain of the recipients."""
        if event.direction != "recipient" and event.direction in self._directions:
            self._count(event, event.peer, event.address, "")
        if event.recipients and "recipient" in self._directions:
            server = event.peer if event.peer.startswith("[") else f"{event.peer} [{event.address}]"
            # One of each domain: a rule for single users is rare, and one delivery is one message.
            by_domain = {address.rpartition("@")[2].lower(): address for address in reversed(event.recipients)}
            for domain, recipient in by_domain.items():
                self._count(event, domain, server, recipient)

    def impact(self, period: Period, remarks: tuple[str, ...] = ()) -> Impact:
        """What was counted so far."""
        peers = sorted(
            (count.as_impact(*key) for key, count in self._peers.items()),
            key=lambda peer: (-peer.refused, -peer.undecided, -peer.messages, peer.name, peer.direction),
        )
        return Impact(period, tuple(peers), self._rest, remarks)

    def _count(self, event: Event, name: str, address: str, recipient: str) -> None:
        direction: Direction = "recipient" if recipient else event.direction
        count = self._peers.get((direction, name))
        if count is None:
            if len(self._peers) >= self._most_peers:
                self._make_room()
            count = self._peers[direction, name] = _Count(event.time)
        if event.refused:
            count.refused_already += 1
        else:
            count.add(*self._judge(event, direction, recipient))
        count.see(event, address)

    def _make_room(self) -> None:
        """A tenth of the peers, those with the least to tell, are summed."""
        by_weight = sorted(self._peers, key=lambda key: self._peers[key].weight)
        for key in by_weight[: max(1, self._most_peers // 10)]:
            count = self._peers.pop(key)
            self._rest = Rest(
                self._rest.peers + 1,
                self._rest.messages + count.messages,
                self._rest.refused + count.refused,
                self._rest.undecided + count.undecided,
                self._rest.refused_already + count.refused_already,
            )


@dataclass
class _Count:
    """One peer while it is counted."""

    first_seen: datetime
    last_seen: datetime = field(init=False)
    messages: int = 0
    refused: int = 0
    undecided: int = 0
    refused_already: int = 0
    reasons: Counter[str] = field(default_factory=Counter)
    addresses: dict[str, None] = field(default_factory=dict)
    claimed_name: str = ""
    is_local: bool = False

    def __post_init__(self) -> None:
        self.last_seen = self.first_seen

    @property
    def weight(self) -> tuple[int, int]:
        return self.refused + self.undecided + self.refused_already, self.messages

    def add(self, outcome: _Outcome, reason: str) -> None:
        self.messages += 1
        if outcome == "accepted":
            return
        if outcome == "refused":
            self.refused += 1
        else:
            self.undecided += 1
        known = reason in self.reasons or len(self.reasons) < _MOST_REASONS
        self.reasons[reason if known else _OTHER_REASONS] += 1

    def see(self, event: Event, address: str) -> None:
        self.first_seen = min(self.first_seen, event.time)
        self.last_seen = max(self.last_seen, event.time)
        if address in self.addresses or len(self.addresses) >= _MOST_ADDRESSES:
            return
        self.addresses[address] = None
        self.claimed_name = event.claimed_name or self.claimed_name
        self.is_local = self.is_local or event.is_local

    def as_impact(self, direction: Direction, name: str) -> PeerImpact:
        return PeerImpact(
            direction=direction,
            name=name,
            addresses=tuple(sorted(self.addresses)),
            claimed_name=self.claimed_name,
            is_local=self.is_local,
            messages=self.messages,
            refused=self.refused,
            undecided=self.undecided,
            refused_already=self.refused_already,
            reasons=tuple(sorted(self.reasons.items(), key=lambda item: (-item[1], item[0]))),
            first_seen=self.first_seen,
            last_seen=self.last_seen,
        )


class _Judge:
    """Says of an event what the rule would have done, and why."""

    def __init__(self, decide: Callable[[Case], Decision], fitting: FittingCertificate, bits: int) -> None:
        self._decide = decide
        self._fitting = fitting
        self._bits = bits
        self._judgements: dict[object, tuple[_Outcome, str]] = {}

    def __call__(self, event: Event, direction: Direction, recipient: str) -> tuple[_Outcome, str]:
        key = (direction, event.peer, event.address, event.session, recipient)
        judgement = self._judgements.get(key)
        if judgement is None:
            if len(self._judgements) >= _MOST_JUDGEMENTS:
                self._judgements.clear()
            judgement = self._judgements[key] = self._judgement(event, direction, recipient)
        return judgement

    def _judgement(self, event: Event, direction: Direction, recipient: str) -> tuple[_Outcome, str]:
        worst, best = self._worst(event, direction, recipient), self._best(event, direction, recipient)
        if self._accepts(worst):
            return "accepted", ""
        if self._accepts(best):
            return "undecided", UNKNOWN_NAMES if event.session.verify else UNKNOWN_SESSION
        return "refused", self._reason(worst, best)

    def _accepts(self, case: Case) -> bool:
        return self._decide(case).accepted

    def _worst(self, event: Event, direction: Direction, recipient: str) -> Case:
        """The case with nothing in what the log does not tell."""
        session = event.session
        return Case(
            direction,
            event.peer,
            event.address,
            session.verify or "FAIL",
            session.bits,
            session.auth_ssf,
            session.cn_subject or "",
            session.cert_subject or "",
            session.cert_issuer or "",
            recipient=recipient,
        )

    def _best(self, event: Event, direction: Direction, recipient: str) -> Case:
        """The case with what the rule asks for in all that the log does not tell."""
        session = event.session
        case = self._worst(event, direction, recipient)
        if not session.verify:
            case = replace(case, verify="OK", bits=_STRONG_BITS)
        if case.verify not in {"OK", "TRUSTED", "FAIL"}:
            return case  # no certificate was shown: there is nothing more to know
        fitting = self._fitting
        if session.cert_subject is None:
            case = replace(case, cn_subject=fitting.cn_subject or case.peer, cert_subject=fitting.cert_subject)
        if session.cert_issuer is None:
            case = replace(case, cert_issuer=fitting.cert_issuer)
        # Never logged at these levels.
        return replace(case, alternative_names=tuple(name for name in (fitting.cn_subject, case.peer) if name))

    def _reason(self, case: Case, best: Case) -> str:
        if case.verify == "NONE":
            return NO_STARTTLS
        if case.bits < _STRONG_BITS and self._accepts(replace(best, bits=_STRONG_BITS)):
            return f"bits {case.bits} < {self._bits}" if self._bits else f"bits {case.bits} are too few"
        if case.verify in {"OK", "TRUSTED"}:
            return f"{OTHER_CERTIFICATE} (issuer {case.cert_issuer})" if case.cert_issuer else OTHER_CERTIFICATE
        return f"{_VERIFY_WORDS.get(case.verify, 'not verified')} (verify={case.verify})"
