"""What the page of a run says, without a browser: the command that approves a plan, diffs, durations, errors."""

from __future__ import annotations

import shlex
from dataclasses import replace
from datetime import timedelta

import pytest

from mailtls_nb import library
from mailtls_nb.audit.pages.cell_error import cell_error
from mailtls_nb.audit.pages.header import approval_command, duration_in_words
from mailtls_nb.audit.pages.markup import Markup
from mailtls_nb.errors import NotReady
from mailtls_nb.record import Operator, Record, RunbookSource

DIGEST = "4b7c" * 16


def planned(**given: str | int) -> Record:
    runbook = library.find("04")
    return Record(
        runbook=RunbookSource(runbook.id, runbook.digest),
        parameters=runbook.values(given),
        operator=Operator("root"),
        started="2026-11-28T14:12:13Z",
        outcome="planned",
        plan={"digest": DIGEST},
    )


def test_the_command_gives_what_differs_from_the_runbooks_defaults() -> None:
    """Also what was emptied on purpose; nothing else, and neither approve nor reason as they were."""
    record = planned(host="ssh://a@b?sudo=yes", directions="", bits=256, approve="", reason="it's time")
    command = approval_command(record)
    assert shlex.split(command) == [
        *("mailtls-nb", "run", "04-enforce-access", "-p", "directions", "", "-p", "bits", "256"),
        *("-p", "host", "ssh://a@b?sudo=yes", "-p", "approve", DIGEST),
    ]
    assert "'ssh://a@b?sudo=yes'" in command
    assert approval_command(planned()) == f"mailtls-nb run 04-enforce-access -p approve {DIGEST}"


def test_only_a_plan_that_waits_for_approval_has_a_command() -> None:
    record = planned()
    assert approval_command(replace(record, outcome="changed")) == ""
    assert approval_command(replace(record, plan=None)) == ""
    assert approval_command(replace(record, artifacts={"request.csr": "for the CA elsewhere"})) == ""


@pytest.mark.parametrize(
    ("seconds", "words"), [(0, "0 s"), (59, "59 s"), (60, "1 min 0 s"), (3599, "59 min 59 s"), (7380, "2 h 3 min")]
)
def test_durations(seconds: int, words: str) -> None:
    assert duration_in_words(timedelta(seconds=seconds)) == words


def test_an_error_of_ours_is_taken_apart_and_others_are_not() -> None:
    error = NotReady("no CA\nhere", left="nothing was touched", do="run 01")
    told = cell_error("NotReady", str(error))
    assert (told.message, told.state, told.next, told.exit_status) == (
        "no CA\nhere", "nothing was touched", "run 01", 2,
    )  # fmt: skip
    told = cell_error("ValueError", str(error))
    assert (told.message, told.state, told.next, told.exit_status) == (str(error), "", "", 1)
    assert cell_error("Any", "x").exit_status == 1  # a name in the module of errors, but no error


def test_a_diff_keeps_its_text_whatever_is_in_it() -> None:
    text = "--- a\n+++ a\n@@ -1,2 +1 @@\n--- &amp; <b>\n kept\n+ beyond its hunk\n@@ -9 +9 @@\n"
    escaped = text.replace("&", "&amp;").replace("<", "&lt;")
    html = Markup().clean(f'<pre class="diff"><span style="color:red">{escaped}</span></pre>')
    kinds = ["file", "file", "hunk", "deleted", "kept", "added", "hunk"]
    lines = escaped.replace(">", "&gt;").splitlines(keepends=True)
    spans = (f'<span class="{kind}">{line}</span>' for kind, line in zip(kinds, lines, strict=True))
    assert html == f'<pre class="diff">{"".join(spans)}</pre>'


@pytest.mark.parametrize(
    "html",
    [
        "<table><tr><td><table><tr><td>x</td></tr></table></td></tr></table></div></main>",
        "<table><thead></thead></table><pre><table><tr><td>",
        "<td>lost</td></details><h4>",
        "<pre>" * 300,
        "<table><tr><td>" * 200,
    ],
)
def test_broken_html_comes_out_balanced(html: str) -> None:
    """So that a piece never closes what the page around it has opened, however it is nested."""
    cleaned = Markup().clean(html)
    for tag in ("table", "td", "tr", "div", "main", "details", "pre"):
        assert cleaned.count(f"<{tag}>") + cleaned.count(f"<{tag} ") == cleaned.count(f"</{tag}>"), tag
