"""``index.html`` of the audit folder: the list of all its runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

from mailtls_nb import durable
from mailtls_nb.audit.pages.index_page import index_page
from mailtls_nb.audit.run_summary import RunSummary
from mailtls_nb.record import rfc3339

INDEX_NAME = "index.html"


def write_index(audit_dir: Path, runs: Sequence[RunSummary]) -> Path:
    """Make the page anew; raises OSError."""
    path = audit_dir / INDEX_NAME
    durable.write(path, index_page(runs, made=rfc3339(datetime.now(UTC))).encode("utf-8", "replace"), mode=0o600)
    return path


def refresh_index(audit_dir: Path, runs: Sequence[RunSummary]) -> None:
    """As ``write_index``, for a run that must not fail for want of the list: whatever is wrong is only said."""
    try:
        write_index(audit_dir, runs)
    except Exception as error:  # whatever it is, the records are what counts
        with suppress(OSError):
            print(f"mailtls-nb: {audit_dir / INDEX_NAME} was not brought up to date: {error}", file=sys.stderr)
