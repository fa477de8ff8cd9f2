"""Audit folders with sealed runs in them, made as `mailtls-nb run` makes them, without its notebooks."""

from __future__ import annotations

import json
import subprocess
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mailtls_nb import record
from mailtls_nb.audit import sealing
from mailtls_nb.audit.folder import COMMANDS_NAME, NOTEBOOK_NAME, PAGE_NAME, create_run_folder
from mailtls_nb.audit.sealing import Scan

HOST = "testbed:relay"


def make_key(path: Path, kind: str = "ed25519") -> Path:
    """A key without a passphrase, as an operator's for this purpose."""
    subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-C", "", "-f", str(path)], check=True)
    return path


def allow(signers: Path, **keys: Path) -> Path:
    """An allowed_signers file: each name with its key."""
    signers.write_text("".join(f"{name} {Path(f'{key}.pub').read_text()}" for name, key in keys.items()))
    return signers


@dataclass
class Trail:
    """An audit folder, and who may sign in it."""

    path: Path
    signers: Path
    number: int = 0

    def begin(self, begun: datetime | None = None) -> tuple[Path, record.Record]:
        """A run that has begun."""
        self.number += 1
        started = begun or datetime(2026, 11, 1, 12, tzinfo=UTC).replace(minute=self.number % 60)
        folder = create_run_folder(self.path, started, "10-try", f"relay-{self.number}")
        begun_record = record.begin(
            runbook=record.RunbookSource("10-try", "0" * 64),
            parameters={"host": HOST, "approve": "auto"},
            operator=record.Operator("ops", "ssh:192.0.2.1"),
            started=started,
        )
        sealing.begin(folder, begun_record)
        return folder, begun_record

    def run(self, outcome: record.Outcome = "changed", begun: datetime | None = None, **files: str) -> Path:
        """A run that has ended: its folder."""
        folder, begun_record = self.begin(begun)
        for name, text in {
            NOTEBOOK_NAME: '{"cells": []}',
            COMMANDS_NAME: f'{{"run": {self.number}}}\n',
            **files,
        }.items():
            (folder / name).write_text(text)
        error = record.RunError("ChangeFailed", "it failed") if outcome == "failed" else None
        ended = record.finish(
            begun_record,
            ended=datetime.fromisoformat(begun_record.started),
            outcome=outcome,
            error=error,
            hosts={HOST: {"sendmail": "8.17.1.9"}},
        )
        sealing.end(folder, ended, Scan({}), draw=lambda record: _draw(folder / PAGE_NAME, record))
        return folder

    @property
    def log(self) -> Path:
        return self.path / "log.jsonl"

    @property
    def lines(self) -> list[str]:
        return self.log.read_text().splitlines(keepends=True)

    @property
    def entries(self) -> list[dict[str, object]]:
        return [json.loads(line) for line in self.lines]


def _draw(page: Path, record: record.Record) -> None:
    page.write_text(f"the page of a run that is {record.outcome}")
