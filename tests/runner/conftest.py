"""Small notebooks to run, and a clean environment to run them in."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

PARAMETERS = 'word: str = "testbed"  # any word\nnumber: int = 1  # any number\naudit_dir: str = ""  # audit folder\n'

WriteNotebook = Callable[..., Path]


@pytest.fixture
def write_notebook(tmp_path: Path) -> WriteNotebook:
    """Writes a notebook with a parameters cell and the given code cells."""

    def write(*cells: str, parameters: str = PARAMETERS, name: str = "10-try.ipynb") -> Path:
        def cell(number: int, kind: str, source: str, *tags: str) -> dict[str, object]:
            code: dict[str, object] = {"execution_count": None, "outputs": []} if kind == "code" else {}
            return {"cell_type": kind, "id": f"c{number}", "metadata": {"tags": tags}, "source": source, **code}

        notebook = {
            "nbformat": 4,
            "nbformat_minor": 5,
            "metadata": {"kernelspec": {"name": "python3", "display_name": "Python 3", "language": "python"}},
            "cells": [
                cell(0, "markdown", "# Try\n\nTry something."),
                cell(1, "code", parameters, "parameters"),
                *(cell(number, "code", source) for number, source in enumerate(cells, start=2)),
            ],
        }
        path = tmp_path / name
        path.write_text(json.dumps(notebook))
        return path

    return write


@pytest.fixture(autouse=True)
def audit_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The audit folder of every run of a test."""
    path = tmp_path / "audit"
    monkeypatch.setenv("MAILTLS_AUDIT_DIR", str(path))
    monkeypatch.delenv("MAILTLS_RUN_FOLDER", raising=False)
    return path
