"""What every runbook's procedure is: a wish, an observation, a plan, and what applying it showed."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import ClassVar, Generic, Literal, Protocol, TypeVar

from mailtls_nb.approval import check_word
from mailtls_nb.finding import Finding
from mailtls_nb.hosts.address import HostAddress
from mailtls_nb.hosts.base import Host
from mailtls_nb.parameters import absolute_path
from mailtls_nb.plan import Plan
from mailtls_nb.secret import Secret, SecretReference
from mailtls_nb.sendmail.impact import Impact
from mailtls_nb.testbed import Testbed
from mailtls_nb.verdict import Claim

Values = Mapping[str, str | int]
Facts = tuple[tuple[str, str], ...]
# The first row is the headings.
Table = tuple[tuple[str, ...], ...]


@dataclass(frozen=True)
class Context:
    """The world of one run: its folder, its hosts (each command recorded), the clock, and the testbed."""

    folder: Path
    host: Callable[[HostAddress], Host]
    here: Host
    now: Callable[[], datetime]
    testbed: Callable[[], Testbed]
    # Fetches a secret once a run (a person is asked once), and keeps its value out of the log of commands.
    secret: Callable[[SecretReference], Secret]

    def probe(self, address: HostAddress | None) -> Host:
        """Where new connections are made from: another host, or this machine."""
        return self.host(address) if address else self.here


class Wish(Protocol):
    """What the operator wants, validated. ``is_testbed``: every host and the CA directory are the testbed's."""

    @property
    def is_testbed(self) -> bool: ...


A = TypeVar("A")
W = TypeVar("W", bound=Wish)
B = TypeVar("B")


@dataclass(frozen=True)
class Applied:
    """What a run did and what it saw afterwards."""

    outcome: Literal["changed", "unchanged", "planned"]
    summary: str
    claims: tuple[Claim, ...]
    facts: Facts = ()
    # What the run gives out, by path in its folder, with a sentence each.
    artifacts: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Observed:
    """What was there before, in the operator's words.

    ``hosts`` goes into the record; ``remarks`` are worth a look but stop nothing; ``tables`` stand under headings.
    """

    title: str
    facts: Facts
    hosts: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    remarks: tuple[str, ...] = field(default=())
    tables: Mapping[str, Table] = field(default_factory=dict)


def check_common(values: Values) -> None:
    """The parameters that every runbook has which changes something; raises BadParameter."""
    check_word(str(values["approve"]))
    check_audit_dir(values)


def check_audit_dir(values: Values) -> None:
    """The one parameter that every runbook has; raises BadParameter."""
    if values["audit_dir"]:
        absolute_path("audit_dir", str(values["audit_dir"]))


class Observing(ABC, Generic[A, B]):
    """What all runbooks share: a pure ``wish``, and ``observe``, which only reads."""

    runbook: ClassVar[str]

    @abstractmethod
    def wish(self, values: Values) -> A:
        """Validate the parameters; raises BadParameter before any host is contacted."""

    @abstractmethod
    def target(self, values: Values) -> str:
        """What the run is about, for the name of its folder."""

    @abstractmethod
    def observe(self, context: Context, wish: A) -> B:
        """Read what is there now; raises NotReady or Unreachable, nothing touched."""

    @abstractmethod
    def observed(self, wish: A, before: B) -> Observed:
        """The observation as a person reads it."""


class Check(Observing[A, B]):
    """A runbook that judges what it sees, and never changes anything on a host."""

    @abstractmethod
    def findings(self, wish: A, before: B) -> tuple[Finding, ...]:
        """What is wrong, the gravest first."""

    @abstractmethod
    def publish(self, wish: A, before: B, findings: tuple[Finding, ...]) -> None:
        """Write down here what other programs read, where that is wished."""


class Procedure(Observing[W, B]):
    """A runbook that changes something: pure ``wish`` and ``plan``; ``observe`` only reads; ``apply`` alone changes."""

    @abstractmethod
    def plan(self, wish: W, before: B) -> Plan:
        """The steps from what is there to what is wished; empty when nothing is to be done."""

    def impact(self, wish: W, before: B) -> Impact | None:  # noqa: ARG002
        """Whom the change would have met in the past, where the runbook demands something of others."""
        return None

    def heal(self, context: Context, wish: W, before: B) -> tuple[str, ...]:  # noqa: ARG002
        """Undo what an interrupted run left on a host, and say what; then all is to be seen anew."""
        return ()

    @abstractmethod
    def apply(self, context: Context, wish: W, before: B, plan: Plan) -> Applied:
        """Do it, observe and judge; on any failure everything is put back before the error is raised."""

    @abstractmethod
    def unchanged(self, context: Context, wish: W, before: B) -> Applied:
        """What an empty plan rests on, as claims over the observation."""
