"""The command as an operator or a script calls it, and plain papermill on the same notebooks."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from mailtls_nb.cli import main
from mailtls_nb.record import load

WriteNotebook = Callable[..., Path]
BIN = Path(sys.executable).parent


def wait_for(path: Path) -> None:
    deadline = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} does not appear"
        time.sleep(0.05)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_interrupts_the_cell_which_puts_things_back(
    write_notebook: WriteNotebook, tmp_path: Path, audit_dir: Path, number: signal.Signals
) -> None:
    cell = (
        "import os, pathlib, time\n"
        f"pathlib.Path({str(tmp_path / 'pid')!r}).write_text(str(os.getpid()))\n"
        "try:\n    time.sleep(60)\nfinally:\n    print('put back')"
    )
    path = write_notebook(cell, "print('never')")
    with subprocess.Popen(
        [BIN / "mailtls-nb", "run", path, "--json"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # Whoever runs the tests in the background may have had the signal ignored.
        preexec_fn=lambda: signal.signal(number, signal.SIG_DFL),
    ) as process:
        try:
            wait_for(tmp_path / "pid")
            process.send_signal(number)
            stdout, stderr = process.communicate(timeout=60)
        finally:
            process.kill()
    said = json.loads(stdout.splitlines()[-1])
    assert process.returncode == said["exit_status"] == 1
    assert "Traceback" not in stderr
    record = load(Path(said["record"]))
    assert record.outcome == "failed"
    assert record.error is not None
    assert record.error.kind == "interrupted"
    notebook = json.loads((Path(said["folder"]) / "notebook.ipynb").read_text())
    assert [cell["metadata"]["papermill"]["status"] for cell in notebook["cells"]][2:] == ["failed", "pending"]
    assert notebook["cells"][2]["outputs"][0]["text"] == ["put back\n"]
    assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def test_a_killed_run_does_not_look_done(write_notebook: WriteNotebook, tmp_path: Path, audit_dir: Path) -> None:
    path = write_notebook(f"open({str(tmp_path / 'reached')!r}, 'w')\nimport time; time.sleep(60)")
    process = subprocess.Popen([BIN / "mailtls-nb", "run", path])
    wait_for(tmp_path / "reached")
    process.kill()
    process.wait()
    (folder,) = audit_dir.glob("*/")
    record = load(folder / "record.json")
    assert (record.outcome, record.ended) == ("failed", None)


def refused(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """What a refused command says; it ends with 2 and without a traceback."""
    assert main(arguments) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("word: [a, b]", "line 1: not `name: value`"),
        ("number: 1\nword:\n  a: b", "line 2: not `name: value`"),
        ("word: a\nword: b", "stands twice"),
        ("- word", "holds no `name: value` lines"),
        ("word: 'a", "cannot be read"),
        ("a: 1\n---\nb: 2", "cannot be read"),
        ("x=1;import os;y: 2", "is no parameter name"),
        ("number: 1.0", "'1.0' is not a whole number"),
        ("\udcff", "cannot be read"),
    ],
)
def test_a_yaml_file_of_another_form_is_refused(
    write_notebook: WriteNotebook, capsys: pytest.CaptureFixture[str], tmp_path: Path, text: str, problem: str
) -> None:
    (tmp_path / "given.yaml").write_bytes(text.encode("utf-8", "surrogateescape"))
    assert problem in refused(capsys, "run", str(write_notebook("1")), "-f", str(tmp_path / "given.yaml"))


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["run", "77"], "'77' is not a runbook"),
        (["run", "{}", "-p", "word", "a", "-p", "word", "b"], "word: is given twice"),
        (["run", "{}", "-p", "number", "-x"], "number: '-x' is not a whole number"),
        (["run", "{}", "-p", "word"], "requires 2 arguments"),
        (["run", "{}", "-f", "/no/such/file"], "cannot be read"),
        (["run"], "Missing argument"),
        (["fly"], "No such command"),
    ],
)
def test_a_bad_command_is_refused(
    write_notebook: WriteNotebook, capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    path = str(write_notebook("1"))
    assert problem in refused(capsys, *(argument.replace("{}", path) for argument in arguments))


def test_a_script_gets_json_for_a_refusal_too(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["run", "01", "-f", "/no/such/file", "--json"]) == 2
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["exit_status"] == 2


def test_yaml_values_stay_as_they_were_typed_and_p_goes_before_them(
    write_notebook: WriteNotebook, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    parameters = "".join(f'{name}: str = ""  # text\n' for name in "abcdef")
    (tmp_path / "given.yaml").write_text("a: no\nb: 0012\nc: 2026-01-01\nd: ~\ne: 'x # y'\nf: lost\n")
    path = write_notebook("print((a, b, c, d, e, f))", parameters=parameters)
    assert main(["run", str(path), "-f", str(tmp_path / "given.yaml"), "-p", "f", "-won"]) == 1  # finishes no record
    (folder,) = (tmp_path / "audit").glob("*/")
    notebook = json.loads((folder / "notebook.ipynb").read_text())
    text = notebook["cells"][-1]["outputs"][0]["text"]
    assert text == [repr(("no", "0012", "2026-01-01", "~", "x # y", "-won")) + "\n"]
    assert f"10-try: failed, recorded (unsigned) in {folder}" in capsys.readouterr().out


def test_list_names_every_runbook_with_its_parameters(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    said = capsys.readouterr().out
    assert "01-create-ca  Create" in said
    assert 'approve = "testbed"' in said


@pytest.mark.parametrize("engine", [(), ("--engine", "mailtls")])
def test_papermill_runs_the_same_notebooks_from_any_directory(
    write_notebook: WriteNotebook, tmp_path: Path, engine: tuple[str, ...]
) -> None:
    path = write_notebook("from mailtls_nb import parameters\nprint(word, number)")
    elsewhere = tmp_path / "else where"
    elsewhere.mkdir()
    argv: list[str | Path] = [BIN / "papermill", path, "out.ipynb", *engine, "-p", "word", "x", "-p", "number", "2"]
    subprocess.run(argv, cwd=elsewhere, check=True, capture_output=True)
    assert json.loads((elsewhere / "out.ipynb").read_text())["cells"][-1]["outputs"][0]["text"] == ["x 2\n"]


def test_papermill_with_our_engine_runs_no_code_from_a_name(write_notebook: WriteNotebook, tmp_path: Path) -> None:
    path = write_notebook("open('ran', 'w')")
    argv: list[str | Path] = [
        BIN / "papermill",
        path,
        "out.ipynb",
        "--engine",
        "mailtls",
        "-p",
        "x=1;open('seen','w');y",
        "2",
    ]
    done = subprocess.run(argv, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert "is no parameter name" in done.stderr
    assert not {"seen", "ran"} & {entry.name for entry in tmp_path.iterdir()}
