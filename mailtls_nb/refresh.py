"""``python -m mailtls_nb.refresh``: executes the runbooks in order and saves their outputs into the checkout.

The outputs come from a testbed of its own, fresh from the start. What differs from run to run (serial numbers,
times, addresses) is replaced by the same list that nbval compares with, so that doing it twice changes nothing.
"""

from __future__ import annotations

import json
import os
import re
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from mailtls_nb.errors import MailTLSError, SetUpError
from mailtls_nb.interruption import termination_interrupts
from mailtls_nb.library import checkout, runbooks
from mailtls_nb.testbed import Testbed

# The form that nbval reads.
_PAIR = re.compile(r"^regex: (.*)$\n^replace: (.*)$", re.MULTILINE)
_CELL_TIMEOUT_S = 600.0
_KERNEL = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}

Sanitizers = Sequence[tuple[re.Pattern[str], str]]


def main() -> int:
    """Refresh every runbook; returns the exit status. A runbook that fails stays as it was."""
    top = checkout()
    try:
        if top is None:
            raise SetUpError("runbooks are refreshed in a checkout, and this is an installed package")
        with termination_interrupts():
            refresh(top)
    except MailTLSError as error:
        print(f"mailtls-nb: {error}", file=sys.stderr)
        return error.exit_status
    except KeyboardInterrupt:
        print("mailtls-nb: interrupted", file=sys.stderr)
        return 1
    return 0


def refresh(top: Path) -> None:
    """Execute the runbooks of the checkout ``top`` with their defaults and save their outputs."""
    sanitizers = read_sanitizers(top / "tests" / "runbooks" / "sanitize.cfg")
    # Not the testbed that a person works with: its CA would be lost.
    state_dir = Path(os.environ.get("MAILTLS_TESTBED") or top / ".testbed") / "refresh"
    testbed = Testbed(state_dir)
    testbed.up()
    try:
        testbed.reset()
        with tempfile.TemporaryDirectory() as scratch:
            environment = {"MAILTLS_TESTBED": str(state_dir), "MAILTLS_AUDIT_DIR": f"{scratch}/audit"}
            for runbook in runbooks():
                print(f"{runbook.id} ...", flush=True)
                executed = _execute(runbook.path, Path(scratch) / runbook.path.name, environment)
                clean = with_examples_kept(json.loads(runbook.path.read_text("utf-8")), cleaned(executed, sanitizers))
                runbook.path.write_text(json.dumps(clean, indent=1, sort_keys=True, ensure_ascii=False) + "\n", "utf-8")
    finally:
        testbed.down()


def read_sanitizers(path: Path) -> Sanitizers:
    """The pairs of a file as nbval's ``--nbval-sanitize-with`` reads it, in order."""
    return [(re.compile(regex), replace) for regex, replace in _PAIR.findall(path.read_text(encoding="utf-8"))]


def _execute(notebook: Path, out: Path, environment: dict[str, str]) -> dict[str, Any]:
    # Late: this import takes two seconds.
    from papermill.engines import papermill_engines
    from papermill.execute import execute_notebook

    from mailtls_nb.engine import TruthfulEngine

    papermill_engines.register("mailtls", TruthfulEngine)
    execute_notebook(
        notebook,
        out,
        engine_name="mailtls",
        progress_bar=False,
        execution_timeout=_CELL_TIMEOUT_S,
        kernel_cwd=out.parent,
        kernel_env={**environment, "MAILTLS_HEADLESS": "1"},
    )
    return dict(json.loads(out.read_text(encoding="utf-8")))


def cleaned(notebook: dict[str, Any], sanitizers: Sanitizers) -> dict[str, Any]:
    """The executed notebook as it is committed: outputs sanitized, nothing in it that tells one run from another."""
    cells = []
    for cell in notebook["cells"]:
        tags = cell["metadata"].get("tags")
        clean = {**cell, "metadata": {"tags": tags} if tags else {}}
        if cell["cell_type"] == "code":
            clean["outputs"] = [_sanitized(output, sanitizers) for output in cell["outputs"]]
        cells.append(clean)
    metadata = {"kernelspec": _KERNEL, "language_info": {"name": "python"}}
    return {"cells": cells, "metadata": metadata, "nbformat": 4, "nbformat_minor": 5}


def with_examples_kept(committed: dict[str, Any], clean: dict[str, Any]) -> dict[str, Any]:
    """The notebook with the committed outputs of the cells that nbval does not compare, as long as their source stays.

    They show numbers that are others in every run (what a log holds), and stand there as an example.
    """
    examples = {
        cell["id"]: cell["outputs"]
        for cell in committed["cells"]
        if "nbval-ignore-output" in cell["metadata"].get("tags", ()) and cell["outputs"]
    }
    sources = {cell["id"]: cell["source"] for cell in committed["cells"]}
    cells = [
        {**cell, "outputs": examples[cell["id"]]}
        if cell["id"] in examples and cell["source"] == sources[cell["id"]]
        else cell
        for cell in clean["cells"]
    ]
    return {**clean, "cells": cells}


def _sanitized(value: Any, sanitizers: Sanitizers) -> Any:
    """The output with every text in it sanitized; a text given as a list of lines is taken as one."""
    if isinstance(value, dict):
        return {key: _sanitized(part, sanitizers) for key, part in value.items()}
    if isinstance(value, list) and all(isinstance(part, str) for part in value):
        return str(_sanitized("".join(value), sanitizers)).splitlines(keepends=True)
    if isinstance(value, list):
        return [_sanitized(part, sanitizers) for part in value]
    if isinstance(value, str):
        for regex, replace in sanitizers:
            value = regex.sub(replace, value)
    return value


if __name__ == "__main__":
    sys.exit(main())
