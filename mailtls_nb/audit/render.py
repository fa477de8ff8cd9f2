"""The executed notebook as one HTML page that loads nothing from anywhere.

What a host printed ends in this page, so all text is escaped, HTML outputs and Markdown are reduced to a closed
list of tags, and a content security policy in the page forbids scripts and loading.
"""

from __future__ import annotations

import hashlib
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template

from bleach.css_sanitizer import CSSSanitizer
from bleach.sanitizer import Cleaner
from nbconvert.exporters import HTMLExporter

from mailtls_nb.finding import in_words
from mailtls_nb.record import Record

_TAGS = (
    "a abbr blockquote br caption code col colgroup dd del details div dl dt em h1 h2 h3 h4 h5 h6 hr i img ins kbd li "
    "ol p pre q s samp section small span strong sub summary sup table tbody td tfoot th thead tr ul"
)
_STYLES = ("color", "font-weight", "text-align", "vertical-align", "white-space")
_OUTCOMES = {
    "changed": "changed: the plan was carried out and proved",
    "unchanged": "unchanged: there was nothing to do",
    "planned": "planned: nothing was changed, the plan waits for approval",
    "failed": "failed",
}


def render(notebook: Path, record: Record) -> str:
    """The page of an executed notebook, with the record's facts at its head."""
    exporter = HTMLExporter(template_name="basic", sanitize_html=True, exclude_anchor_links=True)  # type: ignore[no-untyped-call]
    cleaner = Cleaner(
        tags=frozenset(_TAGS.split()),
        attributes=_allowed,
        protocols=frozenset({"http", "https", "mailto", "data"}),
        css_sanitizer=CSSSanitizer(allowed_css_properties=_STYLES),
    )
    exporter.register_filter("clean_html", lambda text: cleaner.clean("".join(text)))  # type: ignore[no-untyped-call]
    body, _ = exporter.from_filename(str(notebook))
    page = Template((files("mailtls_nb") / "audit" / "page.html").read_text(encoding="utf-8"))
    rows = (
        f'<tr><th scope="row">{escape(label)}</th><td>{escape(value)}</td></tr>'
        for label, value in _facts(record, hashlib.sha256(notebook.read_bytes()).hexdigest())
        if value
    )
    colours, words = _headline(record)
    return page.substitute(
        title=escape(f"{record.runbook.id}: {record.outcome}"),
        outcome=colours,
        outcome_words=escape(words),
        facts="\n".join(rows),
        body=body,
    )


def _headline(record: Record) -> tuple[str, str]:
    """The class that gives the head its colour, and its words."""
    number_of = record.findings_by_severity
    if record.outcome == "failed" or number_of is None:
        return record.outcome, _OUTCOMES[record.outcome]
    colours = "failed" if number_of["error"] else "planned" if number_of["warning"] else record.outcome
    return colours, f"{in_words(number_of)}; nothing was changed"


def _allowed(tag: str, name: str, value: str) -> bool:
    if tag == "img":
        # A picture lies in the page or is not shown: reading a record must not tell anybody.
        return name in {"alt", "width", "height"} or (name == "src" and value.startswith("data:image/"))
    if tag == "a" and name == "href":
        return not value.startswith("data:")
    return name in {"class", "id", "title", "style", "scope", "colspan", "rowspan", "open"}


def _facts(record: Record, notebook_digest: str) -> list[tuple[str, str]]:
    error = record.error
    operator = record.operator
    return [
        ("Error", error.message if error else ""),
        ("State", error.state if error else ""),
        ("Next", error.next if error else ""),
        ("Runbook", f"{record.runbook.id}, version {record.runbook.version}"),
        ("Hosts", ", ".join(record.hosts) or str(record.parameters.get("host", ""))),
        ("Reason", str(record.parameters.get("reason", ""))),
        ("Operator", f"{operator.login} ({operator.origin})" if operator.origin else operator.login),
        ("Started", record.started),
        ("Ended", record.ended or "not known"),
        ("Approved by", f"{record.approval.how} (approve: {record.approval.approve!r})" if record.approval else ""),
        ("Plan", str(record.plan["digest"]) if record.plan else ""),
        ("Notebook", f"SHA-256 {notebook_digest}"),
        ("Sealed", "yes" if record.sealed else "no"),
    ]
