"""This machine's clock wrong by a year, by libfaketime: 07 says so, whoever signs refuses to, and nothing is touched.

The whole command runs with the wrong clock, the notebook's kernel and all. The hosts keep the right time, since what
runs on them is no child of the command. The clock that measures waiting (CLOCK_MONOTONIC) is left alone, or waiting
would never end; libfaketime then refuses the call behind Python's ``time.sleep``, which the kernel uses: hence _SLEEP.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from mailtls_nb.record import Record, load
from mailtls_nb.testbed import Testbed
from tests.procedures.conftest import Machine, Machines, Runbooks

pytestmark = [
    pytest.mark.testbed,
    pytest.mark.skipif(shutil.which("faketime") is None, reason="faketime is not installed, and only root can do it"),
]

_SLEEP = """import select, time
time.sleep = lambda seconds: select.select([], [], [], max(seconds, 0)) and None
"""
YEAR = timedelta(days=365)
both_ways = pytest.mark.parametrize(("offset", "host_is"), [("+365d", "behind"), ("-365d", "ahead of")])


@dataclass(frozen=True)
class Command:
    """What a run of the command with a wrong clock ended with."""

    status: int
    said: dict[str, Any]
    stderr: str

    @property
    def record(self) -> Record:
        return load(Path(self.said["record"]))


def run(offset: str, folder: Path, *argv: str) -> Command:
    """``mailtls-nb run`` with a clock that is off by ``offset``; its audit folder lies in ``folder``."""
    (folder / "sitecustomize.py").write_text(_SLEEP)
    faketime = ["faketime", "--exclude-monotonic", "-f", offset]
    command = [sys.executable, "-m", "mailtls_nb.cli", "run", *argv, "--json", "-p", "audit_dir", str(folder / "audit")]
    done = subprocess.run(
        [*faketime, *command],
        # The second tells it to the kernel, which is started with the environment and not by faketime.
        env={**os.environ, "PYTHONPATH": str(folder), "FAKETIME_DONT_FAKE_MONOTONIC": "1"},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout, done.stderr
    return Command(done.returncode, json.loads(done.stdout.splitlines()[-1]), done.stderr)


def ca_tree(testbed: Testbed) -> dict[Path, tuple[int, int, bytes]]:
    """Everything in the CA directory, byte for byte."""
    files = [path for path in testbed.ca_dir.rglob("*") if path.is_file()]
    return {path: (path.stat().st_mode, path.stat().st_mtime_ns, path.read_bytes()) for path in files}


@pytest.fixture(scope="module")
def relay(runbooks: Runbooks, machines: Machines) -> Machine:
    """A relay with a certificate of our CA, made with the right time."""
    for runbook in ("01", "02"):
        assert runbooks(runbook).outcome == "changed"
    return machines.relay


@both_ways
def test_07_says_that_a_clock_is_wrong(
    offset: str, host_is: str, relay: Machine, pristine: Testbed, tmp_path: Path
) -> None:
    """Of the host and of the probe; and the certificate has ended, or not begun, by such a clock."""
    before = relay.tree(), ca_tree(pristine)
    ran = run(offset, tmp_path, "07", "-p", "ca_dir", "testbed")
    assert (ran.status, ran.said["outcome"]) == (4, "unchanged"), ran.stderr
    assert (relay.tree(), ca_tree(pristine)) == before
    errors = [found["what"] for found in ran.record.findings or () if found["severity"] == "error"]
    for name in ("testbed:relay", "testbed:stranger"):
        assert any(what.startswith(f"The clock of {name} is 365 days {host_is} this machine's") for what in errors)
    by_the_clock = "ended on" if offset == "+365d" else "begins on"
    assert any(what.startswith("The server") and by_the_clock in what for what in errors), errors
    # That the clock is behind is told by what the CA has signed as well; that it is ahead, only by the hosts.
    behind = [what for what in errors if what.startswith("By this machine's clock") and "begins only on" in what]
    assert bool(behind) == (offset == "-365d")


SIGNING = [
    ("02", ("-p", "key_type", "rsa-2048")),
    ("05", ("-p", "action", "refresh", "-p", "crl_hosts", "testbed:relay")),
    ("06", ("-p", "renew_before_days", "364", "-p", "key", "same")),
    ("09", ()),
]


@both_ways
@pytest.mark.parametrize(("runbook", "given"), SIGNING, ids=[runbook for runbook, _ in SIGNING])
def test_who_signs_refuses_to_and_touches_nothing(
    runbook: str, given: tuple[str, ...], offset: str, host_is: str, relay: Machine, pristine: Testbed, tmp_path: Path
) -> None:
    """A right clock would have it sign."""
    before = relay.state(), relay.daemon(), ca_tree(pristine)
    ran = run(offset, tmp_path, runbook, *given)
    assert (ran.status, ran.said["outcome"]) == (2, "failed"), ran.stderr
    assert (relay.state(), relay.daemon(), ca_tree(pristine)) == before
    error = ran.said["error"]
    assert error["kind"] == "NotReady"
    assert error["state"] in ("nothing was touched", "nothing was signed")
    if offset == "+365d":
        assert f"the clock of testbed:relay is 365 days {host_is} this machine's" in error["message"]
        assert "sendmail refuses everyone" in error["message"]
    else:
        assert "the clock is behind, or it was ahead when that was signed" in error["message"]
    ended = datetime.fromisoformat(str(ran.record.ended))
    assert abs(abs(ended - datetime.now(ended.tzinfo)) - YEAR) < timedelta(hours=1)


def test_02_signs_with_the_right_clock(relay: Machine, tmp_path: Path) -> None:
    """The same command with a clock that is two minutes off: it was the year that was refused."""
    ran = run("+2m", tmp_path, "02", "-p", "key_type", "rsa-2048")
    assert (ran.status, ran.said["outcome"]) == (0, "changed"), ran.stderr
