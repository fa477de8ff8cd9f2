"""Ten kinds of tampering with an exported trail: each is found by the shell script in the README, and by ours.

The script needs nothing of ours: ssh-keygen, sha256sum and jq.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from mailtls_nb.cli import main
from tests.audit.trail import Trail, make_key

CHECKOUT = Path(__file__).resolve().parents[2]
SCRIPT = CHECKOUT / "mailtls_nb" / "audit" / "verify.sh"


class Exported:
    """A trail of six runs that was exported and unpacked elsewhere, with the head that was kept."""

    def __init__(self, folder: Path, signers: Path, head: str, other_key: Path) -> None:
        self.folder, self.signers, self.head, self.other_key = folder, signers, head, other_key

    @property
    def runs(self) -> list[Path]:
        return sorted(path for path in self.folder.iterdir() if path.is_dir())

    @property
    def lines(self) -> list[str]:
        return (self.folder / "log.jsonl").read_text().splitlines(keepends=True)

    def write(self, lines: list[str]) -> None:
        (self.folder / "log.jsonl").write_text("".join(lines))

    def chained_anew(self, lines: list[str]) -> None:
        """The lines numbered and linked as if they had always stood so."""
        previous, made = "0" * 64, []
        for n, line in enumerate(lines, 1):
            made.append(json.dumps({**json.loads(line), "n": n, "previous": previous}) + "\n")
            previous = hashlib.sha256(made[-1].encode()).hexdigest()
        self.write(made)

    def with_digests_anew(self, run: Path) -> None:
        """The chain as if the run's record and signature had always been what they are now."""
        digests = {
            "record": hashlib.sha256((run / "record.json").read_bytes()).hexdigest(),
            "signature": hashlib.sha256((run / "record.json.sig").read_bytes()).hexdigest(),
        }
        entries = [json.loads(line) for line in self.lines]
        for entry in entries:
            if entry["run"] == run.name and entry["what"] == "ended":
                entry.update(digests)
        self.chained_anew([json.dumps(entry) + "\n" for entry in entries])


@pytest.fixture
def exported(trail: Trail, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Exported:
    for outcome in ("changed", "failed", "unchanged", "changed", "planned", "changed"):
        trail.run(outcome)
    assert main(["audit", "head"]) == 0
    head = capsys.readouterr().out.strip()
    assert main(["audit", "export", "-o", str(tmp_path / "november.tar")]) == 0
    with tarfile.open(tmp_path / "november.tar") as tar:
        tar.extractall(tmp_path / "elsewhere", filter="data")
    shutil.rmtree(trail.path)
    return Exported(tmp_path / "elsewhere" / "november", trail.signers, head, make_key(tmp_path / "stranger"))


def altered_page(trail: Exported) -> None:
    (trail.runs[2] / "notebook.html").write_text("another page")


def altered_notebook_with_its_digest(trail: Exported) -> None:
    """The record tells of the altered notebook, and the chain of the altered record."""
    run = trail.runs[3]
    (run / "notebook.ipynb").write_text('{"cells": [1]}')
    statement = json.loads((run / "record.json").read_text())
    for subject in statement["subject"]:
        subject["digest"]["sha256"] = hashlib.sha256((run / subject["name"]).read_bytes()).hexdigest()
    (run / "record.json").write_text(json.dumps(statement))
    trail.with_digests_anew(run)


def altered_outcome(trail: Exported) -> None:
    record = trail.runs[1] / "record.json"
    record.write_text(record.read_text().replace('"failed"', '"changed"'))


def removed_run(trail: Exported) -> None:
    """The whole run is gone: its folder, and its lines in a chain that was made anew."""
    shutil.rmtree(trail.runs[1])
    trail.chained_anew([*trail.lines[:2], *trail.lines[4:]])


def removed_file(trail: Exported) -> None:
    (trail.runs[4] / "commands.jsonl").unlink()


def reordered_lines(trail: Exported) -> None:
    lines = trail.lines
    trail.write([*lines[:2], *lines[4:6], *lines[2:4], *lines[6:]])


def inserted_run(trail: Exported) -> None:
    """A copy of a run under another name, with lines for it in a chain that was made anew."""
    shutil.copytree(trail.runs[2], trail.folder / "20261101T120300Z-10-try-relay-9")
    copies = [line.replace(trail.runs[2].name, "20261101T120300Z-10-try-relay-9") for line in trail.lines[4:6]]
    trail.chained_anew([*trail.lines[:6], *copies, *trail.lines[6:]])


def inserted_file(trail: Exported) -> None:
    (trail.runs[0] / "approval.txt").write_text("approved by everybody")


def signed_by_a_stranger(trail: Exported) -> None:
    """The last record is altered, signed with another key, and the chain fits."""
    run = trail.runs[5]
    record = (run / "record.json").read_text().replace('"ops"', '"someone"')
    (run / "record.json").write_text(record)
    (run / "record.json.sig").unlink()
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", "mailtls-nb-audit", "-f", str(trail.other_key)]
    subprocess.run([*argv, str(run / "record.json")], check=True, capture_output=True)
    trail.with_digests_anew(run)


def cut_off(trail: Exported) -> None:
    """The last run is gone, folder and lines: only the head that was kept elsewhere can tell."""
    shutil.rmtree(trail.runs[5])
    trail.write(trail.lines[:-2])


TAMPERING: dict[Callable[[Exported], None], str] = {
    altered_page: "altered: {run[2]}/notebook.html",
    altered_notebook_with_its_digest: "altered: {run[4]}/record.json: its place in the chain",
    altered_outcome: "altered: {run[1]}/record.json",
    removed_run: "altered: {run[2]}/record.json: its place in the chain",
    removed_file: "removed: {run[4]}/commands.jsonl",
    reordered_lines: "reordered: log.jsonl, line 3 ({run[2]})",
    inserted_run: "altered: {run[3]}/record.json: its place in the chain",
    inserted_file: "inserted: {run[0]}/approval.txt",
    signed_by_a_stranger: "signature: {run[5]}/record.json.sig",
    cut_off: "cut off: log.jsonl",
}


def by_script(trail: Exported) -> subprocess.CompletedProcess[str]:
    argv = ["bash", str(SCRIPT), str(trail.folder), str(trail.signers), trail.head]
    return subprocess.run(argv, capture_output=True, text=True, check=False)


def by_ours(trail: Exported) -> int:
    return main(["audit", "verify", str(trail.folder), "--allowed-signers", str(trail.signers), "--head", trail.head])


def test_ten_kinds() -> None:
    assert len(TAMPERING) == 10


def test_the_script_is_the_one_in_the_readme_and_short() -> None:
    script = SCRIPT.read_text()
    assert script.rstrip("\n") in (CHECKOUT / "README.md").read_text().replace("\n    ", "\n")
    code = [line for line in script.splitlines() if not line.startswith("#")]
    assert len(code) <= 15


def test_an_exported_trail_is_as_it_was(exported: Exported, capsys: pytest.CaptureFixture[str]) -> None:
    done = by_script(exported)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"as it was: 6 runs, 12 lines up to {exported.head.split()[1]}\n"
    assert by_ours(exported) == 0
    said = capsys.readouterr().out
    assert "6 runs ended, 0 not" in said
    assert "signed: 6 by ops@mx; unsigned: 0; keys judged by OpenSSH on 1 of them\n" in said


@pytest.mark.parametrize("tamper", TAMPERING, ids=lambda tamper: tamper.__name__)
def test_tampering_is_found(
    exported: Exported, capsys: pytest.CaptureFixture[str], tamper: Callable[[Exported], None]
) -> None:
    names = [run.name for run in exported.runs]
    tamper(exported)
    done = by_script(exported)
    assert done.returncode == 1
    assert done.stdout.splitlines()[-1].startswith("NOT AS IT WAS: ")
    assert by_ours(exported) == 1
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == "NOT AS IT WAS"
    assert TAMPERING[tamper].format(run=names) in said


def line_without_its_line_feed(trail: Exported) -> None:
    log = trail.folder / "log.jsonl"
    log.write_bytes(log.read_bytes() + b'{"n": 13}')


def nul_in_a_line(trail: Exported) -> None:
    """The shell reads over it."""
    lines = trail.lines
    trail.write([*lines[:-1], lines[-1].replace("{", "{\0", 1)])


def hidden_folder(trail: Exported) -> None:
    shutil.copytree(trail.runs[0], trail.folder / ".20261101T120100Z-10-try")


def link_for_a_file(trail: Exported) -> None:
    page = trail.runs[1] / "notebook.html"
    (trail.folder.parent / "elsewhere.html").write_bytes(page.read_bytes())
    page.unlink()
    page.symlink_to(trail.folder.parent / "elsewhere.html")


def run_that_began_at_no_time(trail: Exported) -> None:
    """So that it is in no span of time: a run that nobody signed, as the last."""
    run = trail.folder / "20261101T120900Z-10-try"
    run.mkdir()
    (run / "record.json").write_text("{}")
    last = json.loads(trail.lines[-1])
    line = {**last, "run": run.name, "begun": "Always", "n": 13}
    trail.chained_anew([*trail.lines, json.dumps(line) + "\n"])


FURTHER: dict[Callable[[Exported], None], str] = {
    line_without_its_line_feed: "is no line of a chain",
    nul_in_a_line: "is no line of a chain",
    hidden_folder: "inserted: .20261101T120100Z-10-try",
    link_for_a_file: "altered: {run[1]}/notebook.html",
    run_that_began_at_no_time: "is no line of a chain",
}


@pytest.mark.parametrize("tamper", FURTHER, ids=lambda tamper: tamper.__name__)
def test_what_a_careless_check_would_read_over_is_found(
    exported: Exported, capsys: pytest.CaptureFixture[str], tamper: Callable[[Exported], None]
) -> None:
    names = [run.name for run in exported.runs]
    tamper(exported)
    assert by_script(exported).returncode == 1
    assert by_ours(exported) == 1
    assert FURTHER[tamper].format(run=names) in capsys.readouterr().out


def test_without_the_head_a_trail_that_was_cut_off_looks_whole(exported: Exported) -> None:
    """Why a head is to be kept elsewhere; and that the check above can fail."""
    cut_off(exported)
    exported.head = ""
    assert by_script(exported).returncode == 0
