"""However a run ends, its record, its line in the chain and the exit status say the same, and say what is true."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailtls_nb.cli import main
from mailtls_nb.record import load

WriteNotebook = Callable[..., Path]
COMMAND = Path(sys.executable).parent / "mailtls-nb"


@pytest.fixture
def signed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An operator's key for the runs of the test; returns the file of those who may sign."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "ops"], check=True)
    monkeypatch.setenv("MAILTLS_SIGNING_KEY", str(tmp_path / "ops"))
    (tmp_path / "signers").write_text(f"ops@mx {(tmp_path / 'ops.pub').read_text()}")
    return tmp_path / "signers"


@contextmanager
def started(path: Path, reached: Path, *options: str) -> Iterator[subprocess.Popen[str]]:
    """The command at work in a cell that has made the file ``reached``."""
    with subprocess.Popen(
        [COMMAND, "run", path, "--json", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background may have signals ignored.
        preexec_fn=lambda: [signal.signal(n, signal.SIG_DFL) for n in (signal.SIGINT, signal.SIGTERM)],
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not reached.exists():
                assert process.poll() is None, process.communicate()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


def entries(audit_dir: Path) -> list[dict[str, str]]:
    return [json.loads(line) for line in (audit_dir / "log.jsonl").read_text().splitlines()]


def check_failed(audit_dir: Path, signers: Path, kind: str, capsys: pytest.CaptureFixture[str]) -> Mapping[str, object]:
    """The one run failed in this way, its record is signed, and nothing says that it came to its end."""
    begun, ended = entries(audit_dir)
    folder = audit_dir / begun["run"]
    record = load(folder / "record.json")
    assert (ended["outcome"], record.outcome, record.exit_status) == ("failed", "failed", 1)
    assert record.error is not None
    assert record.error.kind == kind
    assert record.sealed
    argv = ["ssh-keygen", "-Y", "verify", "-n", "mailtls-nb-audit", "-f", str(signers), "-I", "ops@mx"]
    with (folder / "record.json").open("rb") as file:
        subprocess.run([*argv, "-s", str(folder / "record.json.sig")], stdin=file, check=True, capture_output=True)
    notebook = json.loads((folder / "notebook.ipynb").read_text())
    states = [cell["metadata"]["papermill"]["status"] for cell in notebook["cells"]]
    assert states[-2:] == ["failed", "pending"]
    assert "completed" not in states[-2:]
    assert "failed" in (audit_dir / "index.html").read_text()
    assert not (folder / ".record.json").exists()
    capsys.readouterr()
    assert main(["audit", "verify", str(audit_dir), "--allowed-signers", str(signers), "--every", "--signed"]) == 0
    return record.as_statement()


WAITS = "open({0!r}, 'w')\nimport time\ntry:\n    time.sleep(60)\nfinally:\n    print('put back')"


@pytest.mark.parametrize(("number", "said"), [(signal.SIGTERM, "SIGTERM"), (signal.SIGINT, "keyboard")])
def test_a_signal(
    write_notebook: WriteNotebook,
    tmp_path: Path,
    audit_dir: Path,
    signed: Path,
    capsys: pytest.CaptureFixture[str],
    number: signal.Signals,
    said: str,
) -> None:
    path = write_notebook(WAITS.format(str(tmp_path / "reached")), "print('never')")
    with started(path, tmp_path / "reached") as process:
        process.send_signal(number)
        # An impatient second one does not cut off what is being put back and written down.
        time.sleep(0.1)
        process.send_signal(number)
        stdout, stderr = process.communicate(timeout=60)
    assert "Traceback" not in stderr
    answer = json.loads(stdout.splitlines()[-1])
    assert process.returncode == answer["exit_status"] == 1
    assert said in answer["error"]["message"]
    check_failed(audit_dir, signed, "interrupted", capsys)


def test_running_out_of_time(
    write_notebook: WriteNotebook, audit_dir: Path, signed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_notebook("import time; time.sleep(60)", "print('never')")
    assert main(["run", str(path), "--cell-timeout", "1"]) == 1
    check_failed(audit_dir, signed, "time-out", capsys)


def test_the_kernels_death(
    write_notebook: WriteNotebook, audit_dir: Path, signed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_notebook("import os, signal; os.kill(os.getpid(), signal.SIGKILL)", "print('never')")
    assert main(["run", str(path)]) == 1
    check_failed(audit_dir, signed, "kernel-died", capsys)


def test_kill_9(
    write_notebook: WriteNotebook,
    tmp_path: Path,
    audit_dir: Path,
    signed: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """It shows as begun and not ended: in the chain, in its record, in the list and to verify; for good."""
    path = write_notebook(WAITS.format(str(tmp_path / "reached")))
    with started(path, tmp_path / "reached") as process:
        process.send_signal(signal.SIGKILL)
    (begun,) = entries(audit_dir)
    folder = audit_dir / begun["run"]
    record = load(folder / "record.json")
    assert (record.outcome, record.ended, record.exit_status, record.sealed) == ("failed", None, 1, False)
    assert not (folder / "record.json.sig").exists()
    assert "not ended" in (audit_dir / "index.html").read_text()
    assert main(["run", str(write_notebook("1", name="11-next.ipynb"))]) == 1  # finishes no record
    capsys.readouterr()
    assert main(["audit", "verify", str(audit_dir), "--allowed-signers", str(signed), "--every"]) == 0
    said = capsys.readouterr().out
    assert f"begun and not ended: {begun['run']}" in said
    assert "1 runs ended, 1 not" in said
    assert main(["audit", "show", begun["run"]]) == 0
    assert "not ended: the run was killed, or goes on" in capsys.readouterr().out
    assert [entry["what"] for entry in entries(audit_dir)] == ["begun", "begun", "ended"]


def test_a_signal_before_the_notebook_has_begun(
    write_notebook: WriteNotebook, audit_dir: Path, signed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """While papermill is imported, or the kernel starts: the record says that nothing was touched."""
    path = write_notebook("1", "2")
    with started(path, audit_dir / "log.jsonl") as process:
        process.send_signal(signal.SIGTERM)
        stdout, _ = process.communicate(timeout=60)
    answer = json.loads(stdout.splitlines()[-1])
    assert (process.returncode, answer["error"]["kind"]) == (1, "interrupted")
    assert answer["error"]["state"].startswith("nothing was touched")
    assert [entry["what"] for entry in entries(audit_dir)] == ["begun", "ended"]
    assert main(["audit", "verify", str(audit_dir), "--allowed-signers", str(signed)]) == 0


def test_eight_runs_at_once_give_a_sound_chain(
    write_notebook: WriteNotebook, audit_dir: Path, signed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_notebook("1")
    running = [
        subprocess.Popen([COMMAND, "run", path], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(8)
    ]
    for process in running:
        process.communicate(timeout=240)
    assert {process.returncode for process in running} == {1}  # finishes no record
    said = [entry["what"] for entry in entries(audit_dir)]
    assert (said.count("begun"), said.count("ended")) == (8, 8)
    # They did run side by side.
    assert said[:2] == ["begun", "begun"]
    assert len({entry["run"] for entry in entries(audit_dir)}) == 8
    assert main(["audit", "verify", str(audit_dir), "--allowed-signers", str(signed), "--every", "--signed"]) == 0
    assert "keys judged by OpenSSH on 8 of them" in capsys.readouterr().out


def test_a_run_that_cannot_be_entered_says_so(
    write_notebook: WriteNotebook, audit_dir: Path, signed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The chain's file is taken away while it runs: the outcome is told, and that it is not recorded."""
    taken = f"import pathlib; pathlib.Path({str(audit_dir / 'log.jsonl')!r}).unlink(); "
    taken += f"pathlib.Path({str(audit_dir / 'log.jsonl')!r}).mkdir()"
    assert main(["run", str(write_notebook(taken)), "--json"]) == 1
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["outcome"], said["error"]["kind"]) == ("failed", "not-recorded")
    assert load(Path(said["record"])).ended is None
    os.rmdir(audit_dir / "log.jsonl")  # noqa: PTH106
