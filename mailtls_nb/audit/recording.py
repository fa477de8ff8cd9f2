"""The record of a run while it runs, as the notebook's own process keeps it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from mailtls_nb import record
from mailtls_nb.audit import sealing
from mailtls_nb.audit.folder import create_run_folder, default_audit_dir
from mailtls_nb.audit.surroundings import machine, versions
from mailtls_nb.interruption import no_interruption
from mailtls_nb.library import Runbook, git_commit
from mailtls_nb.secret import Secret

_NOT_SEALED = "the run ended while its notebook was still being written: it was not run by mailtls-nb run"


def begin(runbook: Runbook, values: Mapping[str, str | int], target: str) -> tuple[Path, record.Record]:
    """Make the folder of a run that begins, with its record, and enter it into the chain.

    ``target`` is what the run is about, for the folder's name. Raises MailTLSError, nothing touched.
    """
    started = datetime.now(UTC)
    named = str(values.get("audit_dir", ""))
    folder = create_run_folder(Path(named) if named else default_audit_dir(), started, runbook.id, target)
    begun = record.begin(
        runbook=record.RunbookSource(runbook.id, runbook.digest),
        parameters=values,
        operator=record.Operator.of_this_process(),
        started=started,
        git_commit=git_commit(),
        machine=machine(),
        versions=versions(),
    )
    sealing.begin(folder, begun)
    return folder, begun


class Recording:
    """What is known of a run so far, and where it is written down when the run ends."""

    def __init__(self, runbook: Runbook, folder: Path, begun: record.Record, *, sealed_elsewhere: bool) -> None:
        self.folder = folder
        self._runbook = runbook
        self._record = begun
        self._sealed_elsewhere = sealed_elsewhere
        self.has_ended = False

    @classmethod
    def of(cls, runbook: Runbook, values: Mapping[str, str | int], target: str) -> Recording:
        """The recording that ``mailtls-nb run`` has begun ($MAILTLS_RUN_FOLDER), else one that begins here."""
        made = os.environ.get("MAILTLS_RUN_FOLDER", "")
        if made:
            begun = record.load(Path(made) / record.FILE_NAME)
            return cls(runbook, Path(made), begun, sealed_elsewhere=True)
        return cls(runbook, *begin(runbook, values, target), sealed_elsewhere=False)

    def note(self, **members: Any) -> None:
        """Keep members of the record as they become known."""
        self._record = replace(self._record, **members)

    def end(
        self,
        secrets: Mapping[str, Secret],
        *,
        outcome: record.Outcome,
        error: record.RunError | None,
        **members: Any,
    ) -> None:
        """Write down how the run ended, once: what a cell does after that changes nothing any more.

        ``mailtls-nb run`` seals the run when the notebook is complete. Under another front end the chain is told
        here, of everything but the notebook.
        """
        if self.has_ended:
            return
        finished = record.finish(self._record, ended=datetime.now(UTC), outcome=outcome, error=error, **members)
        with no_interruption():
            if self._sealed_elsewhere:
                finished.write_draft(self.folder)
            else:
                scan = sealing.Scan(secrets, self._runbook.path.read_bytes())
                sealing.end_unsigned(self.folder, finished, scan, because=_NOT_SEALED)
            self.has_ended = True
