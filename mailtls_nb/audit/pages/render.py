"""The executed notebook as one HTML page that loads nothing from anywhere.

What a host printed ends in this page, so all text is escaped, HTML outputs and Markdown are reduced to a closed
list of tags (markup.py), and a content security policy in the page forbids scripts, loading, and every style but the
page's own.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from html import escape
from importlib.resources import files
from pathlib import Path
from string import Template
from typing import Any

from nbconvert.exporters import HTMLExporter
from nbconvert.filters import ansi2html
from traitlets.config import Config

from mailtls_nb.audit.pages.cell_error import cell_error, is_ours
from mailtls_nb.audit.pages.header import header
from mailtls_nb.audit.pages.inline import hash_source, inner
from mailtls_nb.audit.pages.markup import Markup
from mailtls_nb.record import Record

_HERE = Path(__file__).parent
# The best that a page without scripts can show comes first.
_PRIORITY = ["text/html", "text/markdown", "image/svg+xml", "image/png", "image/jpeg", "text/plain"]


def render(notebook: Path, record: Record) -> str:
    """The page of an executed notebook, with the record's facts at its head.

    The digests of the notebook and, where it lies beside it, of commands.jsonl are read from the disk.
    """
    beside = {path.name: path for path in (notebook, notebook.parent / "commands.jsonl") if path.is_file()}
    digests = {name: hashlib.sha256(path.read_bytes()).hexdigest() for name, path in beside.items()}
    template = (files("mailtls_nb") / "audit" / "pages" / "page.html").read_text(encoding="utf-8")
    return Template(template).substitute(
        style_hash=hash_source(inner(template, "style")),
        title=escape(f"{record.runbook.id}: {record.outcome}"),
        header=header(record, digests),
        body=_cells(notebook),
    )


def _cells(notebook: Path) -> str:
    exporter = HTMLExporter(  # type: ignore[no-untyped-call]
        config=Config({"NbConvertBase": {"display_data_priority": _PRIORITY}}),
        extra_template_basedirs=[str(_HERE / "nbconvert")],
        template_name="runbook",
        sanitize_html=True,
        exclude_anchor_links=True,
    )
    markup = Markup()
    filters = {
        "clean": markup.clean,
        "as_pre": lambda text: markup.clean(_pre(text)),
        "as_img": lambda data, kind, metadata: markup.clean(_img(data, kind, metadata)),
        "as_error": lambda output: _error(output, markup),
    }
    for name, function in filters.items():
        exporter.register_filter(name, function)  # type: ignore[no-untyped-call]
    body, _ = exporter.from_filename(str(notebook))
    return str(body)


def _pre(text: str | list[str]) -> str:
    return f"<pre>{ansi2html(''.join(text))}</pre>"  # type: ignore[no-untyped-call]


def _img(data: str, kind: str, metadata: Mapping[str, Any]) -> str:
    # Base64 as the notebook has it; SVG stands there as text, and within an image nothing of it runs or loads.
    encoded = base64.b64encode("".join(data).encode()).decode() if kind == "image/svg+xml" else "".join(data.split())
    alternative = metadata.get(kind, {}).get("alt") or metadata.get("alt") or "picture without a description"
    return f'<img src="data:{kind};base64,{escape(encoded)}" alt="{escape(str(alternative))}">'


def _error(output: Mapping[str, Any], markup: Markup) -> str:
    """Our own errors in their words; of others the last line. The traceback is for who mends the code."""
    told = cell_error(output["ename"], output["evalue"])
    message = told.message if is_ours(told.kind) else f"{told.kind}: {told.message}"
    more = "".join(
        f"<dt>{label}</dt><dd>{escape(text)}</dd>"
        for label, text in (("State", told.state), ("Next", told.next))
        if text
    )
    traceback = "\n".join(output["traceback"])
    folded = f'<details class="code"><summary>Traceback</summary>{_pre(traceback)}</details>' if traceback else ""
    return markup.clean(
        f'<div class="error"><p>{escape(message)}</p>{f"<dl>{more}</dl>" if more else ""}</div>{folded}'
    )
