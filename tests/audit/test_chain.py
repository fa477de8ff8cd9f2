"""The chain holds whatever happens to those who write it: together, killed at any step, or out of room."""

from __future__ import annotations

import fcntl
import hashlib
import json
import multiprocessing
import os
import re
import signal
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailtls_nb import durable
from mailtls_nb.audit.chain import Entry, read_lines, summaries
from mailtls_nb.audit.folder import create_run_folder
from mailtls_nb.audit.links import Problem
from mailtls_nb.audit.signatures import Signers
from mailtls_nb.audit.sshsig import key_that_signed
from mailtls_nb.audit.verify import Head, Wanted, verify
from mailtls_nb.errors import FileAccessFailed, NotReady
from mailtls_nb.locking import locked
from mailtls_nb.record import load
from tests.audit.trail import HOST, Trail, make_key

_FORK = multiprocessing.get_context("forkserver")


def problems_of(trail: Trail, **wanted: object) -> list[Problem]:
    found = verify(
        trail.path,
        Wanted(signers=Signers(trail.signers), every=True, **wanted),  # type: ignore[arg-type]
        progress=lambda items, _total, _doing: items,
    )
    return list(found.problems)


def sound_by_hand(trail: Trail) -> list[dict[str, object]]:
    """The entries, after their links and records were compared by nothing of ours."""
    previous, entries = "0" * 64, []
    for n, line in enumerate(trail.log.read_bytes().splitlines(keepends=True), 1):
        entry = json.loads(line)
        assert (entry["n"], entry["previous"]) == (n, previous)
        previous = hashlib.sha256(line).hexdigest()
        entries.append(entry)
    last = {entry["run"]: entry for entry in entries}
    for run, entry in last.items():
        assert hashlib.sha256((trail.path / str(run) / "record.json").read_bytes()).hexdigest() == entry["record"]
    return entries


def test_a_run_has_a_line_for_its_beginning_and_one_for_its_end(trail: Trail) -> None:
    first, _ = trail.begin()
    second = trail.run("failed")
    begun, begun_too, ended = sound_by_hand(trail)
    assert (begun["run"], begun["what"], begun["operator"]) == (first.name, "begun", "ops (ssh:192.0.2.1)")
    assert begun["hosts"] == [HOST]
    assert "outcome" not in begun
    assert (begun_too["run"], ended["run"], ended["what"], ended["outcome"]) == (
        second.name,
        second.name,
        "ended",
        "failed",
    )
    assert re.fullmatch(r"SHA256:[A-Za-z0-9+/]{43}", str(ended["signed_by"]))
    assert [(run.folder, run.outcome) for run in summaries(read_lines(trail.path))] == [
        (first.name, "not ended"),
        (second.name, "failed"),
    ]


def test_a_record_holds_the_record_and_the_line_before_it(trail: Trail) -> None:
    records = [load(trail.run() / "record.json") for _ in range(2)]
    for record, line in zip(records, (1, 3), strict=True):
        assert record.previous is not None
        assert record.previous.n == line
        assert record.previous.entry == hashlib.sha256(trail.lines[line - 1].encode()).hexdigest()
    assert records[0].previous is not None
    assert records[0].previous.record is None
    assert records[1].previous is not None
    assert records[1].previous.record == trail.entries[1]["record"]


def _several_runs(path: Path, signers: Path, worker: int) -> None:
    trail = Trail(path, signers, number=worker * 7)
    for _ in range(3):
        trail.run()


def test_eight_processes_at_once_give_a_sound_chain(trail: Trail) -> None:
    with _FORK.Pool(8) as pool:
        pool.starmap(_several_runs, [(trail.path, trail.signers, worker) for worker in range(8)], chunksize=1)
        pool.close()
        pool.join()
    entries = sound_by_hand(trail)
    assert len(entries) == 8 * 3 * 2
    # They did come between each other.
    assert [entry["what"] for entry in entries] != ["begun", "ended"] * 24
    assert problems_of(trail) == []


class Killed(BaseException):
    """Stands for the process's end: nothing of ours catches it."""


def _at_each_step(monkeypatch: pytest.MonkeyPatch, act: Callable[[], object]) -> int:
    """How many steps on the disk there are in something."""
    count = 0
    for name in ("write", "append", "remove", "truncate"):
        step = getattr(durable, name)

        def counted(*given: object, step: Callable[..., object] = step, **named: object) -> object:
            nonlocal count
            count += 1
            return step(*given, **named)

        monkeypatch.setattr(durable, name, counted)
    act()
    monkeypatch.undo()
    return count


def _run_and_die(path: Path, signers: Path, environment: dict[str, str], at: int, half: bool) -> None:
    """A run whose process is killed at its step number ``at``; with ``half`` in the midst of what it writes."""
    os.environ.update(environment)
    left = at
    for name in ("write", "append", "remove", "truncate"):
        step = getattr(durable, name)

        def dying(
            given: Path, *more: object, step: Callable[..., object] = step, what: str = name, **named: object
        ) -> None:
            nonlocal left
            left -= 1
            if left < 0:
                if half and what == "append":
                    data = more[0]
                    assert isinstance(data, bytes)
                    step(given, data[: len(data) // 2])
                os.kill(os.getpid(), signal.SIGKILL)
            step(given, *more, **named)

        setattr(durable, name, dying)
    Trail(path, signers, number=50).run()
    os._exit(0)


@pytest.mark.parametrize("half", [False, True], ids=["before", "halfway"])
def test_a_run_killed_at_any_step_leaves_a_chain_that_the_next_one_completes(trail: Trail, half: bool) -> None:
    """Killed before or in the midst of each step on the disk: the chain is sound after the next run, and truthful."""
    environment = {name: os.environ[name] for name in ("HOME", "MAILTLS_SIGNING_KEY", "MAILTLS_AUDIT_DIR")}
    ends = []
    for at in range(40):
        before = len(trail.lines) if trail.log.exists() else 0
        child = _FORK.Process(target=_run_and_die, args=(trail.path, trail.signers, environment, at, half))
        child.start()
        child.join()
        trail.run()
        assert problems_of(trail) == [], at
        entries = sound_by_hand(trail)
        mine = [entry["what"] for entry in entries[before:-2]]
        folders = {path.name for path in trail.path.iterdir() if path.is_dir() and any(path.iterdir())}
        assert folders == {str(entry["run"]) for entry in entries}, at
        for entry in entries[before:-2]:
            record = load(trail.path / str(entry["run"]) / "record.json")
            assert record.outcome == ("changed" if "ended" in mine else "failed"), at
            assert (record.ended is not None) == ("ended" in mine)
        ends.append(tuple(mine))
        assert not (trail.path / ".entering").exists()
        if child.exitcode == 0:
            break
    assert child.exitcode == 0, "there are more steps than were tried"
    # Each way of ending was met: before it began, begun only, and to its end.
    assert set(ends) == {(), ("begun",), ("begun", "ended")}


def test_a_chain_that_cannot_be_written_stops_the_run_before_it_begins(
    trail: Trail, monkeypatch: pytest.MonkeyPatch
) -> None:
    trail.run()
    lines = trail.lines

    def full(*_given: object, **_named: object) -> None:
        raise OSError(28, "No space left on device", "log.jsonl")

    monkeypatch.setattr(durable, "append", full)
    with pytest.raises(FileAccessFailed, match=r"log\.jsonl cannot be written: No space left"):
        trail.begin()
    monkeypatch.undo()
    assert trail.lines == lines
    trail.run()
    assert problems_of(trail) == []


def test_what_somebody_wrote_behind_the_last_line_is_named_and_does_not_stop_the_next_run(trail: Trail) -> None:
    trail.run()
    with trail.log.open("a") as log:
        log.write("half a li")
    trail.run()
    (problem,) = problems_of(trail)
    assert str(problem) == "altered: log.jsonl, line 3: is no line of a chain"


@pytest.mark.parametrize(
    "change",
    [
        {"what": "paused"},
        {"run": "../elsewhere"},
        {"run": ".hidden"},
        {"n": "1"},
        {"hosts": "relay"},
        {"operator": None},
        {"more": "x"},
    ],
)
def test_a_line_of_another_form_is_none(trail: Trail, change: dict[str, object]) -> None:
    trail.run()
    line = trail.entries[1]
    assert Entry.parse(json.dumps(line).encode()).what == "ended"
    with pytest.raises(ValueError):
        Entry.parse(json.dumps({**line, **change}).encode())


def test_a_head_is_read_from_whatever_it_was_kept_in(trail: Trail) -> None:
    trail.run()
    head = Head(2, hashlib.sha256(trail.lines[-1].encode()).hexdigest())
    assert Head.parse_all(f"Subject: heads\n\n{head}\nand 12 {head.digest}\n") == (head, Head(12, head.digest))
    assert problems_of(trail, heads=(head,)) == []
    (problem,) = problems_of(trail, heads=(Head(4, head.digest),))
    assert problem.kind == "cut off"
    (problem,) = problems_of(trail, heads=(Head(1, head.digest),))
    assert problem.kind == "altered"


def test_a_key_whose_public_half_is_another_ones_does_not_seal(trail: Trail, tmp_path: Path) -> None:
    """The record would name a key that did not sign it."""
    make_key(tmp_path / "other")
    (tmp_path / "ops.pub").write_bytes((tmp_path / "other.pub").read_bytes())
    record = load(trail.run() / "record.json")
    assert not record.sealed
    assert "match private" in record.unsigned_because


def test_a_signature_that_comes_later_does_not_vouch_for_a_bad_one(trail: Trail) -> None:
    """Whoever signs does not look at what others wrote before: verify does, at each signature."""
    folder = trail.run("failed")
    statement = (folder / "record.json").read_text().replace('"failed"', '"changed"')
    (folder / "record.json").write_text(statement)
    # The last run, so that its line is easily made to fit.
    line = trail.entries[-1] | {
        "record": hashlib.sha256(statement.encode()).hexdigest(),
        "outcome": "changed",
    }
    trail.log.write_text("".join([*trail.lines[:-1], json.dumps(line) + "\n"]))
    trail.run()
    wanted = Wanted(signers=Signers(trail.signers))
    found = verify(trail.path, wanted, progress=lambda items, _total, _doing: items)
    assert [str(problem) for problem in found.problems] == [
        f"signature: {folder.name}/record.json.sig: it does not hold: what was signed was altered, or the signature"
    ]


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_a_signature_is_seen_to_hold_without_openssh(kind: str, tmp_path: Path) -> None:
    key, data = make_key(tmp_path / "key", kind), b"what is signed"
    argv = ["ssh-keygen", "-q", "-Y", "sign", "-n", "mailtls-nb-audit", "-f", str(key)]
    signature = subprocess.run(argv, input=data, capture_output=True, check=True).stdout
    listed = subprocess.run(["ssh-keygen", "-l", "-f", str(key)], capture_output=True, text=True, check=True).stdout
    assert key_that_signed(data, signature, "mailtls-nb-audit") == listed.split()[1]
    with pytest.raises(ValueError, match="does not hold"):
        key_that_signed(data + b"!", signature, "mailtls-nb-audit")
    with pytest.raises(ValueError, match="something else"):
        key_that_signed(data, signature, "git")
    for end in range(0, len(signature) - 1, 7):
        with pytest.raises(ValueError):
            key_that_signed(data, signature[:end], "mailtls-nb-audit")


def test_a_lock_that_was_removed_does_not_let_two_in(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, doing="one", wait_s=1, error=NotReady):
        path.unlink()
        with locked(path, doing="two", wait_s=1, error=NotReady):
            pass
    # Whoever waited for the removed one takes the one that is there.
    other = os.open(path, os.O_RDWR)
    fcntl.flock(other, fcntl.LOCK_EX)
    with pytest.raises(NotReady, match="is in use by"), locked(path, doing="three", wait_s=0.2, error=NotReady):
        pass
    os.close(other)


def test_a_run_of_any_name_has_a_place_in_the_chain(trail: Trail) -> None:
    folder = create_run_folder(trail.path, datetime(2026, 11, 1, tzinfo=UTC), "mein_prüfer", "host")
    assert folder.name == "20261101T000000Z-mein-pr-fer-host"


def test_a_line_that_is_nested_too_deeply_stops_nobody(trail: Trail) -> None:
    trail.run()
    with trail.log.open("a") as log:
        log.write("[" * 200_000 + "\n")
    trail.run()
    assert [problem.kind for problem in problems_of(trail)] == ["altered"]


def test_a_run_that_is_only_begun_is_what_its_line_says(trail: Trail) -> None:
    ended = trail.run()
    folder, _ = trail.begin()
    (folder / "record.json").write_bytes((ended / "record.json").read_bytes())
    digest = hashlib.sha256((ended / "record.json").read_bytes()).hexdigest()
    line = trail.entries[-1] | {"record": digest}
    trail.log.write_text("".join([*trail.lines[:-1], json.dumps(line) + "\n"]))
    (problem,) = problems_of(trail)
    assert str(problem) == f"altered: {folder.name}/record.json: it is not of the beginning that its line tells of"


@pytest.mark.parametrize("member", ["hosts", "operator"])
def test_a_line_says_what_its_record_says(trail: Trail, member: str) -> None:
    folder = trail.run()
    line = trail.entries[-1] | {member: ["mx.evil"] if member == "hosts" else "nobody"}
    trail.log.write_text("".join([*trail.lines[:-1], json.dumps(line) + "\n"]))
    assert f"{folder.name}/record.json" in {problem.where for problem in problems_of(trail)}


def test_a_pipe_or_a_link_in_place_of_a_record_is_no_record(trail: Trail) -> None:
    first, second = trail.run(), trail.run()
    (first / "record.json").unlink()
    os.mkfifo(first / "record.json")
    (second / "record.json").rename(second.parent / "moved.json")
    (second / "record.json").symlink_to(second.parent / "moved.json")
    assert {problem.where for problem in problems_of(trail) if problem.kind == "removed"} == {
        f"{first.name}/record.json",
        f"{second.name}/record.json",
    }
