"""The engine says what happened, for each way in which a notebook can end."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import papermill
import pytest
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from papermill.exceptions import PapermillExecutionError

from mailtls_nb.errors import BadParameter

WriteNotebook = Callable[..., Path]


def execute(path: Path, parameters: dict[str, Any] | None = None, **options: Any) -> None:
    papermill.execute_notebook(
        path, path.with_name("out.ipynb"), parameters, engine_name="mailtls", progress_bar=False, **options
    )


def out(path: Path) -> dict[str, Any]:
    notebook: dict[str, Any] = json.loads(path.with_name("out.ipynb").read_text())
    return notebook


def every_status(path: Path) -> set[str]:
    return {cell["metadata"]["papermill"]["status"] for cell in out(path)["cells"]}


def statuses(path: Path) -> list[str]:
    """The status of each code cell behind the parameters cell; the whole notebook's exception mark is checked too."""
    notebook = out(path)
    cells = [cell for cell in notebook["cells"] if cell["cell_type"] == "code"]
    states = [cell["metadata"]["papermill"]["status"] for cell in cells][1:]
    assert notebook["metadata"]["papermill"]["exception"] is ("failed" in states or None)
    return states


def printed(path: Path) -> str:
    outputs = [output for cell in out(path)["cells"] for output in cell.get("outputs", [])]
    return "".join("".join(output.get("text", "")) for output in outputs)


def test_a_good_run_is_completed(write_notebook: WriteNotebook) -> None:
    path = write_notebook("1", "2")
    execute(path)
    assert statuses(path) == ["completed", "completed"]


def test_an_error_in_a_cell_stops_the_run_and_later_cells_stay_pending(write_notebook: WriteNotebook) -> None:
    path = write_notebook("1", "1 / 0", "3")
    with pytest.raises(PapermillExecutionError, match="ZeroDivisionError"):
        execute(path)
    assert statuses(path) == ["completed", "failed", "pending"]


def test_a_cell_that_runs_out_of_time_is_interrupted_and_can_put_things_back(write_notebook: WriteNotebook) -> None:
    slow = "import time\ntry:\n    time.sleep(60)\nfinally:\n    time.sleep(1.5); print('put back')"
    path = write_notebook("1", slow, "3")
    with pytest.raises(CellTimeoutError):
        execute(path, execution_timeout=1)
    assert statuses(path) == ["completed", "failed", "pending"]
    assert printed(path) == "put back\n"


@pytest.mark.parametrize("death", ["os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_the_death_of_the_kernel_is_a_failure(write_notebook: WriteNotebook, death: str) -> None:
    path = write_notebook("1", f"import os; {death}", "3")
    with pytest.raises(DeadKernelError):
        execute(path)
    assert statuses(path) == ["completed", "failed", "pending"]


def test_leaving_with_status_0_in_a_cell_is_a_failure(write_notebook: WriteNotebook) -> None:
    path = write_notebook("raise SystemExit(0)", "2")
    with pytest.raises(CellExecutionError):
        execute(path)
    assert statuses(path) == ["failed", "pending"]


@pytest.mark.parametrize(
    "parameters",
    [
        {"nmber": 2},
        {"number": "2"},
        {"word": float("inf")},
        {"x=1;open('seen','w');y": 2},
        {"word=open('seen','w');number": 2},
    ],
)
def test_undeclared_parameters_are_refused_before_a_kernel_starts(
    write_notebook: WriteNotebook, parameters: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_notebook("1")
    monkeypatch.chdir(path.parent)
    # A kernel that was started would fail with another error.
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    with pytest.raises(BadParameter):
        execute(path, parameters)
    assert not Path("seen").exists()
    assert every_status(path) == {"pending"}
    assert out(path)["metadata"]["papermill"]["exception"] is True


def test_code_in_the_injected_cell_of_a_prepared_notebook_is_refused(write_notebook: WriteNotebook) -> None:
    path = write_notebook("1")
    papermill.execute_notebook(path, path, {"number": 2}, prepare_only=True)
    notebook = json.loads(path.read_text())
    injected = next(cell for cell in notebook["cells"] if "injected-parameters" in cell["metadata"].get("tags", []))
    injected["source"] = "word = open('seen', 'w').name"
    path.write_text(json.dumps(notebook))
    with pytest.raises(BadParameter, match="more than a value"):
        execute(path)


def test_declared_parameters_arrive(write_notebook: WriteNotebook) -> None:
    path = write_notebook("print(repr(word), repr(number))")
    execute(path, {"word": "a \"b\" \\n 'c' é", "number": -2})
    assert printed(path) == repr("a \"b\" \\n 'c' é") + " -2\n"


GREETING = """\
import json, pathlib, socket, sys
from ipykernel.connect import get_connection_file
port = json.loads(pathlib.Path(get_connection_file()).read_text())["shell_port"]
with socket.create_connection(("127.0.0.1", port)) as connection:
    connection.sendall(b"\\xff" + bytes(8) + b"\\x7f\\x03")
    greeting = b"".join(connection.recv(1) for _ in range(32))
print(greeting[12:].rstrip(b"\\0").decode(), sys.executable)
"""


def test_messages_to_the_kernel_are_encrypted_and_it_is_this_interpreters(
    write_notebook: WriteNotebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's own port names its security mechanism in the ZMTP greeting (RFC 23 of ZeroMQ)."""
    kernel = tmp_path / "jupyter" / "kernels" / "python3" / "kernel.json"
    kernel.parent.mkdir(parents=True)
    kernel.write_text('{"argv": ["/bin/false"], "display_name": "Python 3", "language": "python"}')
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path / "jupyter"))
    path = write_notebook(GREETING)
    execute(path)
    assert printed(path) == f"CURVE {sys.executable}\n"


def test_papermills_own_engine_talks_in_clear(write_notebook: WriteNotebook) -> None:
    """The instrument of the test above can say something else than CURVE."""
    path = write_notebook(GREETING)
    papermill.execute_notebook(path, path.with_name("out.ipynb"), progress_bar=False)
    assert printed(path).startswith("NULL ")


def test_a_kernel_that_does_not_come_up_is_started_once_more(write_notebook: WriteNotebook, tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    (tmp_path / "sitecustomize.py").write_text(
        "import os, pathlib, sys\n"
        "if 'ipykernel_launcher' in sys.orig_argv:\n"
        f"    starts = pathlib.Path({str(starts)!r})\n"
        "    count = len(starts.read_text()) if starts.exists() else 0\n"
        "    starts.write_text('x' * (count + 1))\n"
        "    count < int(os.environ['FAILING_STARTS']) and os._exit(1)\n"
    )
    path = write_notebook("print('up')")
    execute(path, kernel_env={"PYTHONPATH": str(tmp_path), "FAILING_STARTS": "1"})
    assert starts.read_text() == "xx"
    starts.unlink()
    with pytest.raises(RuntimeError):
        execute(path, kernel_env={"PYTHONPATH": str(tmp_path), "FAILING_STARTS": "9"})
    assert starts.read_text() == "xx"
    assert every_status(path) == {"pending"}


def test_a_kernel_inherits_descriptors_also_when_it_is_started_once_more(
    write_notebook: WriteNotebook, tmp_path: Path
) -> None:
    (tmp_path / "sitecustomize.py").write_text(
        "import os, pathlib, sys\n"
        "if 'ipykernel_launcher' in sys.orig_argv:\n"
        "    os.write(int(os.environ['FD']), b'started ')\n"
        "    first = pathlib.Path(os.environ['FIRST'])\n"
        "    if not first.exists():\n"
        "        first.touch(); os._exit(1)\n"
    )
    read_end, write_end = os.pipe()
    environment = {"PYTHONPATH": str(tmp_path), "FD": str(write_end), "FIRST": str(tmp_path / "first")}
    path = write_notebook("import os; os.write(int(os.environ['FD']), b'told')")
    with os.fdopen(read_end, "rb") as told:
        try:
            execute(path, kernel_env=environment, kernel_pass_fds=(write_end,))
        finally:
            os.close(write_end)
        assert told.read() == b"started started told"


def test_a_kernel_inherits_no_descriptor_unasked(write_notebook: WriteNotebook) -> None:
    """The pipe is among the kernel's files when it is handed on only."""
    read_end, write_end = os.pipe()
    files = "[os.path.realpath(f'/proc/self/fd/{number}') for number in range(256)]"
    path = write_notebook(f"import os; print(any('pipe:[{os.fstat(write_end).st_ino}]' in file for file in {files}))")
    try:
        execute(path, kernel_pass_fds=(write_end,))
        assert printed(path) == "True\n"
        execute(path)
        assert printed(path) == "False\n"
    finally:
        os.close(read_end)
        os.close(write_end)


def test_the_kernel_gets_its_own_folder_and_environment(write_notebook: WriteNotebook, tmp_path: Path) -> None:
    path = write_notebook("import os; print(os.getcwd(), os.environ['MAILTLS_HEADLESS'])")
    before = Path.cwd()
    execute(path, kernel_cwd=tmp_path, kernel_env={"MAILTLS_HEADLESS": "1"})
    assert printed(path) == f"{tmp_path} 1\n"
    assert Path.cwd() == before
    assert "MAILTLS_HEADLESS" not in os.environ
