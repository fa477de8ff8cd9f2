"""One run of a runbook, step by step, as the cells of a notebook call it.

A notebook binds its parameters and then calls one method a cell: observe, plan, approval, apply, evidence,
verdict. Each writes what it learned into the run's record; after a failed step every later one refuses, so
that a front end which goes on after an error (nbval does) changes nothing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime
from types import ModuleType
from typing import Any

from mailtls_nb import __version__, record
from mailtls_nb.approval import Approval, decide, what_changed
from mailtls_nb.audit.folder import COMMANDS_NAME, CommandLog
from mailtls_nb.audit.leaks import secret_channel
from mailtls_nb.audit.recording import Recording
from mailtls_nb.display import (
    Report,
    Section,
    claims_report,
    findings_report,
    impact_report,
    observed_report,
    plan_report,
)
from mailtls_nb.errors import BadParameter, MailTLSError, NotReady, StaleApproval, VerdictFailed
from mailtls_nb.finding import Finding, counts, in_words
from mailtls_nb.hosts import open_host
from mailtls_nb.hosts.address import HostAddress
from mailtls_nb.hosts.base import Host
from mailtls_nb.hosts.local import LocalHost
from mailtls_nb.hosts.recorded import RecordedHost
from mailtls_nb.interruption import one_interruption
from mailtls_nb.library import Runbook, find
from mailtls_nb.parameters import check_values
from mailtls_nb.plan import Plan
from mailtls_nb.procedures import PROCEDURES
from mailtls_nb.procedures.procedure import Applied, Check, Context, Observing, Procedure
from mailtls_nb.secret import Secret, SecretReference
from mailtls_nb.testbed import Testbed
from mailtls_nb.verdict import Claim, judge

# What IPython itself puts into a notebook's names.
_IPYTHON_NAMES = frozenset({"In", "Out", "exit", "quit", "open", "get_ipython"})

_bound_before = False


def bind(runbook: str, names: Mapping[str, object]) -> Run:
    """Bind a notebook's names (its ``globals()``) to the runbook: everything is validated, nothing is touched.

    Raises BadParameter for an unknown name, a wrong type, or a value that the runbook refuses.
    """
    global _bound_before
    source = find(runbook)
    known = tuple(parameter.name for parameter in source.declared)
    values = {name: names[name] for name in known if name in names}
    missing = [name for name in known if name not in values]
    if missing:
        raise BadParameter(", ".join(missing), "is not set", do="run the parameters cell first")
    if not _bound_before:
        values |= {name: value for name, value in names.items() if name not in known and _is_foreign(name, value)}
    checked = check_values(source.declared, values)
    procedure = PROCEDURES[source.id]
    wish = procedure.wish(checked)
    run = Run(source, procedure, wish, checked)
    _bound_before = True
    return run


def _is_foreign(name: str, value: object) -> bool:
    # A parameter's name is pasted into the notebook as code by papermill: `x=1;import os` leaves x and os here.
    if name.startswith("_") or name in _IPYTHON_NAMES:
        return False
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", type(value).__module__)
    return not str(module).startswith("mailtls_nb")


class Run:
    """One run: what its cells call, in this order."""

    def __init__(
        self, runbook: Runbook, procedure: Observing[Any, Any], wish: Any, values: Mapping[str, str | int]
    ) -> None:
        self._runbook, self._procedure, self._wish, self._values = runbook, procedure, wish, values
        secret_channel.take_over()
        self._recording = Recording.of(runbook, values, procedure.target(values))
        self._log = CommandLog(self._recording.folder / COMMANDS_NAME)
        self._testbed_up: Testbed | None = None
        self._secrets: dict[SecretReference, Secret] = {}
        self._context = Context(
            self._recording.folder,
            self._host,
            self._recorded(LocalHost(name="here")),
            _now,
            self._testbed,
            self._secret,
        )
        self._before: Any = None
        self._plan: Plan | None = None
        self._undone: tuple[Section, ...] = ()
        self._approval: Approval | None = None
        self._applied: Applied | None = None
        self._failure: BaseException | None = None

    def __repr__(self) -> str:
        lines = [f"{self._runbook.id}, mailtls-nb {__version__}"]
        width = max(map(len, self._values))
        lines += [f"  {name.ljust(width)}  {value}" for name, value in self._values.items() if value != ""]
        return "\n".join(lines)

    def observe(self) -> Report:
        """Read what is there now; changes nothing."""
        with self._step():
            self._before = self._procedure.observe(self._context, self._wish)
            observed = self._procedure.observed(self._wish, self._before)
            self._recording.note(hosts=observed.hosts)
            return observed_report(observed)

    def findings(self) -> Report:
        """What is wrong with what was seen, the gravest first. Ends a run that only checks, and writes its record."""
        with self._step():
            if not isinstance(self._procedure, Check):
                raise NotReady("this runbook judges no host", do="run 07-check-host")
            self._need(self._before is not None, "observe")
            findings: tuple[Finding, ...] = self._procedure.findings(self._wish, self._before)
            self._recording.note(findings=[finding.as_data() for finding in findings])
            self._procedure.publish(self._wish, self._before, findings)
            words = in_words(counts(finding.severity for finding in findings))
            self._applied = Applied("unchanged", f"nothing was touched; {words}", ())
            self._finish(self._applied.outcome)
            return findings_report(findings)

    def plan(self) -> Report:
        """What would be done; changes nothing."""
        with self._step():
            self._need(self._before is not None, "observe")
            self._plan = self._change.plan(self._wish, self._before)
            self._recording.note(plan=record.plan_data(self._plan))
            return plan_report(self._plan)

    def impact(self) -> Report:
        """Whom the change would have met in the past, by the host's mail log; changes nothing."""
        with self._step():
            self._need(self._plan is not None, "plan")
            return impact_report(self._change.impact(self._wish, self._before))

    def approval(self) -> Report:
        """Whether this plan may be applied; raises StaleApproval when another plan was approved."""
        with self._step():
            plan = self._needed_plan()
            self._approval = decide(
                str(self._values["approve"]),
                plan,
                is_testbed=self._wish.is_testbed,
                audit_dir=self._recording.folder.parent,
            )
            self._recording.note(approval=record.Approval(self._approval.approve, self._approval.how))
            return Report(self._approval.sentence, [])

    def apply(self) -> Report:
        """Apply the approved plan, observe, judge; on any failure everything is put back. Writes the record."""
        with self._step(keep=True):
            plan = self._needed_plan()
            approval = self._approval
            if approval is None:
                raise NotReady("the plan was not looked at for approval", do="run the cell with run.approval() first")
            if plan.is_empty:
                self._applied = self._change.unchanged(self._context, self._wish, self._before)
            elif approval.granted:
                plan = self._latest(plan, approval)
                self._applied = self._change.apply(self._context, self._wish, self._before, plan)
            else:
                self._applied = Applied("planned", "nothing was touched; the plan waits for approval", ())
            if self._applied.claims:
                changed = self._applied.outcome == "changed"
                judge(self._applied.claims, left="what was made stays" if changed else "nothing was touched")
            self._finish(self._applied.outcome)
        if self._failure is not None:
            return Report("Failed: the verdict below says what, and what was put back.", [])
        return Report(_headline(self._needed_applied()), self._undone)

    def evidence(self) -> Report:
        """What was observed after, claim by claim, positives and negatives."""
        claims = self._claims()
        facts = self._applied.facts if self._applied else ()
        if claims:
            return claims_report("What was seen", claims, facts)
        if self._applied is None:
            return Report("There is no evidence: the run did not come to its end.", [])
        return Report("Nothing was applied, so there is nothing to prove.", [Section(facts=facts)])

    def verdict(self) -> Report:
        """The outcome in stable words; raises what apply found."""
        if self._failure is not None:
            raise self._failure
        applied = self._needed_applied()
        count = len(applied.claims)
        live = sum(claim.proof == "live" for claim in applied.claims)
        proved = f"{count} claims hold" + (f", {live} of them proved live" if live else "") if count else ""
        return Report("; ".join(part for part in (_headline(applied), proved) if part) + ".", [])

    @contextmanager
    def _step(self, *, keep: bool = False) -> Iterator[None]:
        """Refuse after an earlier failure; record a failure. ``keep`` leaves it to the verdict to raise."""
        if self._failure is not None:
            raise NotReady("an earlier step of this run failed, so nothing more is done") from self._failure
        if self._recording.has_ended:
            raise NotReady(
                "this run has ended, and its record is written", do="run the notebook anew from its first cell"
            )
        with one_interruption():
            try:
                yield
            except BaseException as error:
                self._failure = error
                told = record.RunError.of(error)
                if not keep and isinstance(error, MailTLSError):
                    # Only apply touches anything: whatever fails before it ends with the status that says so.
                    told = replace(told, exit_status=2)
                self._finish("failed", told)
                if not keep or not isinstance(error, MailTLSError):
                    raise

    def _finish(self, outcome: record.Outcome, error: record.RunError | None = None) -> None:
        self._recording.end(
            {reference.parameter: secret for reference, secret in self._secrets.items()},
            outcome=outcome,
            error=error,
            claims=[claim.as_data() for claim in self._claims()],
            artifacts=dict(self._applied.artifacts) if self._applied else {},
        )

    def _claims(self) -> tuple[Claim, ...]:
        """What was judged, also where the verdict failed and the change was undone for it."""
        if self._applied is not None:
            return self._applied.claims
        error = self._failure
        while error is not None and not isinstance(error, VerdictFailed):
            error = error.__cause__
        return error.claims if error else ()

    def _latest(self, plan: Plan, approval: Approval) -> Plan:
        """The plan that holds now: made anew where an interrupted change had to be undone first."""
        undone = self._change.heal(self._context, self._wish, self._before)
        if not undone:
            return plan
        self._recording.note(undone=undone)
        self._undone = (Section("Put back first, since a run was interrupted here", text="\n".join(undone)),)
        self._before = self._procedure.observe(self._context, self._wish)
        latest = self._change.plan(self._wish, self._before)
        if latest.digest == plan.digest:
            return plan
        if approval.how != "digest":
            self._plan = latest
            self._recording.note(plan=record.plan_data(latest))
            self._undone += (Section("The plan that was made anew then"), *plan_report(latest).sections)
            return latest
        raise StaleApproval(
            "an interrupted change was undone first; since then: " + what_changed(plan.as_data(), latest),
            left="nothing else was touched",
            do="run again: the plan is made anew",
        )

    @property
    def _change(self) -> Procedure[Any, Any]:
        if not isinstance(self._procedure, Procedure):
            raise NotReady(f"{self._runbook.id} changes nothing, so there is no plan", do="run its own cells in order")
        return self._procedure

    def _needed_plan(self) -> Plan:
        self._need(self._plan is not None, "plan")
        assert self._plan is not None  # noqa: S101  said to the type checker
        return self._plan

    def _needed_applied(self) -> Applied:
        self._need(self._applied is not None, "apply" if isinstance(self._procedure, Procedure) else "findings")
        assert self._applied is not None  # noqa: S101  said to the type checker
        return self._applied

    def _need(self, done: bool, step: str) -> None:
        if not done:
            raise NotReady(f"run.{step}() has not been called", left="nothing was touched", do="run the cells in order")

    def _host(self, address: HostAddress) -> Host:
        return self._recorded(open_host(address, testbed=lambda name: self._testbed().host(name)))

    def _recorded(self, host: Host) -> Host:
        return RecordedHost(host, self._log, clock=_now, secrets=self._secrets.values())

    def _secret(self, reference: SecretReference) -> Secret:
        if reference not in self._secrets:
            secret = reference.resolve(lambda: self._testbed().passphrase())
            # Before anything can write it down: what the run writes is searched for it.
            secret_channel.tell(reference.parameter, secret)
            self._secrets[reference] = secret
        return self._secrets[reference]

    def _testbed(self) -> Testbed:
        if self._testbed_up is None:
            self._testbed_up = Testbed.of_checkout()
            self._testbed_up.up()
        return self._testbed_up


def _headline(applied: Applied) -> str:
    return f"{applied.outcome}: {applied.summary}"


def _now() -> datetime:
    return datetime.now(UTC)
