"""What ends, and when: certificates, CAs, a partner's CAs, certificate revocation lists. Pure: ``now`` is given."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

# certificate: in service on a host. issued: a row in a CA's index. ca: our own. partner-ca: any other that is trusted.
Kind = Literal["certificate", "issued", "ca", "partner-ca", "crl"]
State = Literal["ended", "ends soon", "fine"]

_DAY = timedelta(days=1)


@dataclass(frozen=True)
class End:
    """One thing that ends.

    ``name`` is its subject, a CRL's its issuer; ``where`` is the file or directory that it lies in; ``begin`` is needed
    of a CRL only.
    """

    kind: Kind
    name: str
    where: str
    end: datetime
    begin: datetime | None = None

    def days_left(self, now: datetime) -> int:
        """Whole days until the end; negative from the moment of the end on."""
        left = self.end - now
        return left // _DAY if left else -1

    def state(self, now: datetime, warn: timedelta) -> State:
        """``ends soon`` within ``warn``; a CRL at the latest when two thirds of its time are over.

        CRLs are made for days or weeks: one that lasts a month would never be without a warning.
        """
        if self.kind == "crl" and self.begin is not None:
            warn = min(warn, (self.end - self.begin) / 3)
        if self.end <= now:
            return "ended"
        return "ends soon" if self.end - now <= warn else "fine"

    def __str__(self) -> str:
        return f"{_WORDS[self.kind]} {self.name}"


_WORDS: dict[Kind, str] = {
    "certificate": "certificate",
    "issued": "issued certificate",
    "ca": "our CA",
    "partner-ca": "partner's CA",
    "crl": "CRL of",
}


def first_to_end(things: Iterable[End]) -> tuple[End, ...]:
    """The things sorted by their end, each once."""
    return tuple(sorted(dict.fromkeys(things), key=lambda thing: (thing.end, thing.kind, thing.name, thing.where)))
