"""The library: how a runbook is found, and what counts as its source."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from mailtls_nb.errors import BadParameter, NotReady
from mailtls_nb.library import Runbook, find, runbooks, source_digest


@pytest.mark.parametrize("name", ["01-create-ca", "01", "1"])
def test_a_runbook_is_found_by_its_id_and_its_number(name: str) -> None:
    assert find(name).id == "01-create-ca"


@pytest.mark.parametrize(
    "name", ["", "0", "99", "create-ca", "../runbooks/01-create-ca", "01-create-ca.ipynb", "\u0661"]
)
def test_anything_else_is_refused_with_the_list(name: str) -> None:
    with pytest.raises(BadParameter, match="choose one of: 01-create-ca, "):
        find(name)


def test_a_runbook_is_found_by_its_path() -> None:
    path = runbooks()[0].path
    assert find(str(path)).path == path


def test_a_notebook_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.ipynb").write_text("{}")
    with pytest.raises(NotReady):
        find(str(tmp_path / "x.ipynb"))


def test_the_digest_is_over_the_sources_and_nothing_else() -> None:
    text = runbooks()[0].path.read_text()
    notebook = json.loads(text)
    for cell in notebook["cells"]:
        cell["metadata"]["execution"] = {"time": "now"}
        if cell["cell_type"] == "code":
            cell["outputs"], cell["execution_count"] = [], None
    assert source_digest(json.dumps(notebook)) == source_digest(text) == runbooks()[0].digest
    notebook["cells"][-1]["source"] = "another"
    assert source_digest(json.dumps(notebook)) != source_digest(text)


def test_values_are_the_given_ones_over_the_defaults() -> None:
    runbook: Runbook = find("01")
    assert runbook.values({"valid_days": 9})["valid_days"] == 9
    assert runbook.values({})["valid_days"] == 3650
