"""SIGTERM in the midst of a change, as a service manager sends it: the change is undone, and the record says so."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailtls_nb.cli import main
from mailtls_nb.testbed import Testbed
from tests.procedures.conftest import Machines

pytestmark = pytest.mark.testbed

COMMAND = Path(sys.executable).parent / "mailtls-nb"
# After this the daemon is told of the new files; then it is asked from outside.
LAST_STEP = "putting sendmail.cf in place"


def commands(audit_dir: Path) -> str:
    return "".join(path.read_text() for path in audit_dir.glob("*-02-*/commands.jsonl"))


def descendants(pid: int) -> list[int]:
    """The process and all that it has started, and those in turn."""
    listed = subprocess.run(["ps", "-eo", "pid=,ppid="], capture_output=True, text=True, check=True).stdout.split()
    pairs = list(zip(map(int, listed[::2]), map(int, listed[1::2]), strict=True))
    family = [pid]
    for parent in family:
        family += [child for child, its_parent in pairs if its_parent == parent]
    return family


@pytest.fixture
def changing(pristine: Testbed, audit_dir: Path) -> Iterator[subprocess.Popen[str]]:
    """A run of 02 that has just put the new sendmail.cf into its place."""
    assert main(["run", "01"]) == 0
    with subprocess.Popen(
        [str(COMMAND), "run", "02", "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=lambda: signal.signal(signal.SIGTERM, signal.SIG_DFL),
    ) as process:
        deadline = time.monotonic() + 120
        while LAST_STEP not in commands(audit_dir):
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < deadline
            time.sleep(0.02)
        yield process
        process.kill()


def test_every_process_of_a_run_is_signalled(
    changing: subprocess.Popen[str], machines: Machines, audit_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """As systemd does by default: the command, the notebook's kernel, and what it runs for the host."""
    family = descendants(changing.pid)
    assert len(family) > 2
    for pid in family:
        try:
            os.kill(pid, signal.SIGTERM)
        except ProcessLookupError:
            continue
    stdout, stderr = changing.communicate(timeout=120)
    said = json.loads(stdout.splitlines()[-1])
    assert (changing.returncode, said["outcome"]) == (1, "failed")
    assert said["error"]["kind"] == "interrupted"
    assert said["error"]["message"].startswith("ended by SIGTERM; ")
    assert "everything was put back and compared with its copy" in said["error"]["state"]
    assert "Traceback" not in stderr
    # Nothing of it is left, by nobody's word but the machine's.
    assert (
        machines.relay.sh("ls /etc/mail/certs 2>/dev/null; ls -A /var/lib/mailtls-nb/transaction 2>/dev/null || :")
        == ""
    )
    assert "mailtls-nb" not in machines.relay.sh("cat /etc/mail/sendmail.mc /etc/mail/sendmail.cf")
    assert "STARTTLS" not in machines.relay.ehlo()
    last = json.loads((audit_dir / "log.jsonl").read_text().splitlines()[-1])
    assert (last["what"], last["outcome"]) == ("ended", "failed")
    capsys.readouterr()
    assert main(["audit", "verify"]) == 0
    assert main(["run", "02"]) == 0
