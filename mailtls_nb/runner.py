"""Runs one runbook headless: parameters checked first, then papermill, then the record and its page."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mailtls_nb import errors, library
from mailtls_nb.audit.folder import create_run_folder, default_audit_dir
from mailtls_nb.errors import MailTLSError
from mailtls_nb.finding import in_words
from mailtls_nb.interruption import termination_interrupts
from mailtls_nb.library import Runbook
from mailtls_nb.parameters import make_paths_absolute, typed
from mailtls_nb.record import FILE_NAME, INTERRUPTED, Operator, Record, RunbookSource, RunError, begin, load, rfc3339
from mailtls_nb.record import subjects as subjects_of

# For one cell, in seconds: an hour is more than any step takes, and nothing hangs for ever.
CELL_TIMEOUT_S = 3600.0
_UNKNOWN_STATE = "not known: commands.jsonl says what was done"


@dataclass(frozen=True)
class _Prepared:
    """A run about to start: ``given`` are the parameters to inject, ``values`` all of them."""

    runbook: Runbook
    given: Mapping[str, str | int]
    values: Mapping[str, str | int]
    folder: Path


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
    with outcome, exit_status, runbook, folder, record, plan_digest, findings (how many of each severity) and error.
    """
    with termination_interrupts():
        try:
            prepared = _prepare(name, given, started_from)
        except MailTLSError as error:
            return refuse(name, error, json_output=json_output)
        failure = _execute(prepared, cell_timeout_s)
        record = _complete(prepared.folder, failure)
    return _tell(record, prepared.folder, json_output=json_output)


def _prepare(name: str, given: Mapping[str, str], started_from: Path) -> _Prepared:
    """Check all that can be checked before a kernel starts, then make the audit folder and its first record."""
    runbook = library.find(name)
    typed_values = make_paths_absolute(typed(runbook.declared, given), started_from)
    values = runbook.values(typed_values)
    from mailtls_nb.procedures import PROCEDURES  # late: listing runbooks needs none of it

    target = str(values.get("host", ""))
    procedure = PROCEDURES.get(runbook.id)
    if procedure is not None:
        procedure.wish(values)
        target = procedure.target(values)
    audit_dir = values.get("audit_dir", "")
    now = datetime.now(UTC)
    folder = create_run_folder(Path(str(audit_dir)) if audit_dir else default_audit_dir(), now, runbook.id, target)
    begin(
        runbook=RunbookSource(runbook.id, runbook.digest),
        parameters=values,
        operator=Operator.of_this_process(),
        started=now,
        git_commit=library.git_commit(),
    ).write(folder)
    return _Prepared(runbook, typed_values, values, folder)


def _execute(prepared: _Prepared, cell_timeout_s: float) -> RunError | None:
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
            _unformatted(prepared.folder / "notebook.ipynb"),
            dict(prepared.given),
            engine_name="mailtls",
            progress_bar={"desc": prepared.runbook.id, "leave": False} if sys.stderr.isatty() else False,
            execution_timeout=cell_timeout_s,
            kernel_cwd=prepared.folder,
            kernel_env={"MAILTLS_RUN_FOLDER": str(prepared.folder), "MAILTLS_HEADLESS": "1"},
        )
    except (PapermillExecutionError, CellExecutionError) as error:
        return _cell_error(error.ename, error.evalue)
    except CellTimeoutError:
        return RunError("time-out", f"a cell did not end within {cell_timeout_s:g} s and was interrupted")
    except DeadKernelError:
        return RunError("kernel-died", "the notebook's kernel died")
    except KeyboardInterrupt as error:
        return RunError(INTERRUPTED, str(error) or "interrupted from the keyboard")
    except Exception as error:  # whatever it is, the record must say it
        return RunError.of(error)
    return None


def _unformatted(path: Path) -> str:
    # papermill treats paths as format strings.
    return str(path).replace("{", "{{").replace("}", "}}")


def _cell_error(ename: str, evalue: str) -> RunError:
    """The error of a cell in the record's words; our own errors carry their state and next step as lines."""
    kind = getattr(errors, ename, None)
    status = kind.exit_status if isinstance(kind, type) and issubclass(kind, MailTLSError) else 1
    before_next, _, do = evalue.partition("\nNext: ")
    message, _, left = before_next.partition("\nState: ")
    return RunError(ename, message or ename, left, do, status)


def _complete(folder: Path, failure: RunError | None) -> Record:
    """Give the record its true end, render the page, and list the folder's files in it."""
    from mailtls_nb.audit.render import render

    record = _with_true_end(load(folder / FILE_NAME), failure)
    record.write(folder)
    notebook, page = folder / "notebook.ipynb", folder / "notebook.html"
    if notebook.exists():
        page.write_text(render(notebook, record), encoding="utf-8")
    for path in (notebook, page):
        if path.exists():
            path.chmod(0o600)
    record = replace(record, subject=subjects_of(folder))
    record.write(folder)
    return record


def _with_true_end(record: Record, failure: RunError | None) -> Record:
    ended = record.ended or rfc3339(datetime.now(UTC))
    recorded = record.error
    if recorded is not None and recorded.kind not in {INTERRUPTED, "KeyboardInterrupt"}:
        # The run itself saw why it failed, and knows more of it.
        return replace(record, ended=ended)
    if recorded is not None:
        failure = failure or RunError("unfinished", "the notebook came to its end without finishing its record")
        return replace(record, ended=ended, error=replace(failure, state=failure.state or _UNKNOWN_STATE))
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
    print(f"{record.runbook.id}: {record.outcome}{found}, recorded in {folder}")
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
            "artifacts": [],
        }
        print(json.dumps({**summary, "record": None, "plan_digest": None, "findings": None, "error": vars(told)}))
    return told.exit_status


def _tell_error(error: RunError) -> None:
    print(f"mailtls-nb: {error.message}", file=sys.stderr)
    for label, text in (("State", error.state), ("Next", error.next)):
        if text:
            print(f"{label}: {text}", file=sys.stderr)
