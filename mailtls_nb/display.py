"""What notebooks show: plain text and HTML of the same content, the same in every run where the facts are.

Nothing here imports IPython: a notebook finds ``_repr_html_`` by itself, a terminal uses ``repr``.
"""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from mailtls_nb.finding import Finding, counts, in_words
from mailtls_nb.pictures import Picture, impact_chart
from mailtls_nb.plan import Plan
from mailtls_nb.procedures.procedure import Facts, Observed, Table
from mailtls_nb.sendmail.impact import Impact
from mailtls_nb.verdict import Claim

_LEFT = "text-align:left;vertical-align:top;white-space:pre-wrap;overflow-wrap:break-word;word-break:normal"


@dataclass(frozen=True)
class Section:
    """A heading with facts (label, value), a table (its first row the headings), a paragraph, a diff or a picture."""

    heading: str = ""
    facts: Facts = ()
    table: Table = ()
    text: str = ""
    diff: str = ""
    picture: Picture | None = None

    def as_text(self) -> str:
        parts = [self.heading] if self.heading else []
        width = max((len(label) for label, _ in self.facts), default=0)
        parts += [f"  {label.ljust(width)}  {_indented(value, width + 4)}" for label, value in self.facts]
        # As text a table would be too wide for a page: one block for each of its rows.
        for row in self.table[1:]:
            parts += [
                "",
                row[0],
                *(f"  {label}: {value}" for label, value in zip(self.table[0][1:], row[1:], strict=True)),
            ]
        parts += [self.text] if self.text else []
        parts += [self.diff.rstrip("\n")] if self.diff else []
        parts += [self.picture.alternative] if self.picture else []
        return "\n".join(parts)

    def as_html(self) -> str:
        parts = [f"<h4>{escape(self.heading)}</h4>"] if self.heading else []
        if self.facts:
            rows = "".join(
                f'<tr><th scope="row" style="{_LEFT}">{escape(label)}</th><td style="{_LEFT}">{escape(value)}</td></tr>'
                for label, value in self.facts
            )
            parts.append(f"<table>{rows}</table>")
        if self.table:
            head = "".join(f'<th scope="col" style="{_LEFT}">{escape(cell)}</th>' for cell in self.table[0])
            body = "".join(
                "<tr>" + "".join(f'<td style="{_LEFT}">{escape(cell)}</td>' for cell in row) + "</tr>"
                for row in self.table[1:]
            )
            parts.append(f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>")
        if self.text:
            parts.append(f"<p>{escape(self.text)}</p>")
        if self.diff:
            parts.append(f'<pre class="diff">{_coloured(self.diff)}</pre>')
        if self.picture:
            # Within an image nothing of it can run or load anything, and the record's page keeps it.
            data = base64.b64encode(self.picture.svg.encode()).decode()
            parts.append(f'<img src="data:image/svg+xml;base64,{data}" alt="{escape(self.picture.alternative)}">')
        return "".join(parts)


@dataclass(frozen=True)
class Report:
    """What one cell shows."""

    title: str
    sections: Sequence[Section]

    def __repr__(self) -> str:
        return "\n\n".join(part for part in (self.title, *(section.as_text() for section in self.sections)) if part)

    def _repr_html_(self) -> str:
        body = "".join(section.as_html() for section in self.sections)
        return f'<div class="mailtls-report"><p><strong>{escape(self.title)}</strong></p>{body}</div>'


def observed_report(observed: Observed) -> Report:
    """What was there before."""
    tables = [Section(heading, table=table) for heading, table in observed.tables.items() if len(table) > 1]
    remarks = [Section("Remarks", text="\n".join(observed.remarks))] if observed.remarks else []
    return Report(observed.title, [Section(facts=observed.facts), *tables, *remarks])


def findings_report(findings: Sequence[Finding]) -> Report:
    """Each finding with its reason and what cures it."""
    headings = ("finding", "why it matters", "where", "what to do")
    rows = tuple((f"{f.severity}: {f.what}", f.why, f.where, f.do) for f in findings)
    if not findings:
        return Report("There are no findings.", [])
    words = in_words(counts(finding.severity for finding in findings))
    return Report(f"Found: {words}.", [Section(table=(headings, *rows))])


def plan_report(plan: Plan) -> Report:
    """The plan with a sentence and a diff for each step, and its digest."""
    if plan.is_empty:
        title = "Nothing to do: what is there is what was asked for."
    else:
        steps_text = "1 step" if len(plan.steps) == 1 else f"{len(plan.steps)} steps"
        title = f"The plan has {steps_text}. Nothing has changed yet."
    steps = [
        Section(f"{number}. {step.sentence}", (("on", step.where), ("what", step.target)), diff=step.diff)
        for number, step in enumerate(plan.steps, 1)
    ]
    notes = [Section("What to expect", facts=plan.outlook)] if plan.outlook else []
    return Report(title, (*steps, *notes, Section(facts=(("plan digest", plan.digest),))))


def impact_report(impact: Impact | None) -> Report:
    """Whom a rule would have met in the past, by the mail log."""
    if impact is None:
        return Report("Nobody is asked for more than before.", [])
    refused = f"{impact.refused:,} of {impact.messages:,} messages would have been refused."
    table = impact.table()
    return Report(
        refused, [Section(facts=impact.as_facts(), table=table if len(table) > 1 else (), picture=impact_chart(impact))]
    )


def claims_report(title: str, claims: Sequence[Claim], facts: Facts = ()) -> Report:
    """Each claim with what was expected and observed, by which instrument, and how it is known to be able to fail."""
    headings = ("claim", "holds", "expected", "observed", "seen by", "known to be able to fail")
    rows = tuple(
        (
            claim.claim,
            "yes" if claim.holds else "NO",
            claim.expected,
            claim.observed,
            f"{claim.instrument} ({claim.proof})",
            claim.fails_when or ("not tried in this run" if claim.negative else "-"),
        )
        for claim in claims
    )
    return Report(title, [Section(facts=facts), Section(table=(headings, *rows))])


def _indented(value: str, width: int) -> str:
    return value.replace("\n", "\n" + " " * width)


def _coloured(diff: str) -> str:
    # A word before the colour: whoever cannot see the colour reads the sign at the start of the line.
    colours = {"+": "#1a7f37", "-": "#cf222e", "@": "#8250df"}
    lines = []
    for line in diff.rstrip("\n").split("\n"):
        colour = colours.get(line[:1])
        text = escape(line)
        lines.append(f'<span style="color:{colour}">{text}</span>' if colour else text)
    return "\n".join(lines)
