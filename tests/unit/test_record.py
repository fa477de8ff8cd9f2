"""The record: never looks done when it is not, is of its schema, and is replaced in one step."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import jsonschema
import pytest

from mailtls_nb.audit.folder import CommandLog, create_run_folder, default_audit_dir, folder_name
from mailtls_nb.errors import BadParameter, FileAccessFailed, NotReady, Unreachable
from mailtls_nb.finding import Finding, Severity
from mailtls_nb.record import Operator, Record, RunbookSource, RunError, begin, finish, load, subjects
from mailtls_nb.verdict import Claim

NOW = datetime(2026, 11, 22, 20, 30, 25, tzinfo=UTC)
LATER = datetime(2026, 11, 22, 20, 31, 0, tzinfo=UTC)


def begun(**parameters: str | int) -> Record:
    return begin(
        runbook=RunbookSource("02-issue-certificate", "0" * 64),
        parameters={"approve": "testbed", **parameters},
        operator=Operator("ops", "ssh:192.0.2.1"),
        started=NOW,
    )


def test_a_run_that_only_began_says_failed_and_interrupted(tmp_path: Path) -> None:
    predicate = json.loads(begun().write(tmp_path).read_text())["predicate"]
    assert predicate["outcome"] == "failed"
    assert predicate["ended"] is None
    assert predicate["error"]["kind"] == "interrupted"


def test_a_finished_record_comes_back_as_it_was_written(tmp_path: Path) -> None:
    (tmp_path / "partner-pack").mkdir()
    (tmp_path / "partner-pack" / "ca.pem").write_text("x")
    (tmp_path / "notebook.ipynb").write_text("not final")
    claim = Claim("STARTTLS is offered", "yes", "yes", "live", "a new connection")
    record = finish(
        begun(),
        ended=LATER,
        outcome="changed",
        subject=subjects(tmp_path, leave_out=("notebook.ipynb",)),
        claims=(claim.as_data(),),
        hosts={"testbed:relay": {"sendmail": "8.17.1.9"}},
        artifacts={"partner-pack/ca.pem": "the CA certificate"},
    )
    path = record.write(tmp_path)
    assert load(path).as_statement() == record.as_statement() == json.loads(path.read_text())
    assert [subject.name for subject in record.subject] == ["partner-pack/ca.pem"]
    assert path.stat().st_mode & 0o777 == 0o600
    assert sorted(entry.name for entry in tmp_path.iterdir()) == ["notebook.ipynb", "partner-pack", "record.json"]


@pytest.mark.parametrize(
    "change",
    [
        {"outcome": "changed"},
        {"outcome": "done"},
        {"error": None},
        {"started": "yesterday"},
        {"runbook": RunbookSource("x", "no digest")},
        {"plan": {"steps": []}},
        {"parameters": {"approve": None}},
    ],
)
def test_what_is_not_of_the_schema_is_not_written(tmp_path: Path, change: dict[str, object]) -> None:
    with pytest.raises(jsonschema.ValidationError):
        replace(begun(), **change).write(tmp_path)  # type: ignore[arg-type]
    assert not list(tmp_path.iterdir())


def test_an_error_goes_with_failed_and_with_nothing_else() -> None:
    with pytest.raises(ValueError, match="exactly when it failed"):
        finish(begun(), ended=LATER, outcome="failed")
    with pytest.raises(ValueError, match="exactly when it failed"):
        finish(begun(), ended=LATER, outcome="changed", error=RunError("X", "x"))


def test_a_record_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    before = begun().write(tmp_path).read_bytes()
    with pytest.raises(jsonschema.ValidationError):
        replace(begun(), outcome="changed").write(tmp_path)
    assert (tmp_path / "record.json").read_bytes() == before
    with pytest.raises(FileAccessFailed, match="absent"):
        begun().write(tmp_path / "absent")


def test_an_error_is_written_down_with_state_next_step_and_exit_status() -> None:
    error = RunError.of(Unreachable("relay does not answer", left="nothing was touched", do="start it"))
    assert error == RunError("Unreachable", "relay does not answer", "nothing was touched", "start it", 2)
    assert RunError.of(KeyboardInterrupt()) == RunError("KeyboardInterrupt", "KeyboardInterrupt")


@pytest.mark.parametrize(
    ("outcome", "approve", "status"),
    [("changed", "auto", 0), ("unchanged", "auto", 0), ("planned", "", 0), ("planned", "testbed", 3)],
)
def test_exit_status_follows_the_outcome(outcome: str, approve: str, status: int) -> None:
    record = finish(begun(approve=approve), ended=LATER, outcome=outcome)  # type: ignore[arg-type]
    assert record.exit_status == status


@pytest.mark.parametrize(("severity", "status"), [("error", 4), ("warning", 0), ("note", 0)])
def test_a_check_that_found_an_error_exits_with_4(tmp_path: Path, severity: Severity, status: int) -> None:
    findings = [Finding(severity, "The key is open.", "It may be copied.", "/key", "chmod 600 /key.").as_data()]
    record = finish(begun(), ended=LATER, outcome="unchanged", findings=findings)
    assert load(record.write(tmp_path)).exit_status == status
    assert finish(begun(), ended=LATER, outcome="unchanged", findings=[]).exit_status == 0


def test_a_failed_run_exits_as_its_error_says() -> None:
    assert finish(begun(), ended=LATER, outcome="failed", error=RunError("X", "x", exit_status=2)).exit_status == 2
    assert begun().exit_status == 1


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"_type": "x"}'])
def test_another_file_is_no_record(tmp_path: Path, text: str) -> None:
    (tmp_path / "record.json").write_text(text)
    with pytest.raises(NotReady):
        load(tmp_path / "record.json")


def test_bytes_of_a_host_that_are_no_text_can_be_recorded(tmp_path: Path) -> None:
    claim = Claim("greeting", "x", b"\xff".decode("utf-8", "surrogateescape"), "live", "a new connection")
    finish(begun(), ended=LATER, outcome="changed", claims=(claim.as_data(),)).write(tmp_path)
    assert load(tmp_path / "record.json").claims[0]["observed"] == "\udcff"


@pytest.mark.parametrize(
    ("target", "name"),
    [
        ("relay.example.test", "20261122T203025Z-02-x-relay.example.test"),
        ("ssh://ops@mail:22/../../etc", "20261122T203025Z-02-x-ssh-ops-mail-22-..-..-etc"),
        ("../..", "20261122T203025Z-02-x"),
        ("", "20261122T203025Z-02-x"),
    ],
)
def test_a_folder_name_holds_safe_characters_only(target: str, name: str) -> None:
    assert folder_name(NOW, "02-x", target) == name


def test_two_runs_within_a_second_get_a_folder_each(tmp_path: Path) -> None:
    audit = tmp_path / "audit"
    folders = [create_run_folder(audit, NOW, "02-x", "relay") for _ in range(3)]
    assert [folder.name[-8:] for folder in folders] == ["-x-relay", "-relay-2", "-relay-3"]
    assert all(folder.stat().st_mode & 0o777 == 0o700 for folder in folders)


def test_an_audit_folder_that_cannot_be_made_is_a_clear_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(NotReady, match="cannot be made: Not a directory"):
        create_run_folder(tmp_path / "file" / "audit", NOW, "02-x", "")


def test_where_the_audit_folder_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MAILTLS_AUDIT_DIR", str(tmp_path))
    assert default_audit_dir() == tmp_path
    monkeypatch.setenv("MAILTLS_AUDIT_DIR", "relative")
    with pytest.raises(BadParameter):
        default_audit_dir()


def test_commands_are_appended_and_readable_by_the_owner_only(tmp_path: Path) -> None:
    log = CommandLog(tmp_path / "commands.jsonl")
    log({"argv": ["true"], "status": 0})
    log({"argv": ["printf", "a\nb"], "status": 0})
    lines = (tmp_path / "commands.jsonl").read_text().splitlines()
    assert [json.loads(line)["argv"][0] for line in lines] == ["true", "printf"]
    assert (tmp_path / "commands.jsonl").stat().st_mode & 0o777 == 0o600


def test_a_log_that_cannot_be_written_stops_the_run_once_and_lets_it_put_things_back(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    folder.mkdir()
    log = CommandLog(folder / "commands.jsonl")
    (folder / "commands.jsonl").unlink()
    folder.rmdir()
    with pytest.raises(FileAccessFailed):
        log({"argv": ["install"]})
    log({"argv": ["put-back"]})
