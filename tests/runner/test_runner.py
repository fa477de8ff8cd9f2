"""A run of the runner: however it ends, exit status, record, notebook and page say the same."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from mailtls_nb.record import load
from mailtls_nb.runner import run_runbook

WriteNotebook = Callable[..., Path]

# What mailtls_nb.run does for a runbook.
BEGIN = """\
import os, sys, time
from datetime import datetime, UTC
from pathlib import Path
from mailtls_nb import record
from mailtls_nb.errors import ChangeFailed, Unreachable
folder = Path(os.environ["MAILTLS_RUN_FOLDER"])
run = record.load(folder / "record.json")
"""


def finish(outcome: str) -> str:
    return f"record.finish(run, ended=datetime.now(UTC), outcome={outcome!r}).write_draft(folder)"


class Result:
    """One run's exit status, its JSON line and what lies in its folder."""

    def __init__(self, status: int, line: str) -> None:
        self.status = status
        self.said: dict[str, Any] = json.loads(line)
        self.folder = Path(self.said["folder"] or "/none")

    @property
    def notebook(self) -> dict[str, Any]:
        return dict(json.loads((self.folder / "notebook.ipynb").read_text()))

    @property
    def printed(self) -> str:
        outputs = [output for cell in self.notebook["cells"] for output in cell.get("outputs", [])]
        return "".join("".join(output.get("text", "")) for output in outputs)


Run = Callable[..., Result]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> Run:
    def run(path: Path, given: Mapping[str, str] | None = None, **options: Any) -> Result:
        status = run_runbook(str(path), given or {}, started_from=tmp_path, json_output=True, **options)
        result = Result(status, capsys.readouterr().out.splitlines()[-1])
        assert result.said["exit_status"] == status
        if result.said["folder"]:
            record = load(Path(result.said["record"]))
            assert (record.outcome, record.exit_status) == (result.said["outcome"], status)
            assert record.ended
            for subject in record.subject:
                assert hashlib.sha256((result.folder / subject.name).read_bytes()).hexdigest() == subject.sha256
        return result

    return run


def test_a_run_leaves_notebook_page_and_record_for_the_owner_only(
    write_notebook: WriteNotebook, run: Run, audit_dir: Path
) -> None:
    give_out = '(folder / "partner-pack").mkdir(); (folder / "partner-pack" / "ca.pem").write_text("x")'
    result = run(write_notebook(BEGIN, give_out, finish("changed")))
    assert (result.status, result.said["outcome"], result.said["error"]) == (0, "changed", None)
    assert result.folder.parent == audit_dir
    assert re.fullmatch(r"\d{8}T\d{6}Z-10-try", result.folder.name)
    names = [subject.name for subject in load(result.folder / "record.json").subject]
    assert names == ["notebook.html", "notebook.ipynb", "partner-pack/ca.pem"]
    assert result.folder.stat().st_mode & 0o777 == 0o700
    for name in ("notebook.html", "notebook.ipynb", "record.json"):
        assert (result.folder / name).stat().st_mode & 0o777 == 0o600


def test_a_cell_that_fails_fails_the_run(write_notebook: WriteNotebook, run: Run) -> None:
    result = run(write_notebook(BEGIN, "1 / 0", finish("changed")))
    assert (result.status, result.said["outcome"]) == (1, "failed")
    assert result.said["error"]["kind"] == "ZeroDivisionError"
    assert "division by zero" in (result.folder / "notebook.html").read_text()


def test_an_error_of_ours_keeps_its_state_next_step_and_exit_status(write_notebook: WriteNotebook, run: Run) -> None:
    cell = "raise Unreachable('relay does not answer\\nat all', left='nothing was touched', do='start it')"
    result = run(write_notebook(BEGIN, cell))
    assert result.status == 2
    assert result.said["error"] == {
        "kind": "Unreachable",
        "message": "relay does not answer\nat all",
        "state": "nothing was touched",
        "next": "start it",
        "exit_status": 2,
    }


def test_what_the_run_itself_recorded_of_its_failure_is_kept(write_notebook: WriteNotebook, run: Run) -> None:
    failed = (
        "error = ChangeFailed('sendmail did not come back', left='everything was put back')\n"
        "told = record.RunError.of(error)\n"
        "record.finish(run, ended=datetime.now(UTC), outcome='failed', error=told).write_draft(folder)\n"
    )
    result = run(write_notebook(BEGIN, failed + "raise RuntimeError('of the front end')"))
    assert result.status == 1
    assert result.said["error"]["kind"] == "ChangeFailed"
    assert result.said["error"]["state"] == "everything was put back"


def test_a_failure_after_the_change_does_not_hide_the_change(write_notebook: WriteNotebook, run: Run) -> None:
    result = run(write_notebook(BEGIN, finish("changed"), "raise Unreachable('x')"))
    assert (result.status, result.said["outcome"]) == (1, "failed")
    assert "what the run did stands (changed)" in result.said["error"]["state"]


def test_a_notebook_that_never_finishes_its_record_has_failed(write_notebook: WriteNotebook, run: Run) -> None:
    result = run(write_notebook(BEGIN))
    assert (result.status, result.said["error"]["kind"]) == (1, "unfinished")


def test_running_out_of_time(write_notebook: WriteNotebook, run: Run) -> None:
    begun = 'import os, pathlib, time; pathlib.Path(os.environ["MAILTLS_RUN_FOLDER"], "commands.jsonl").touch()\n'
    result = run(write_notebook(begun + "time.sleep(60)", "print('never')"), cell_timeout_s=2)
    assert (result.status, result.said["error"]["kind"]) == (1, "time-out")
    assert "commands.jsonl" in result.said["error"]["state"]


def test_running_out_of_time_before_the_first_command(write_notebook: WriteNotebook, run: Run) -> None:
    result = run(write_notebook("import time; time.sleep(60)"), cell_timeout_s=1)
    assert result.said["error"]["state"].startswith("nothing was touched")


def test_the_kernels_death(write_notebook: WriteNotebook, run: Run) -> None:
    result = run(write_notebook(BEGIN, "os._exit(0)", finish("changed")))
    assert (result.status, result.said["error"]["kind"]) == (1, "kernel-died")


@pytest.mark.parametrize(("approve", "status"), [("", 0), ("testbed", 3)])
def test_a_plan_that_waits(write_notebook: WriteNotebook, run: Run, approve: str, status: int) -> None:
    parameters = 'approve: str = "testbed"  # approval\n'
    result = run(write_notebook(BEGIN, finish("planned"), parameters=parameters), {"approve": approve})
    assert (result.status, result.said["outcome"]) == (status, "planned")


def test_values_arrive_as_they_were_typed(write_notebook: WriteNotebook, run: Run) -> None:
    parameters = "".join(f'{name}: str = ""  # text\n' for name in "abcd") + "n: int = 1  # number\n"
    given = {"a": "12e45678", "b": "0012", "c": "no", "d": "é \"\\n' {x}", "n": "-7"}
    result = run(write_notebook("print((a, b, c, d, n))", BEGIN + finish("unchanged"), parameters=parameters), given)
    assert result.printed == repr((*list(given.values())[:4], -7)) + "\n"
    assert result.status == 0


def test_relative_paths_are_taken_from_where_it_was_started(
    write_notebook: WriteNotebook, run: Run, tmp_path: Path
) -> None:
    parameters = 'audit_dir: str = ""  # folder\ncsr: str = ""  # file\n'
    path = write_notebook("print(csr)", BEGIN + finish("unchanged"), parameters=parameters)
    result = run(path, {"audit_dir": "my {audit}", "csr": "in/mail.csr"})
    assert result.printed == f"{tmp_path}/in/mail.csr\n"
    assert result.folder.parent == tmp_path / "my {audit}"


@pytest.mark.parametrize(
    "given", [{"nmber": "2"}, {"number": "two"}, {"x=1;import os;y": "2"}, {"word": "a\nb"}, {"number": ""}]
)
def test_bad_parameters_are_refused_before_anything_is_made(
    write_notebook: WriteNotebook, run: Run, given: dict[str, str], audit_dir: Path
) -> None:
    result = run(write_notebook("open('/nowhere/x')"), given)
    assert (result.status, result.said["error"]["kind"], result.said["folder"]) == (2, "BadParameter", None)
    assert not audit_dir.exists()


def test_a_runbooks_own_checks_come_before_anything_is_made(run: Run, audit_dir: Path) -> None:
    result = run(Path("01"), {"valid_days": "0"})
    assert (result.status, result.said["error"]["kind"]) == (2, "BadParameter")
    assert not audit_dir.exists()


def test_an_audit_folder_that_cannot_be_made(
    write_notebook: WriteNotebook, run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAILTLS_AUDIT_DIR", "/proc/nothing")
    result = run(write_notebook("1"))
    assert (result.status, result.said["error"]["kind"]) == (2, "NotReady")


HOSTILE = """\
print("<script>steal()</script> \\x1b[31mred\\x1b[0m")
from IPython.display import HTML, Javascript, display
display(HTML('<p onclick="x()">kept</p><script src="https://example.net/x.js"></script>'
             '<img src="https://example.net/i.png"><iframe src="https://example.net/"></iframe>'
             '<link rel="stylesheet" href="https://example.net/s.css"><style>@import "https://example.net/s"</style>'
             '<a href="javascript:x()">a</a><p style="background:url(https://example.net/b)">b</p>'))
display(Javascript("steal()"))
"""


def test_the_page_loads_nothing_and_runs_nothing(write_notebook: WriteNotebook, run: Run) -> None:
    result = run(write_notebook(HOSTILE, BEGIN + finish("changed")), {"word": "</title><script>w()</script>"})
    page = (result.folder / "notebook.html").read_text()
    assert "&lt;script&gt;steal()&lt;/script&gt;" in page
    assert '<span class="ansi-red-fg">red</span>' in page
    assert "<p>kept</p>" in page
    for tag in re.findall(r"<[a-z][^>]*>", page, re.IGNORECASE):
        name = re.split(r"[\s>/]", tag[1:], maxsplit=1)[0].lower()
        assert name not in {"script", "iframe", "link", "object", "embed", "base", "form", "svg"}, tag
        assert not re.search(r"\s(src|on\w+|srcset|background)\s*=", tag, re.IGNORECASE), tag
        assert not re.search(r"javascript:|url\(", tag, re.IGNORECASE), tag
    style = page[page.index("<style>") : page.index("</style>")]
    assert page.count("<style>") == 1
    assert "http" not in style
    assert "url(" not in style
    assert "@import" not in style
    assert "default-src 'none'" in page
