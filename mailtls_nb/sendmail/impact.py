"""Who would have been refused, had a rule on TLS been in force: the numbers, for people, plan and record.

``Tally`` counts them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime

from mailtls_nb.names import is_within
from mailtls_nb.sendmail.access.case import Direction
from mailtls_nb.sendmail.history import MailHistory
from mailtls_nb.sendmail.shared_senders import shared_sender


@dataclass(frozen=True)
class PeerImpact:
    """One peer in one direction: its messages in the period, and what would have become of them.

    ``name`` is the name that the rules look up; with direction recipient the domain of the recipients. ``addresses``
    are some of those seen. ``reasons`` are those for what is refused or undecided, each with its number of messages,
    the most frequent first. ``refused_already``: attempts that a TLS rule in force refused, not among ``messages``.
    ``shared``: whose service the name belongs to, where many customers share it.
    """

    direction: Direction
    name: str
    addresses: tuple[str, ...]
    claimed_name: str
    is_local: bool
    messages: int
    refused: int
    undecided: int
    refused_already: int
    reasons: tuple[tuple[str, int], ...]
    first_seen: datetime
    last_seen: datetime

    @property
    def accepted(self) -> int:
        return self.messages - self.refused - self.undecided

    @property
    def shared(self) -> str:
        return shared_sender(self.name)

    @property
    def label(self) -> str:
        """The name with what an operator must know about it."""
        notes = []
        if self.claimed_name:
            notes.append(f"says it is {self.claimed_name}, may be forged")
        if self.is_local:
            notes.append("this host itself")
        if self.shared:
            notes.append(f"shared by customers of {self.shared}")
        return f"{self.name} ({'; '.join(notes)})" if notes else self.name


@dataclass(frozen=True)
class Rest:
    """The peers that are not listed, summed; one that came back after it gave way counts again among ``peers``."""

    peers: int = 0
    messages: int = 0
    refused: int = 0
    undecided: int = 0
    refused_already: int = 0


@dataclass(frozen=True)
class Period:
    """What was read: the times of the first and last line that told something, None where none did."""

    first: datetime | None = None
    last: datetime | None = None
    lines: int = 0
    not_understood: int = 0

    @classmethod
    def of(cls, history: MailHistory) -> Period:
        return cls(history.first, history.last, history.lines, history.not_understood)


@dataclass(frozen=True)
class Impact:
    """The peers, those with most messages refused first, and what they come to. ``remarks`` say what was not read."""

    period: Period
    peers: tuple[PeerImpact, ...]
    rest: Rest = field(default=Rest())
    remarks: tuple[str, ...] = ()

    @property
    def messages(self) -> int:
        return self.rest.messages + sum(peer.messages for peer in self.peers)

    @property
    def refused(self) -> int:
        return self.rest.refused + sum(peer.refused for peer in self.peers)

    @property
    def undecided(self) -> int:
        return self.rest.undecided + sum(peer.undecided for peer in self.peers)

    @property
    def refused_already(self) -> int:
        return self.rest.refused_already + sum(peer.refused_already for peer in self.peers)

    @property
    def accepted(self) -> int:
        return self.messages - self.refused - self.undecided

    @property
    def concerned(self) -> tuple[PeerImpact, ...]:
        """The peers for whom the rule is more than words: refused, undecided, or refused already."""
        return tuple(peer for peer in self.peers if peer.refused or peer.undecided or peer.refused_already)

    @property
    def shared_senders(self) -> tuple[PeerImpact, ...]:
        """The peers concerned whose name many tenants share: the rule cannot tell the partner from the others."""
        return tuple(peer for peer in self.concerned if peer.shared)

    def as_facts(self) -> tuple[tuple[str, str], ...]:
        """Label and value, for people."""
        period = self.period
        span = f"{_minute(period.first)} to {_minute(period.last)}" if period.first else "no line about a connection"
        facts = [
            ("log read", f"{span}, {period.lines:,} lines, {period.not_understood:,} of them not understood"),
            ("messages seen, in each direction", f"{self.messages:,}"),
            ("would have been refused", f"{self.refused:,}"),
            ("cannot be told", f"{self.undecided:,}"),
            ("refused already by a rule on TLS", f"{self.refused_already:,} attempts"),
        ]
        if self.rest.peers:
            facts.append(("peers not listed", f"{self.rest.peers:,} with {self.rest.messages:,} messages"))
        facts += [("shared name", f"{peer.name}: customers of {peer.shared}") for peer in self.shared_senders]
        facts += [("not read", remark) for remark in self.remarks]
        return tuple(facts)

    def table(self, *, most: int = 20, always: Collection[str] = ()) -> tuple[tuple[str, ...], ...]:
        """Headings and a row for each peer concerned, and for those whose name, or a parent domain, is in ``always``.

        Rows beyond ``most`` are summed in a last one. Only the headings where there is no such peer.
        """
        headings = ("peer", "direction", "addresses", "messages", "refused", "cannot be told", "reasons", "last seen")
        shown = [
            peer
            for peer in self.peers
            if peer.refused or peer.undecided or peer.refused_already or _is_within(peer.name, always)
        ]
        rows: list[tuple[str, ...]] = [
            (
                peer.label,
                peer.direction,
                ", ".join(peer.addresses),
                str(peer.messages),
                str(peer.refused),
                str(peer.undecided),
                "; ".join([*_counted(peer.reasons), *_already(peer.refused_already)]) or "none",
                _minute(peer.last_seen),
            )
            for peer in shown[:most]
        ]
        if beyond := shown[most:]:
            sums = (sum(getattr(peer, what) for peer in beyond) for what in ("messages", "refused", "undecided"))
            rows.append((f"{len(beyond)} more", "", "", *map(str, sums), "", ""))
        return (headings, *rows)

    def as_data(self, *, most: int = 50) -> dict[str, object]:
        """For the plan and the record, in JSON's types: totals and the first ``most`` peers concerned."""
        period = self.period
        return {
            "first": period.first.isoformat() if period.first else None,
            "last": period.last.isoformat() if period.last else None,
            "lines": period.lines,
            "not_understood": period.not_understood,
            "messages": self.messages,
            "refused": self.refused,
            "undecided": self.undecided,
            "refused_already": self.refused_already,
            "peers_concerned": len(self.concerned),
            "peers": [
                {
                    "direction": peer.direction,
                    "name": peer.name,
                    "addresses": list(peer.addresses),
                    "messages": peer.messages,
                    "refused": peer.refused,
                    "undecided": peer.undecided,
                    "refused_already": peer.refused_already,
                    "reasons": dict(peer.reasons),
                    "last_seen": peer.last_seen.isoformat(),
                    "shared": peer.shared,
                }
                for peer in self.concerned[:most]
            ],
            "remarks": list(self.remarks),
        }


def _is_within(name: str, domains: Collection[str]) -> bool:
    return any(is_within(name, domain) for domain in domains)


def _counted(reasons: Iterable[tuple[str, int]]) -> Iterator[str]:
    return (f"{reason}: {count}" for reason, count in reasons)


def _already(count: int) -> Iterator[str]:
    if count:
        yield f"refused already: {count}"


def _minute(time: datetime | None) -> str:
    return time.strftime("%Y-%m-%d %H:%M UTC") if time else ""
