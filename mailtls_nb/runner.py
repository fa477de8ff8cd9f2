"""Runs one runbook headless: parameters checked first, then papermill, then the record and its page."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mailtls_nb import library
from mailtls_nb.audit.folder import COMMANDS_NAME, NOTEBOOK_NAME, PAGE_NAME
from mailtls_nb.audit.leaks.secret_channel import SecretChannel
from mailtls_nb.audit.pages.cell_error import cell_error
from mailtls_nb.audit.recording import begin
from mailtls_nb.audit.signing import KEY_VARIABLE, NO_KEY, check_choice
from mailtls_nb.errors import MailTLSError, sentence_of
from mailtls_nb.finding import in_words
from mailtls_nb.interruption import interruption_deferred, no_interruption, termination_interrupts
from mailtls_nb.library import Runbook
from mailtls_nb.parameters import make_paths_absolute, typed
from mailtls_nb.record import DRAFT_NAME, FILE_NAME, INTERRUPTED, Record, RunError, load, rfc3339
from mailtls_nb.secret import Secret

# For one cell, in seconds: an hour is more than any step takes, and nothing hangs for ever.
CELL_TIMEOUT_S = 3600.0
# Of the runner's own errors, those that say how the notebook was ended before its time.
_ENDED_EARLY = frozenset({INTERRUPTED, "time-out", "kernel-died"})


@dataclass(frozen=True)
class _Prepared:
    """A run about to start: ``given`` are the parameters to inject, ``values`` all of them; ``target`` is its name."""

    runbook: Runbook
    given: Mapping[str, str | int]
    values: Mapping[str, str | int]
    target: str


@dataclass(frozen=True)
class _Begun:
    """A run that has a folder and a place in the chain."""

    folder: Path
    record: Record


def run_runbook(
    name: str,
    given: Mapping[str, str],
    *,
    started_from: Path,
    json_output: bool,
    cell_timeout_s: float = CELL_TIMEOUT_S,
) -> int:
    """Run the runbook called ``name`` (id, number or path) with parameters given as text; returns the exit status.

    The last line on standard output is the outcome and the audit folder, or with ``json_output`` one JSON object
    with outcome, exit_status, runbook, folder, record, artifacts, plan_digest, findings (how many of each severity),
    signed_by and error.
    """
    with termination_interrupts():
        try:
            prepared = _prepare(name, given, started_from)
            with SecretChannel() as channel:
                begun: _Begun | None = None
                try:
                    # A run that has begun has an end in its record, also where it is asked to end at once.
                    with interruption_deferred():
                        begun = _Begun(*begin(prepared.runbook, prepared.values, prepared.target))
                    failure = _execute(prepared, begun.folder, cell_timeout_s, channel)
                except KeyboardInterrupt as error:
                    if begun is None:
                        raise
                    failure = RunError(INTERRUPTED, str(error) or "interrupted from the keyboard")
                # From here on it takes some seconds, and whoever ends the run now has its end before them.
                with no_interruption():
                    record = _complete(prepared, begun, failure, channel.secrets())
        except MailTLSError as error:
            return refuse(name, error, json_output=json_output)
    return _tell(record, begun.folder, json_output=json_output)


def _prepare(name: str, given: Mapping[str, str], started_from: Path) -> _Prepared:
    """Check all that can be checked before a kernel starts; raises BadParameter, nothing made."""
    runbook = library.find(name)
    typed_values = make_paths_absolute(typed(runbook.declared, given), started_from)
    values = runbook.values(typed_values)
    from mailtls_nb.procedures import PROCEDURES  # late: listing runbooks needs none of it

    target = str(values.get("host", ""))
    procedure = PROCEDURES.get(runbook.id)
    if procedure is not None:
        procedure.wish(values)
        target = procedure.target(values)
    check_choice()
    return _Prepared(runbook, typed_values, values, target)


def _execute(prepared: _Prepared, folder: Path, cell_timeout_s: float, channel: SecretChannel) -> RunError | None:
    """Execute the notebook into the folder; what went wrong, or None."""
    # Late: this import takes two seconds, and bad parameters should be refused at once.
    from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
    from papermill.engines import papermill_engines
    from papermill.exceptions import PapermillExecutionError
    from papermill.execute import execute_notebook

    from mailtls_nb.engine import TruthfulEngine

    papermill_engines.register("mailtls", TruthfulEngine)
    try:
        execute_notebook(
            _unformatted(prepared.runbook.path),
            _unformatted(folder / NOTEBOOK_NAME),
            dict(prepared.given),
            engine_name="mailtls",
            progress_bar={"desc": prepared.runbook.id, "leave": False} if sys.stderr.isatty() else False,
            execution_timeout=cell_timeout_s,
            kernel_cwd=folder,
            kernel_env={
                "MAILTLS_RUN_FOLDER": str(folder),
                "MAILTLS_HEADLESS": "1",
                **channel.environment,
            },
            kernel_pass_fds=channel.pass_fds,
        )
    except (PapermillExecutionError, CellExecutionError) as error:
        return cell_error(error.ename, error.evalue)
    except CellTimeoutError:
        return RunError("time-out", f"a cell did not end within {cell_timeout_s:g} s and was interrupted")
    except DeadKernelError:
        return RunError("kernel-died", "the notebook's kernel died")
    except Exception as error:  # whatever it is, the record must say it
        return RunError.of(error)
    return None


def _unformatted(path: Path) -> str:
    # papermill treats paths as format strings.
    return str(path).replace("{", "{{").replace("}", "}}")


def _complete(prepared: _Prepared, begun: _Begun, failure: RunError | None, secrets: Mapping[str, Secret]) -> Record:
    """Give the record its true end, and seal it with its page; what was written, or why that could not be."""
    from mailtls_nb.audit import sealing

    folder = begun.folder
    draft = folder / DRAFT_NAME
    try:
        state = "not known: commands.jsonl says what was done"
        if not (folder / COMMANDS_NAME).exists():
            state = "nothing was touched: the run had not come to its first command"
        record = _with_true_end(load(draft) if draft.exists() else begun.record, failure, state)
        scan = sealing.Scan(secrets, prepared.runbook.path.read_bytes())
        return sealing.end(folder, record, scan, draw=lambda record: _draw_page(folder, record))
    except (MailTLSError, OSError) as error:
        # The chain says that it began. What is told here is all that there is of its end.
        return replace(
            begun.record,
            error=RunError("not-recorded", f"the run has ended, but not in its record: {sentence_of(error)}"),
        )


def _draw_page(folder: Path, record: Record) -> None:
    """Render the notebook into its page, both for their owner only; without a page rather than without a record."""
    from mailtls_nb.audit.pages.render import render

    notebook, page = folder / NOTEBOOK_NAME, folder / PAGE_NAME
    if not notebook.exists():
        return
    notebook.chmod(0o600)
    page.unlink(missing_ok=True)
    try:
        text = render(notebook, record)
    except Exception as error:  # of a notebook that was cut short, whatever its readers raise
        print(f"mailtls-nb: {page} cannot be made: {sentence_of(error)}", file=sys.stderr)
        return
    page.touch(mode=0o600)
    page.write_text(text, encoding="utf-8")


def _with_true_end(record: Record, failure: RunError | None, unknown_state: str) -> Record:
    ended = record.ended or rfc3339(datetime.now(UTC))
    recorded = record.error
    if recorded is not None and recorded.kind not in {INTERRUPTED, "KeyboardInterrupt", "Terminated"}:
        # The run itself saw why it failed, and knows more of it; who ended it, it may not know.
        if failure is not None and failure.kind in _ENDED_EARLY:
            recorded = replace(recorded, kind=failure.kind, message=f"{failure.message}; {recorded.message}")
        return replace(record, ended=ended, error=recorded)
    if recorded is not None:
        failure = failure or RunError("unfinished", "the notebook came to its end without finishing its record")
        return replace(record, ended=ended, error=replace(failure, state=failure.state or unknown_state))
    if failure is not None:
        state = f"what the run did stands ({record.outcome}); a cell after it failed"
        return replace(record, ended=ended, outcome="failed", error=replace(failure, state=state, exit_status=1))
    return record


def _tell(record: Record, folder: Path, *, json_output: bool) -> int:
    """Print the outcome; returns the exit status."""
    if record.error is not None:
        _tell_error(record.error)
    summary: dict[str, Any] = {
        "outcome": record.outcome,
        "exit_status": record.exit_status,
        "runbook": record.runbook.id,
        "folder": str(folder),
        "record": str(folder / FILE_NAME),
        "artifacts": [str(folder / name) for name in record.artifacts],
        "plan_digest": record.plan["digest"] if record.plan else None,
        "findings": record.findings_by_severity,
        "signed_by": record.signed_by,
        "unsigned_because": record.unsigned_because,
        "error": record.as_statement()["predicate"]["error"],
    }
    if json_output:
        print(json.dumps(summary))
        return record.exit_status
    if record.outcome == "planned" and record.plan:
        print(_plan_text(record.plan))
        if not record.artifacts:
            print(f"the whole of it, with remarks: {folder / 'notebook.html'}")
            print(f"to apply exactly this plan, run the same with: -p approve {record.plan['digest']}")
        for name, meaning in record.artifacts.items():
            print(f"made: {folder / name} ({meaning})")
    for finding in record.findings or ():
        print("{severity}: {what} {why}\n  where: {where}\n  do: {do}".format(**finding))
    found = f", {in_words(record.findings_by_severity)}" if record.findings_by_severity else ""
    held = sum(bool(claim["holds"]) for claim in record.claims)
    claims = f", {held} claims hold" if record.claims and held == len(record.claims) else ""
    if record.unsigned_because and os.environ.get(KEY_VARIABLE, NO_KEY) != NO_KEY:
        print(f"mailtls-nb: the record is not signed: {record.unsigned_because}", file=sys.stderr)
    how = "signed" if record.sealed else "unsigned"
    print(f"{record.runbook.id}: {record.outcome}{found}{claims}, recorded ({how}) in {folder}")
    return record.exit_status


def _plan_text(plan: Mapping[str, Any]) -> str:
    lines = []
    for number, step in enumerate(plan["steps"], 1):
        lines += [f"{number}. {step['sentence']} ({step['where']}: {step['target']})"]
        lines += [f"   {line}" for line in step["diff"].rstrip("\n").split("\n") if line]
    lines += [f"   expect: {foreseen['what']}: {foreseen['expected']}" for foreseen in plan.get("outlook", ())]
    if met := plan.get("impact"):
        lines.append(
            f"by the mail log from {met['first']} to {met['last']}: {met['refused']} of {met['messages']} messages "
            f"would have been refused, of {met['undecided']} it cannot be told"
        )
    return "\n".join((*lines, f"plan digest: {plan['digest']}"))


def refuse(name: str, error: MailTLSError, *, json_output: bool) -> int:
    """Say why a run did not start, in the same form as the end of a run; returns the exit status."""
    told = RunError.of(error)
    _tell_error(told)
    if json_output:
        summary = {
            "outcome": "failed",
            "exit_status": told.exit_status,
            "runbook": name,
            "folder": None,
            "record": None,
            "artifacts": [],
            "plan_digest": None,
            "findings": None,
            "signed_by": "",
            "unsigned_because": "",
            "error": vars(told),
        }
        print(json.dumps(summary))
    return told.exit_status


def _tell_error(error: RunError) -> None:
    print(f"mailtls-nb: {error.message}", file=sys.stderr)
    for label, text in (("State", error.state), ("Next", error.next)):
        if text:
            print(f"{label}: {text}", file=sys.stderr)
