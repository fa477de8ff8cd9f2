"""One record as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from mailtls_nb.audit.chain import read_lines
from mailtls_nb.audit.links import Problem, parse_lines
from mailtls_nb.audit.run_files import check_begun, check_ended
from mailtls_nb.audit.run_summary import NOT_ENDED
from mailtls_nb.errors import BadParameter
from mailtls_nb.finding import in_words
from mailtls_nb.record import FILE_NAME, Record, load


def folder_of(text: str, audit_dir: Path) -> Path:
    """The folder of a run.

    ``text`` is that folder, its record.json, or its name in the audit folder, or the beginning of that. Raises
    BadParameter for none, and for several.
    """
    path = Path(text)
    if path.name == FILE_NAME and path.is_file():
        return path.resolve().parent
    if (path / FILE_NAME).is_file():
        return path.resolve()
    found = sorted(path.parent for path in audit_dir.glob(f"*/{FILE_NAME}") if path.parent.name.startswith(text))
    exact = [folder for folder in found if folder.name == text]
    if len(exact or found) == 1:
        return (exact or found)[0]
    problem = (
        f"{text!r:.80} is the beginning of {len(found)} runs" if found else f"{text!r:.80} is no run in {audit_dir}"
    )
    raise BadParameter("RECORD", problem, do="give the folder of a run, its record.json, or its name; see index.html")


def shown(folder: Path) -> Iterator[str]:
    """The lines of text for a record; raises NotReady where there is none that can be read."""
    record = load(folder / FILE_NAME)
    facts = dict(_facts(record))
    width = max(map(len, facts))
    yield folder.name
    for label, value in facts.items():
        if value:
            yield f"  {label.ljust(width)}  {value}"
    for claim in record.claims:
        holds = "holds" if claim["holds"] else "DOES NOT HOLD"
        yield f"  {holds}: {claim['claim']}: {claim['observed']} ({claim['proof']})"
    for finding in record.findings or ():
        yield "  {severity}: {what} {why} ({where}; {do})".format(**finding)
    for subject in record.subject:
        yield f"  {subject.sha256}  {subject.name}"
    problems = check(folder)
    yield from (f"  NOT AS IT WAS: {problem}" for problem in problems)
    if not problems and record.ended:
        yield "  Its files are those that the chain tells of. Its signature and the whole chain: audit verify."
    elif not problems:
        yield "  The chain tells of its beginning only: nobody vouches for its other files."


def check(folder: Path) -> list[Problem]:
    """What is wrong with this run's files, by its line in the chain beside it."""
    last, begun = None, None
    for line in parse_lines(read_lines(folder.parent)):
        if (entry := line.entry) is None:
            continue
        if entry.run == folder.name and entry.what == "ended":
            return check_ended(folder.parent, entry, last)
        if entry.run == folder.name:
            begun = entry
        if entry.what == "ended":
            last = entry.record
    if begun is not None:
        return check_begun(folder.parent, begun)
    return [Problem("inserted", folder.name, "no line of the chain beside it tells of it")]


def _facts(record: Record) -> Iterator[tuple[str, str]]:
    error, findings = record.error, record.findings_by_severity
    yield "outcome", record.outcome if record.ended else f"{NOT_ENDED}: the run was killed, or goes on"
    yield "findings", in_words(findings) if findings else ""
    if error and record.ended:
        yield "error", f"{error.kind}: {error.message}"
        yield "state", error.state
        yield "next", error.next
    yield "runbook", f"{record.runbook.id} {record.runbook.version} (source SHA-256 {record.runbook.digest})"
    yield "commit", record.git_commit
    yield "hosts", ", ".join(record.hosts_named)
    yield "operator", str(record.operator)
    yield "machine", record.machine
    yield "begun", record.started
    yield "ended", record.ended or ""
    yield "reason", str(record.parameters.get("reason", ""))
    yield "approved", record.approval.how if record.approval else ""
    yield "undone", "; ".join(record.undone)
    yield "plan", str(record.plan["digest"]) if record.plan else ""
    given = ", ".join(f"{name}={value}" for name, value in record.parameters.items() if value != "")
    yield "parameters", given
    yield "signed by", record.signed_by or f"nobody: {record.unsigned_because}"
    if record.previous:
        yield "previous", f"line {record.previous.n}: {record.previous.entry}"
