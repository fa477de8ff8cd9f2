"""The list of runs, ``index.html`` of the audit folder, as one page that loads nothing. Pure.

It is a plain table. A small script that stands in the page, and that the page's own policy allows by its SHA-256,
filters it; without it the whole list is there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from html import escape
from importlib.resources import files
from string import Template
from urllib.parse import quote

from mailtls_nb.audit.pages.inline import hash_source, inner
from mailtls_nb.audit.run_summary import NOT_ENDED, RunSummary

_OUTCOMES = ("changed", "unchanged", "planned", "failed", NOT_ENDED)


def index_page(runs: Sequence[RunSummary], *, made: str) -> str:
    """The page with every run, the newest first; ``made`` is when it is made, in RFC 3339."""
    template = (files("mailtls_nb") / "audit" / "pages" / "index.html").read_text(encoding="utf-8")
    newest_first = sorted(runs, key=lambda run: (run.begun, run.folder), reverse=True)
    return Template(template).substitute(
        script_hash=hash_source(inner(template, "script")),
        style_hash=hash_source(inner(template, "style")),
        made=_time(made),
        summary=_summary(runs),
        runbooks=_options(sorted({run.runbook for run in runs})),
        outcomes=_options(_OUTCOMES),
        rows="\n".join(_row(run) for run in newest_first),
        number=_number(len(runs), "run"),
        keys=_keys(runs),
    )


def _summary(runs: Sequence[RunSummary]) -> str:
    """How many runs there are, and how many of them need a look."""
    outcomes = Counter(run.outcome for run in runs)
    counts = (
        ("runs", len(runs), ""),
        ("failed", outcomes["failed"], "bad"),
        ("not ended", outcomes[NOT_ENDED], "wait"),
        ("unsigned", sum(not run.signed_by for run in runs), "wait"),
    )
    return "\n".join(
        f"<div{f' class={kind}' if kind and number else ''}><dt>{label}</dt><dd>{number:,}</dd></div>"
        for label, number, kind in counts
    )


def _row(run: RunSummary) -> str:
    # A run that has not ended has no page yet.
    page = "" if run.outcome == NOT_ENDED else "notebook.html"
    link = f'<a href="{escape(quote(f"{run.folder}/{page}"))}">{escape(run.runbook)}</a>'
    signed = f'<span title="{escape(run.signed_by)}">yes</span>' if run.signed_by else "no"
    kind = run.outcome.replace(" ", "-")
    return (
        f'<tr><td>{_time(run.begun)}</td><th scope="row">{link}</th><td>{escape(", ".join(run.hosts)) or "-"}</td>'
        f'<td class="{escape(kind)}">{escape(run.outcome)}</td><td>{escape(run.operator)}</td><td>{signed}</td></tr>'
    )


def _keys(runs: Sequence[RunSummary]) -> str:
    """Each key that signed, with the number of its runs: one that nobody knows stands out."""
    keys = Counter(run.signed_by for run in runs if run.signed_by)
    if not keys:
        return ""
    items = "".join(
        f"<li><code>{escape(key)}</code>: {_number(count, 'run')}</li>" for key, count in keys.most_common()
    )
    return f"<h2>Signed by</h2>\n<ul>{items}</ul>"


def _number(count: int, noun: str) -> str:
    return f"{count:,} {noun}{'' if count == 1 else 's'}"


def _options(values: Iterable[str]) -> str:
    return "".join(f"<option>{escape(value)}</option>" for value in values)


def _time(moment: str) -> str:
    return f'<time datetime="{escape(moment)}">{escape(moment.replace("T", " ").removesuffix("Z"))}</time>'
