"""Why and when a certificate was revoked: the third field of a row of index.txt, and what a CRL says of it. Pure."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, get_args

from cryptography import x509

from mailtls_nb.errors import BadParameter
from mailtls_nb.pki.dates import date_text, parse_date

Reason = Literal[
    "unspecified",
    "keyCompromise",
    "CACompromise",
    "affiliationChanged",
    "superseded",
    "cessationOfOperation",
    "certificateHold",
]
# The words of openssl-ca(1) for RFC 5280 5.3.1's codes.
_FLAGS: dict[Reason, x509.ReasonFlags] = {
    "unspecified": x509.ReasonFlags.unspecified,
    "keyCompromise": x509.ReasonFlags.key_compromise,
    "CACompromise": x509.ReasonFlags.ca_compromise,
    "affiliationChanged": x509.ReasonFlags.affiliation_changed,
    "superseded": x509.ReasonFlags.superseded,
    "cessationOfOperation": x509.ReasonFlags.cessation_of_operation,
    "certificateHold": x509.ReasonFlags.certificate_hold,
}
_BY_WORD: dict[str, Reason] = {word.lower(): word for word in _FLAGS}
# What `openssl ca -crl_compromise TIME` and its like write instead: the same reasons, with a further field.
_WITH_A_TIME: dict[str, Reason] = {"keytime": "keyCompromise", "cakeytime": "CACompromise"}
_COMPROMISED: tuple[Reason, ...] = ("keyCompromise", "CACompromise")


@dataclass(frozen=True)
class Revocation:
    """When and why; ``text`` is how it stands in the index, kept as it is where openssl wrote it.

    ``compromised_since``: since when the key may have been in other hands (invalidityDate, RFC 5280 5.3.2).
    """

    at: datetime
    reason: Reason
    text: str
    compromised_since: datetime | None = None

    @classmethod
    def of(cls, at: datetime, reason: Reason) -> Revocation:
        """A revocation at a moment (UTC, whole seconds)."""
        at = at.astimezone(UTC).replace(microsecond=0)
        return cls(at, reason, date_text(at) if reason == "unspecified" else f"{date_text(at)},{reason}")

    @classmethod
    def parse(cls, text: str) -> Revocation:
        """Read ``date[,reason[,extra]]`` (openssl's apps/ca.c, unpack_revinfo); raises ValueError."""
        date, _, rest = text.partition(",")
        word, _, extra = rest.partition(",")
        at = parse_date(date)
        if not word:
            return cls(at, "unspecified", text)
        if reason := _WITH_A_TIME.get(word.lower()):
            return cls(at, reason, text, parse_date(extra))
        if word.lower() == "holdinstruction":
            return cls(at, "certificateHold", text)
        if word.lower() not in _BY_WORD:
            raise ValueError(f"{word!r} is not a reason for a revocation")
        return cls(at, _BY_WORD[word.lower()], text)

    @property
    def is_compromise(self) -> bool:
        """Whether the key may be in other hands, so that it must never be certified again."""
        return self.reason in _COMPROMISED

    def outdone_by(self, reason: Reason) -> bool:
        """Whether a certificate revoked so may be revoked again for ``reason``: one that says more of its key.

        A hold may become final; what is final becomes a compromise and nothing else.
        """
        if self.is_compromise or reason == self.reason:
            return False
        return reason in _COMPROMISED or self.reason == "certificateHold"

    def crl_extensions(self) -> tuple[x509.CRLReason | x509.InvalidityDate, ...]:
        """The entry extensions in a CRL; without any for an unspecified reason (RFC 5280 5.3.1)."""
        found: tuple[x509.CRLReason | x509.InvalidityDate, ...] = ()
        if self.reason != "unspecified":
            found += (x509.CRLReason(_FLAGS[self.reason]),)
        if self.compromised_since is not None:
            found += (x509.InvalidityDate(self.compromised_since.replace(tzinfo=None)),)
        return found


def revocation_reason(text: str) -> Reason:
    """The parameter revocation_reason; raises BadParameter."""
    for reason in get_args(Reason):
        if text == reason:
            return reason  # type: ignore[no-any-return]
    if text.lower() == "removefromcrl":
        raise BadParameter(
            "revocation_reason",
            "removeFromCRL belongs to delta CRLs, which sendmail does not use",
            do="what was revoked stays so: issue a new certificate (02-issue-certificate)",
        )
    near = difflib.get_close_matches(text.lower().replace("_", "").replace("-", ""), _BY_WORD, n=1)
    meant = _BY_WORD[near[0]] if near else ""
    raise BadParameter(
        "revocation_reason",
        f"{text!r:.80} is not a reason" + (f": did you mean {meant}?" if meant else ""),
        do="give one of " + ", ".join(get_args(Reason)),
    )
