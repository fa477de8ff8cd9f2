"""The committed runbooks: their form, and that everything they show is still what the testbed's servers do."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mailtls_nb.library import runbooks
from mailtls_nb.parameters import declared_parameters
from mailtls_nb.refresh import cleaned, read_sanitizers
from mailtls_nb.testbed import Testbed

HERE = Path(__file__).parent
RUNBOOKS = sorted((HERE.parents[1] / "runbooks").glob("*.ipynb"))
SANITIZE = HERE / "sanitize.cfg"

every_runbook = pytest.mark.parametrize("path", RUNBOOKS, ids=lambda path: path.stem)

# Scripts rely on these: names, order, types and defaults of the contract.
COMMON = [("approve", "testbed"), ("reason", ""), ("audit_dir", "")]
SIGNING = [("ca_dir", "testbed"), ("ca_passphrase", "testbed")]
ON_A_HOST = [("host", "testbed:relay"), ("probe_from", "testbed:stranger")]
CONTRACT: dict[str, list[tuple[str, str | int]]] = {
    "01-create-ca": [
        ("common_name", "Example Mail CA"),
        ("organization", ""),
        ("country", ""),
        ("valid_days", 3650),
        ("key_type", "ec-p256"),
        ("name_constraints", ""),
        *SIGNING,
        *COMMON,
    ],
    "02-issue-certificate": [
        ("hostname", "relay.example.test"),
        ("dns_names", ""),
        ("roles", "both"),
        ("key_type", "ec-p256"),
        ("valid_days", 365),
        ("cert_dir", "/etc/mail/certs"),
        ("csr", ""),
        ("external_certificate", ""),
        *ON_A_HOST,
        *SIGNING,
        *COMMON,
    ],
    "03-trust-partner": [
        ("action", "trust"),
        ("partner", "partner.example.test"),
        ("partner_ca", "testbed"),
        ("partner_ca_fingerprint", "testbed"),
        ("partner_crl", ""),
        *ON_A_HOST,
        *COMMON,
    ],
    "04-enforce-access": [
        ("partner", "partner.example.test"),
        ("addresses", ""),
        ("partner_domains", ""),
        ("directions", "server,client,recipient"),
        ("requirement", "verify"),
        ("bits", 112),
        ("identity", "issuer"),
        ("on_failure", ""),
        ("everyone", "no"),
        *ON_A_HOST,
        *COMMON,
    ],
    "05-revoke-certificate": [
        ("action", "revoke"),
        ("serial", ""),
        ("hostname", ""),
        ("revocation_reason", "unspecified"),
        ("crl_days", 30),
        ("crl_hosts", "testbed:relay,testbed:partner"),
        ("probe_from", "testbed:stranger"),
        *SIGNING,
        *COMMON,
    ],
    "06-renew-certificate": [
        ("hostname", "relay.example.test"),
        ("renew_before_days", 30),
        ("key", "new"),
        ("revoke_old", "no"),
        *ON_A_HOST,
        *SIGNING,
        *COMMON,
    ],
    "07-check-host": [
        ("warn_days", 30),
        ("ca_dir", ""),
        ("textfile", ""),
        *ON_A_HOST,
        ("audit_dir", ""),
    ],
    "09-replace-ca": [
        ("stage", "both"),
        ("new_common_name", "Example Mail CA 2"),
        ("hosts", "testbed:relay"),
        ("partners_confirmed", ""),
        ("valid_days", 3650),
        ("key_type", ""),
        ("probe_from", "testbed:stranger"),
        *SIGNING,
        *COMMON,
    ],
}


def cells(path: Path) -> list[dict[str, Any]]:
    read = json.loads(path.read_text())["cells"]
    return [{**cell, "source": "".join(cell["source"])} for cell in read]


def code_cells(path: Path) -> list[dict[str, Any]]:
    return [cell for cell in cells(path) if cell["cell_type"] == "code"]


def tagged(cell: dict[str, Any]) -> bool:
    return "parameters" in cell["metadata"].get("tags", [])


def test_every_runbook_of_the_contract_is_there() -> None:
    assert [runbook.id for runbook in runbooks()] == list(CONTRACT)


@every_runbook
def test_parameters_are_those_of_the_contract(path: Path) -> None:
    (cell,) = [cell for cell in code_cells(path) if tagged(cell)]
    declared = declared_parameters(cell["source"])
    assert sorted((parameter.name, parameter.default) for parameter in declared) == sorted(CONTRACT[path.stem])
    # papermill --help-notebook does not see a default with `=` in it.
    assert not any("=" in str(parameter.default) for parameter in declared)


@every_runbook
def test_the_table_of_parameters_is_that_of_the_cell(path: Path) -> None:
    index = next(index for index, cell in enumerate(cells(path)) if tagged(cell))
    named = re.findall(r"^\| `(\w+)` \|", cells(path)[index - 1]["source"], re.MULTILINE)
    assert named == [parameter.name for parameter in declared_parameters(cells(path)[index]["source"])]


@every_runbook
def test_every_cell_was_executed_in_order_without_an_error(path: Path) -> None:
    """nbval passes a notebook without outputs in silence."""
    assert [cell["execution_count"] for cell in code_cells(path)] == list(range(1, len(code_cells(path)) + 1))
    outputs = [output for cell in code_cells(path) for output in cell["outputs"]]
    assert {output["output_type"] for output in outputs} <= {"execute_result", "display_data", "stream"}
    assert not [output for output in outputs if output.get("name") == "stderr"]
    assert all(cell["outputs"] for cell in code_cells(path) if not tagged(cell))


@every_runbook
def test_cells_are_short_calls_with_words_before_them(path: Path) -> None:
    every = cells(path)
    for before, cell in zip([None, *every], every, strict=False):
        if cell["cell_type"] != "code":
            continue
        assert before is not None
        assert before["cell_type"] == "markdown"
        if tagged(cell):
            continue
        assert len(cell["source"].splitlines()) <= 8
        assert not re.search(r"^\s*[!%]", cell["source"], re.MULTILINE)
        forbidden = (ast.FunctionDef, ast.ClassDef, ast.If, ast.For, ast.While, ast.Try, ast.Lambda)
        assert not [node for node in ast.walk(ast.parse(cell["source"])) if isinstance(node, forbidden)]


@every_runbook
def test_outputs_are_committed_as_refresh_writes_them(path: Path) -> None:
    notebook = json.loads(path.read_text())
    clean = cleaned(notebook, read_sanitizers(SANITIZE))
    assert path.read_text() == json.dumps(clean, indent=1, sort_keys=True, ensure_ascii=False) + "\n"


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("serial 2829E34EA7D768D48F69A4D31D73D38E877E173.", "serial [serial]."),
        (":".join(["0A"] * 32), "[fingerprint]"),
        ("digest " + "0a" * 32, "digest [sha-256]"),
        ("valid to 2027-11-22 21:20:20 UTC, 2027-11-22", "valid to [time], [date]"),
        ("2026-11-22T20:30:25Z 2026-11-22T20:30:25.123+00:00", "[time] [time]"),
        ("/tmp/a/20261122T203025Z-02-x/request.csr", "[audit]/[time]-02-x/request.csr"),
        ("/home/ops/check-out/.testbed/tests-2/ca", "[testbed]/ca"),
        ("[192.168.96.13] 172.17.0.2 10.1.2.3", "[[address]] [address] [address]"),
        ("4AMLK7x2000123: to=", "[queue-id]: to="),
        ("took 1.25 s", "took [duration]"),
    ],
)
def test_what_differs_between_runs_is_replaced_once_and_for_all(text: str, clean: str) -> None:
    for given in (text, clean):
        for regex, replace in read_sanitizers(SANITIZE):
            given = regex.sub(replace, given)
        assert given == clean


@pytest.mark.parametrize(
    "text",
    ["sendmail 8.17.1.9, OpenSSL 3.0.15", "172.99.1.1", "verify=OK", "ECDHE-ECDSA-AES256", "250-STARTTLS", "3650 days"],
)
def test_what_must_not_change_is_compared(text: str) -> None:
    for regex, replace in read_sanitizers(SANITIZE):
        assert regex.sub(replace, text) == text


def nbval(path: Path, audit_dir: Path) -> subprocess.CompletedProcess[str]:
    """Execute a notebook and compare each output with the one in the file."""
    argv = [sys.executable, "-m", "pytest", "--nbval", "--nbval-current-env", "--nbval-cell-timeout", "300"]
    argv += ["--nbval-sanitize-with", str(SANITIZE), "-p", "no:cacheprovider", "-c", os.devnull, "-q", str(path)]
    environment = {**os.environ, "MAILTLS_AUDIT_DIR": str(audit_dir), "MAILTLS_HEADLESS": "1"}
    return subprocess.run(argv, cwd=path.parent, env=environment, capture_output=True, text=True, check=False)


def test_nbval_notices_a_changed_output_and_only_that(tmp_path: Path) -> None:
    def judge(*, output: str) -> int:
        cell = {
            "cell_type": "code",
            "execution_count": 1,
            "id": "a",
            "metadata": {},
            "source": "print('verify=OK, serial 2829E34EA7D768D48F69A4D31D73D38E877E173')",
            "outputs": [{"name": "stdout", "output_type": "stream", "text": output}],
        }
        notebook = {"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5}
        (tmp_path / "a.ipynb").write_text(json.dumps(notebook))
        return nbval(tmp_path / "a.ipynb", tmp_path).returncode

    assert judge(output="verify=OK, serial [serial]\n") == 0
    assert judge(output="verify=NO, serial [serial]\n") == 1


@pytest.mark.testbed
@every_runbook
def test_every_output_is_what_the_testbeds_servers_say_now(
    path: Path, pristine: Testbed, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """The runbooks run in order on one testbed, fresh for the first of them."""
    done = nbval(path, tmp_path_factory.getbasetemp() / "audit")
    assert done.returncode == 0, done.stdout[-20000:] + done.stderr[-2000:]
