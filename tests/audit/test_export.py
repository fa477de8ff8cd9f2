"""Part of a trail, taken elsewhere; a record as a person reads it; and what the commands refuse."""

from __future__ import annotations

import json
import subprocess
import tarfile
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailtls_nb.audit.export import moment
from mailtls_nb.cli import main
from mailtls_nb.errors import BadParameter
from tests.audit.test_tampering import SCRIPT
from tests.audit.trail import Trail


def on_day(day: int) -> datetime:
    return datetime(2026, 11, day, 12, tzinfo=UTC)


@pytest.fixture
def days(trail: Trail) -> Trail:
    """A run on each of four days."""
    for day in (1, 10, 20, 30):
        trail.run(begun=on_day(day))
    return trail


def unpacked(tar: Path, target: Path) -> Path:
    with tarfile.open(tar) as archive:
        archive.extractall(target, filter="data")
    (folder,) = target.iterdir()
    return folder


def test_a_part_is_verified_elsewhere(days: Trail, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    span = ["--since", "2026-11-10", "--until", "2026-11-20"]
    signers = ["--allowed-signers", str(days.signers)]
    assert main(["audit", "export", *span, *signers, "-o", str(tmp_path / "part.tar")]) == 0
    assert "part.tar: 2 runs" in capsys.readouterr().out
    assert (tmp_path / "part.tar").stat().st_mode & 0o777 == 0o600
    folder = unpacked(tmp_path / "part.tar", tmp_path / "elsewhere")
    assert [path.name[:8] for path in sorted(folder.glob("*/"))] == ["20261110", "20261120"]
    assert (folder / "log.jsonl").read_text() == days.log.read_text()
    assert (folder / "verify.sh").read_bytes() == SCRIPT.read_bytes()
    assert (folder / "allowed_signers").read_text() == days.signers.read_text()
    assert json.loads((folder / "record.schema.json").read_text())["title"] == "Record of one runbook run"
    assert "20261101" not in (folder / "index.html").read_text()

    def by_script(*span: str) -> int:
        argv = ["bash", str(folder / "verify.sh"), str(folder), str(days.signers), "", *span]
        return subprocess.run(argv, capture_output=True, check=False).returncode

    assert main(["audit", "verify", str(folder), *signers, *span]) == 0
    assert "2 runs ended, 0 not, from 2026-11-10T00:00:00Z, before 2026-11-21T00:00:00Z" in capsys.readouterr().out
    assert by_script("2026-11-10", "2026-11-21") == 0
    # Whoever asks for all of them is told what is not there.
    assert main(["audit", "verify", str(folder), *signers]) == 1
    assert capsys.readouterr().out.count("removed: ") == 2
    assert by_script() == 1


def test_the_readme_in_an_export_names_the_commands_that_verify_it(
    days: Trail, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "export", "--since", "2026-11-20", "-o", str(tmp_path / "late.tar")]) == 0
    folder = unpacked(tmp_path / "late.tar", tmp_path / "elsewhere")
    readme = (folder / "README.txt").read_text()
    assert "2 of them" in readme
    (command,) = [line.strip() for line in readme.splitlines() if line.startswith("    bash verify.sh")]
    command = command.replace("ALLOWED_SIGNERS", str(days.signers))
    done = subprocess.run(["bash", "-c", command], cwd=folder, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout[:10]) == (0, "as it was:")


def test_nothing_is_overwritten(days: Trail, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "there.tar").write_text("precious")
    assert main(["audit", "export", "-o", str(tmp_path / "there.tar")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert (tmp_path / "there.tar").read_text() == "precious"


@pytest.mark.parametrize(
    ("text", "end", "expected"),
    [
        ("2026-11-28", False, "2026-11-28T00:00:00Z"),
        ("2026-11-28", True, "2026-11-29T00:00:00Z"),
        ("2026-11-28T12:00:00Z", True, "2026-11-28T12:00:00Z"),
        ("2026-11-28T12:00:00+02:00", False, "2026-11-28T10:00:00Z"),
    ],
)
def test_times(text: str, end: bool, expected: str) -> None:
    assert moment("--since", text, end=end) == expected


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "2026-11-28T12:00:00", "", "28.11.2026", "2026-11"])
def test_no_times(text: str) -> None:
    """One without its zone would be another time on another machine."""
    with pytest.raises(BadParameter, match="is no time"):
        moment("--since", text)


@pytest.mark.parametrize(
    ("arguments", "problem"),
    [
        (["verify", "/nonexistent"], "is no folder"),
        (["verify", "{empty}"], "has no chain"),
        (["head", "{empty}"], "has no chain"),
        (["index", "{empty}"], "has no chain"),
        (["export", "{empty}"], "holds no run"),
        (["verify", "--allowed-signers", "/nonexistent"], "is no file"),
        (["verify", "--revoked", "/nonexistent"], "counts only with"),
        (["verify", "--head", "12"], "holds no head"),
        (["verify", "--since", "today"], "is no time"),
        (["show", "20201231"], "is no run in"),
        (["show", "2026"], "is the beginning of 4 runs"),
    ],
)
def test_what_is_refused(
    days: Trail, tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], problem: str
) -> None:
    (tmp_path / "empty").mkdir()
    assert main(["audit", *(argument.format(empty=tmp_path / "empty") for argument in arguments)]) == 2
    assert problem in capsys.readouterr().err


def test_a_record_is_shown_with_whether_its_files_are_as_they_were(
    days: Trail, capsys: pytest.CaptureFixture[str]
) -> None:
    (run,) = days.path.glob("20261110*/")
    for name in (str(run), str(run / "record.json"), run.name, "20261110"):
        assert main(["audit", "show", name]) == 0
        said = capsys.readouterr().out
        assert said.splitlines()[0] == run.name
        assert "ops (ssh:192.0.2.1)" in said
        assert "Its files are those that the chain tells of." in said
    (run / "notebook.html").write_text("another")
    assert main(["audit", "show", "20261110"]) == 0
    assert f"NOT AS IT WAS: altered: {run.name}/notebook.html" in capsys.readouterr().out


def test_verify_for_programs(days: Trail, capsys: pytest.CaptureFixture[str]) -> None:
    (run,) = days.path.glob("20261130*/")
    (run / "commands.jsonl").unlink()
    assert main(["audit", "verify", "--json"]) == 1
    said = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (said["as_it_was"], said["signers_known"], said["ended"]) == (False, False, 4)
    assert said["problems"] == [
        {"kind": "removed", "where": f"{run.name}/commands.jsonl", "what": "the file is not there"}
    ]


def test_who_signed_is_said_not_to_be_known_without_allowed_signers(
    days: Trail, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["audit", "verify"]) == 0
    said = capsys.readouterr().out
    assert "WHO SIGNED IS NOT CHECKED" in said
    assert "signed: 4 by SHA256:" in said


def test_an_unsigned_trail_is_sound_and_says_so(
    trail: Trail, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MAILTLS_SIGNING_KEY", "none")
    run = trail.run()
    predicate = json.loads((run / "record.json").read_text())["predicate"]
    assert (predicate["sealed"], predicate["signed_by"]) == (False, "")
    assert predicate["unsigned_because"] == "MAILTLS_SIGNING_KEY is none"
    assert main(["audit", "verify"]) == 0
    assert "signed: none; unsigned: 1" in capsys.readouterr().out
    assert main(["audit", "verify", "--signed"]) == 1
    assert f"signature: {run.name}: the record is not signed" in capsys.readouterr().out
