"""A lock is passed over only where its holder is known to have ended."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mailtls_nb.apply import journal


def line_of(pid: int) -> str:
    """The line of a process of this machine, as it would have written it."""
    fields = journal._identity().split(" ", 5)
    fields[3], fields[4] = str(pid), "12345"
    return " ".join(fields)


def an_ended_pid() -> int:
    ended = subprocess.Popen(["true"])
    ended.wait()
    return ended.pid


def test_an_ended_process_is_gone_and_a_live_one_is_not() -> None:
    """By /proc, where it can be seen; a pid that another process has now is gone too."""
    assert not journal._is_gone(journal._identity())
    assert journal._is_gone(line_of(an_ended_pid()))
    assert journal._is_gone(line_of(os.getppid()))


def test_a_process_hidden_from_us_is_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With hidepid=2 nobody else's process is in /proc; whether there is one, the kernel still says."""
    live, ended = line_of(os.getppid()), line_of(an_ended_pid())
    monkeypatch.setattr(journal, "_PROC", tmp_path)
    monkeypatch.setattr(journal, "_identity", lambda: live)
    assert not journal._is_gone(live)
    assert journal._is_gone(ended)


def test_a_process_that_may_not_be_looked_at_is_not_gone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With hidepid=1 its directory is there and cannot be read; a file that is a directory stands for that."""
    live = line_of(os.getppid())
    (tmp_path / str(os.getppid()) / "stat").mkdir(parents=True)
    monkeypatch.setattr(journal, "_PROC", tmp_path)
    monkeypatch.setattr(journal, "_identity", lambda: live)
    assert not journal._is_gone(live)
