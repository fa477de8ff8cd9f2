"""The head of a run's page: what the record says of the run."""

from __future__ import annotations

import shlex
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from html import escape
from urllib.parse import quote

from mailtls_nb import library
from mailtls_nb.errors import MailTLSError
from mailtls_nb.finding import in_words
from mailtls_nb.record import SIGNATURE_NAME, Record

_OUTCOMES = {
    "changed": "the plan was carried out and proved",
    "unchanged": "there was nothing to do",
    "planned": "nothing was changed, the plan waits for approval",
    "failed": "",
}
_APPROVALS = {
    "testbed": "given: everything this run touches is the testbed's (approve testbed)",
    "auto": "given without a look at the plan (approve auto)",
    "digest": "given for exactly this plan, by its digest",
    "not approved": "not given",
}


def header(record: Record, files: Mapping[str, str]) -> str:
    """The head as HTML; ``files`` are the SHA-256 of the run's files by name, as far as they are known now."""
    kind, word, words = _headline(record)
    hosts = ", ".join(record.hosts) or str(record.parameters.get("host", ""))
    parts = [
        f'<header class="record {kind}">',
        f'<p class="which">{escape(record.runbook.id)}{f" on {escape(hosts)}" if hosts else ""}</p>',
        f'<h1><span class="word">{escape(word)}</span>{f": {escape(words)}" if words else ""}</h1>',
        _failure(record),
        _approval_command(record),
        f'<div class="columns"><dl>{"".join(_facts(record, hosts))}</dl>',
        f'<dl class="digests">{"".join(_digests(record, files))}</dl></div>',
        "</header>",
    ]
    return "\n".join(part for part in parts if part)


def approval_command(record: Record) -> str:
    """The command that applies exactly the plan of a planned run; empty where there is no such plan.

    A run that gave out artifacts (a request for a CA elsewhere) waits for something else.
    """
    if record.outcome != "planned" or not record.plan or record.artifacts:
        return ""
    try:
        declared = library.find(record.runbook.id).declared
        usual: dict[str, str | int] = {parameter.name: parameter.default for parameter in declared}
    except MailTLSError:
        # A notebook that is no runbook of ours, or of another version: what is not empty says it all.
        usual = dict.fromkeys(record.parameters, "")
    argv = ["mailtls-nb", "run", record.runbook.id]
    for name, value in record.parameters.items():
        if name not in {"approve", "reason"} and value != usual.get(name):
            argv += ["-p", name, str(value)]
    return shlex.join([*argv, "-p", "approve", str(record.plan["digest"])])


def duration_in_words(duration: timedelta) -> str:
    """``36 s``, ``2 min 5 s`` or ``1 h 4 min``."""
    seconds = int(duration.total_seconds())
    if seconds < 60:
        return f"{seconds} s"
    minutes, seconds = divmod(seconds, 60)
    return f"{minutes} min {seconds} s" if minutes < 60 else f"{minutes // 60} h {minutes % 60} min"


def _headline(record: Record) -> tuple[str, str, str]:
    """The class that gives the head its colour, the outcome, and what it means."""
    number_of = record.findings_by_severity
    if record.outcome == "failed" or number_of is None:
        return record.outcome, record.outcome, _OUTCOMES[record.outcome]
    kind = "failed" if number_of["error"] else "planned" if number_of["warning"] else record.outcome
    return kind, in_words(number_of), "nothing was changed"


def _failure(record: Record) -> str:
    if record.error is None:
        return ""
    told = [("Error", record.error.message), ("State", record.error.state), ("Next", record.error.next)]
    return f'<dl class="failure">{"".join(_fact(label, escape(text)) for label, text in told if text)}</dl>'


def _approval_command(record: Record) -> str:
    command = approval_command(record)
    if not command:
        return ""
    return f'<div class="command"><p>To apply exactly this plan:</p><pre>{escape(command)}</pre></div>'


def _facts(record: Record, hosts: str) -> Iterable[str]:
    operator = record.operator
    yield _fact("Hosts", escape(hosts))
    yield _fact("Operator", escape(f"{operator.login}, from {operator.origin}" if operator.origin else operator.login))
    yield _fact("Machine", escape(record.machine))
    yield _fact("Started", _time(record.started))
    yield _fact("Ended", _end(record.started, record.ended) if record.ended else "not ended")
    if record.approval:
        how = record.approval.how
        yield _fact("Approval", escape(_APPROVALS.get(how, how)))
    yield _fact("Reason", escape(str(record.parameters.get("reason", ""))))
    yield _fact("Put back first", escape("; ".join(record.undone)))
    if record.claims:
        holding = sum(bool(claim["holds"]) for claim in record.claims)
        live = sum(claim["proof"] == "live" for claim in record.claims)
        yield _fact("Claims", escape(f"{holding} of {len(record.claims)} hold, {live} were tried live"))
    made = (
        f'<a href="{escape(quote(name))}">{escape(name)}</a> ({escape(meaning)})'
        for name, meaning in record.artifacts.items()
    )
    yield _fact("Made", "<br>".join(made))
    signed = f"by the key {record.signed_by}, in {SIGNATURE_NAME}"
    yield _fact("Signature", escape(signed if record.sealed else f"unsigned: {record.unsigned_because}"))


def _digests(record: Record, files: Mapping[str, str]) -> Iterable[str]:
    if record.plan:
        yield _fact("Plan", _digest(str(record.plan["digest"])))
    yield _fact("Runbook", _digest(record.runbook.digest))
    for name, sha256 in files.items():
        yield _fact(name, _digest(sha256))
    yield _fact("Git commit", f"<code>{escape(record.git_commit)}</code>" if record.git_commit else "")
    versions = {"mailtls-nb": record.package_version, **record.versions}
    yield _fact("Versions", escape(", ".join(f"{name} {version}" for name, version in versions.items())))


def _fact(label: str, html: str) -> str:
    return f"<div><dt>{escape(label)}</dt><dd>{html}</dd></div>\n" if html else ""


def _digest(sha256: str) -> str:
    return f'<code title="SHA-256">{escape(sha256)}</code>'


def _time(moment: str) -> str:
    shown = moment.replace("T", " ").replace("Z", " UTC")
    return f'<time datetime="{escape(moment)}">{escape(shown)}</time>'


def _end(started: str, ended: str) -> str:
    lasted = datetime.fromisoformat(ended) - datetime.fromisoformat(started)
    return f"{_time(ended)}, after {duration_in_words(lasted)}"
