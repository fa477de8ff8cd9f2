"""What notebooks show: plain text and HTML of the same content, the same in every run where the facts are.

Nothing here imports IPython: a notebook finds ``_repr_html_`` by itself, a terminal uses ``repr``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from mailtls_nb.plan import Plan
from mailtls_nb.verdict import Claim

Facts = tuple[tuple[str, str], ...]


@dataclass(frozen=True)
class Section:
    """A heading with facts (label, value), paragraphs or a diff under it."""

    heading: str = ""
    facts: Facts = ()
    text: str = ""
    diff: str = ""

    def as_text(self) -> str:
        parts = [self.heading] if self.heading else []
        width = max((len(label) for label, _ in self.facts), default=0)
        parts += [f"  {label.ljust(width)}  {_indented(value, width + 4)}" for label, value in self.facts]
        parts += [self.text] if self.text else []
        parts += [self.diff.rstrip("\n")] if self.diff else []
        return "\n".join(parts)

    def as_html(self) -> str:
        parts = [f"<h4>{escape(self.heading)}</h4>"] if self.heading else []
        if self.facts:
            rows = "".join(
                f'<tr><th scope="row" style="text-align:left;vertical-align:top">{escape(label)}</th>'
                f'<td style="text-align:left;white-space:pre-wrap">{escape(value)}</td></tr>'
                for label, value in self.facts
            )
            parts.append(f"<table>{rows}</table>")
        if self.text:
            parts.append(f"<p>{escape(self.text)}</p>")
        if self.diff:
            parts.append(f'<pre class="diff">{_coloured(self.diff)}</pre>')
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


def plan_report(plan: Plan, remarks: Sequence[str] = ()) -> Report:
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
    notes = [Section("Remarks", text="\n".join(remarks))] if remarks else []
    return Report(title, (*steps, *notes, Section(facts=(("plan digest", plan.digest),))))


def claims_report(title: str, claims: Sequence[Claim], facts: Facts = ()) -> Report:
    """Each claim with what was expected, what was observed and by which instrument."""
    sections = [Section("Observed", facts)] if facts else []
    for claim in claims:
        rows: Facts = (
            ("holds", "yes" if claim.holds else "NO"),
            ("expected", claim.expected),
            ("observed", claim.observed),
            ("proof", f"{claim.proof}, by {claim.instrument}"),
        )
        if claim.fails_when:
            rows = (*rows, ("can fail", claim.fails_when))
        sections.append(Section(claim.claim, rows))
    return Report(title, sections)


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
