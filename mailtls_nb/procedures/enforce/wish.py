"""What 04-enforce-access is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, get_args

from mailtls_nb.errors import BadParameter
from mailtls_nb.hosts.address import HostAddress
from mailtls_nb.names import partner_name, shown
from mailtls_nb.parameters import whole_number, word
from mailtls_nb.procedures.procedure import Values, check_common
from mailtls_nb.sendmail.access.block import EVERYONE
from mailtls_nb.sendmail.access.case import Direction
from mailtls_nb.sendmail.access.entries import address_names
from mailtls_nb.sendmail.access.requirement import BadRequirement, Extension

RequirementWord = Literal["verify", "encrypt", "never", "none"]
FailureWord = Literal["permanent", "temporary"]
# Who a verified peer has to be: certified by the CA that the partner's certificate has now, named by its certificate,
# anybody that a trusted CA certified, or what an extension says literally.
Identity = Literal["issuer", "name", "any"] | Extension

# No key of a symmetric cipher is longer.
_MOST_BITS = 256
# A refused client may try another way or tell its sender at once; mail of ours waits until the cure (cf/README).
_ON_FAILURE: dict[Direction, FailureWord] = {"server": "permanent", "client": "temporary", "recipient": "temporary"}


@dataclass(frozen=True)
class EnforceWish:
    """The parameters of 04, validated.

    ``addresses`` are names of the access map ("192.0.2", "IPv6:..."); empty: those that DNS gives for the partner.
    ``partner_domains`` are only used in the direction ``recipient``.
    """

    partner: str
    addresses: tuple[str, ...]
    partner_domains: tuple[str, ...]
    directions: tuple[Direction, ...]
    requirement: RequirementWord
    bits: int
    identity: Identity
    on_failure: FailureWord | None
    everyone: bool
    host: HostAddress
    probe_from: HostAddress | None

    @property
    def is_testbed(self) -> bool:
        """Both hosts are the testbed's."""
        return self.host.is_testbed and self.probe_from is not None and self.probe_from.is_testbed

    @property
    def demands(self) -> bool:
        """Something is demanded of the partner, rather than taken back."""
        return self.requirement in ("verify", "encrypt")

    @property
    def group(self) -> str:
        """Whose entries in the managed block these are."""
        return EVERYONE if self.everyone else self.partner

    @property
    def mail_domains(self) -> tuple[str, ...]:
        """The domains of the partner's mail, by what is known."""
        return self.partner_domains or (self.partner,)

    def failure(self, direction: Direction) -> FailureWord:
        """How a peer that does not meet the requirement is refused."""
        return self.on_failure or _ON_FAILURE[direction]

    def as_data(self) -> dict[str, str | int]:
        """The wish as it goes into the plan and its digest."""
        return {
            "partner": self.partner,
            "addresses": ",".join(self.addresses),
            "partner_domains": ",".join(self.partner_domains),
            "directions": ",".join(self.directions),
            "requirement": self.requirement,
            "bits": self.bits,
            "identity": str(self.identity),
            "on_failure": self.on_failure or "",
            "everyone": "yes" if self.everyone else "no",
            "host": str(self.host),
            "probe_from": str(self.probe_from) if self.probe_from else "here",
        }


def read_wish(values: Values) -> EnforceWish:
    """Validate the parameters of 04; raises BadParameter, naming the parameter."""
    check_common(values)
    texts = {name: str(value) for name, value in values.items()}
    host = HostAddress.parse("host", texts["host"])
    probe = None if texts["probe_from"] == "here" else HostAddress.parse("probe_from", texts["probe_from"])
    if probe == host:
        raise BadParameter("probe_from", f"{probe} is the host itself", do="name a second host, or here")
    partner = partner_name("partner", texts["partner"])
    requirement: RequirementWord = _one_of(RequirementWord, "requirement", texts["requirement"])
    directions = _directions(texts["directions"])
    everyone = word("everyone", texts["everyone"], ("no", "yes")) == "yes"
    if everyone and requirement == "never":
        raise BadParameter("everyone", "cannot be used with requirement never", do="name the partner and say no")
    identity = _identity(texts["identity"])
    if everyone and identity == "issuer" and requirement == "verify":
        raise BadParameter(
            "identity",
            "issuer would hold everyone to the CA of one partner",
            do="give any, name, or the CA that everyone has: CI:/C=.../CN=...",
        )
    domains = tuple(partner_name("partner_domains", name) for name in _items(texts["partner_domains"]))
    if not domains and "recipient" in directions and not everyone and requirement in ("verify", "encrypt"):
        if not host.is_testbed:
            raise BadParameter(
                "partner_domains",
                "is empty, so no recipient would be covered",
                do="name the partner's mail domains, or leave recipient out of directions",
            )
        domains = (partner,)
    return EnforceWish(
        partner=partner,
        addresses=address_names(texts["addresses"]),
        partner_domains=domains,
        directions=directions,
        requirement=requirement,
        bits=whole_number("bits", int(values["bits"]), 1, _MOST_BITS, "bits"),
        identity=identity,
        on_failure=_one_of(FailureWord, "on_failure", texts["on_failure"]) if texts["on_failure"] else None,
        everyone=everyone,
        host=host,
        probe_from=probe,
    )


def _one_of(words: Any, parameter: str, value: str) -> Any:
    return word(parameter, value, get_args(words))


def _items(text: str) -> tuple[str, ...]:
    return tuple(dict.fromkeys(item.strip(" ") for item in text.split(","))) if text else ()


def _directions(text: str) -> tuple[Direction, ...]:
    given = [item.strip(" ") for item in text.split(",")]
    for item in given:
        word("directions", item, get_args(Direction))
    # In one order, whatever order they were given in: the same wish is the same plan.
    return tuple(direction for direction in get_args(Direction) if direction in given)


def _identity(text: str) -> Identity:
    for known in ("issuer", "name", "any"):
        if text == known:
            return known
    kind, _, value = text.partition(":")
    if kind not in ("CI", "CS", "CN") or not value:
        raise BadParameter(
            "identity",
            f"{shown(text)} is none of issuer, name, any, CI:..., CS:... and CN:...",
            do="take issuer unless you know better: it pins the CA that the partner's certificate has now",
        )
    try:
        return Extension(kind, value)  # type: ignore[arg-type]
    except BadRequirement as error:
        raise BadParameter("identity", error.problem, do="spell it as sendmail does, +20 for a space") from error
