"""Small notebooks, really executed, and records that go with them: a page of each kind of run."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

from mailtls_nb.audit.pages.render import render
from mailtls_nb.finding import Finding
from mailtls_nb.record import Approval, Operator, Record, RunbookSource, RunError
from mailtls_nb.verdict import Claim

FINGERPRINT = "SHA256:uVbGfUUDnpUzC3lLw0jqfl1b5mC0aTfZkQ4tq1O6nXk"
DIGEST = "4b7c" * 16
LONG_LINE = "a line of the mail log, "
KINDS = ("changed", "planned", "failed", "checked")

CLAIMS = (
    Claim("a partner with its certificate", "accepted", "accepted", "live", "swaks"),
    Claim("a stranger without STARTTLS", "rejected (5xx)", "accepted", "oracle", "rulesets", True, "before: accepted"),
)
FINDINGS = (
    Finding("error", "A key can be read by all.", "It can be stolen.", "/etc/mail/certs/relay.example.test.pem", "02"),
    Finding("warning", "The CRL ends in 3 days.", "Then mail is refused.", "/etc/mail/certs/crl.pem", "05"),
    Finding("note", "A CA that nobody uses.", "It is believed for any name.", "/etc/mail/certs/cacert.pem", "03"),
)

_INTRODUCTION = """\
# Try what pages show

Prose, with a [runbook](03-trust-partner.ipynb) that does not lie beside the page.

| parameter | meaning |
|---|---|
| `host` | the mail server |
"""
_PARAMETERS = 'host: str = "testbed:relay"  # the mail server\napprove: str = "testbed"  # approval'
_PLAN = r"""
from mailtls_nb.display import plan_report
from mailtls_nb.plan import Plan, Step, unified_diff
before = "".join(f"O Option{number}=old\n" for number in range(60))
after = before.replace("old", "new <b>")
steps = (
    Step("write", "testbed:relay", "/etc/mail/access", "Write.", "--- a\n+++ a\n@@ -1 +1,2 @@\n--- x\n+++ y\n+z\n"),
    Step("write", "testbed:relay", "/etc/mail/sendmail.cf", "Build.", unified_diff("sendmail.cf", before, after)),
)
plan_report(Plan("10-try", {}, steps, outlook=(("a stranger connects", "accepted"),)))
"""
_CLAIMS = f"""
from mailtls_nb.display import claims_report
from mailtls_nb.verdict import Claim
claims_report("What was seen", {CLAIMS!r}, (("fingerprint", ":".join(["A3"] * 32)),))
"""
_FINDINGS = f"""
from mailtls_nb.display import findings_report
from mailtls_nb.finding import Finding
findings_report({FINDINGS!r})
"""
_LOG = f'print("\\n".join(f"{LONG_LINE}{{number}}" for number in range(200)))'
# What a notebook of somebody else may show: no headings for many columns, words without an end, a picture, colours.
_FOREIGN = """
from IPython.display import HTML, display
row = "<tr>" + "<td>xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx</td>" * 40 + "</tr>"
headings = "<thead><tr><th>name</th><th>value</th></tr></thead>"
headed = "<table>" + headings + "<tbody><tr><td>{}</td><td>1</td></tr></tbody></table>"
display(HTML("<h6 id='x'>deep</h6><p id='x'>same id</p><table>" + row * 3 + "</table>"))
display(HTML(headed.format("y" * 300)))
print("\\x1b[31mred\\x1b[0m \\x1b[33myellow\\x1b[0m " + "z" * 500)
"""
_NOT_READY = """
from mailtls_nb.errors import NotReady
raise NotReady("the CA is <not> there", left="nothing was touched", do="run 01 first")
"""
_CELLS = {
    "changed": (_PLAN, _CLAIMS, _LOG, _FOREIGN),
    "planned": (_PLAN, _LOG),
    "failed": (_NOT_READY, "1 / 0"),
    "checked": (_FINDINGS,),
}


def make_page(kind: str, folder: Path) -> Path:
    """Execute the kind's notebook in the folder, render its page, and return the page's path."""
    notebook = folder / "notebook.ipynb"
    _execute(kind, notebook)
    (folder / "commands.jsonl").write_text('{"argv": ["true"]}\n')
    page = folder / "notebook.html"
    page.write_text(render(notebook, record_of(kind)), encoding="utf-8")
    return page


def record_of(kind: str) -> Record:
    """A record of that kind of run."""
    record = Record(
        runbook=RunbookSource("10-try", "0123" * 16),
        parameters={"host": "ssh://admin@mx1.example.org?sudo=yes", "approve": "", "reason": "ticket <4711>"},
        operator=Operator("root", "sudo:anna ssh:192.0.2.7"),
        started="2026-11-28T14:12:13Z",
        ended="2026-11-28T14:14:18Z",
        outcome="changed",
        git_commit="fa4f462e30b23df8df512feb43b4eabef32d15de",
        plan={"digest": DIGEST},
        approval=Approval(DIGEST, "digest"),
        hosts={"ssh://admin@mx1.example.org?sudo=yes": {}},
        claims=[claim.as_data() for claim in CLAIMS],
        machine="ops.example.org",
        versions={"Python": "3.12.1", "OpenSSH": "9.9p1"},
        sealed=True,
        signed_by=FINGERPRINT,
        unsigned_because="",
    )
    error = RunError("NotReady", "the CA is <not> there", "nothing was touched", "run 01 first", 2)
    unsigned: dict[str, Any] = {"sealed": False, "signed_by": "", "unsigned_because": "there is no key"}
    return {
        "changed": record,
        "planned": replace(record, outcome="planned", approval=Approval("", "not approved"), claims=()),
        "failed": replace(record, outcome="failed", error=error, plan=None, approval=None, claims=(), **unsigned),
        "checked": replace(
            record, outcome="unchanged", plan=None, approval=None, claims=(), findings=[f.as_data() for f in FINDINGS]
        ),
    }[kind]


def _execute(kind: str, path: Path) -> None:
    sources = [
        *([("markdown", "papermill's mark", "papermill-error-cell-tag")] if kind == "failed" else []),
        ("markdown", _INTRODUCTION, ""),
        ("code", _PARAMETERS, "parameters"),
        ("code", '# Parameters\nhost = "mx1"', "injected-parameters"),
        ("markdown", "## Parts\n\nWhat to see.", ""),
        *(("code", source.strip(), "") for source in _CELLS[kind]),
    ]
    code: dict[str, Any] = {"execution_count": None, "outputs": []}
    cells = [
        {"cell_type": cell_type, "id": f"c{number}", "metadata": {"tags": [tag] if tag else []}, "source": source}
        | (code if cell_type == "code" else {})
        for number, (cell_type, source, tag) in enumerate(sources)
    ]
    metadata = {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}}
    path.write_text(json.dumps({"nbformat": 4, "nbformat_minor": 5, "metadata": metadata, "cells": cells}))
    # In a process of its own: nbclient leaves a loop and sockets to the garbage collector, which warns of them.
    argv = [sys.executable, "-m", "jupyter", "execute", "--inplace", "--allow-errors", "--timeout=120", str(path)]
    subprocess.run(argv, check=True, capture_output=True)
