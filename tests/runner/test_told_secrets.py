"""What a real notebook's kernel tells of its secrets: all of them to the process that runs it, none to its files."""

from __future__ import annotations

from pathlib import Path

import papermill
import pytest

from mailtls_nb.audit.leaks.search import find_leaks
from mailtls_nb.audit.leaks.secret_channel import SecretChannel
from mailtls_nb.audit.recording import begin
from mailtls_nb.library import find

RUNBOOK = Path(__file__).parents[2] / "runbooks" / "01-create-ca.ipynb"
PASSPHRASE = 'correct-horse "battery" stäple'


def test_the_kernel_tells_the_passphrase_and_the_run_s_folder_does_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A CA is made, so the passphrase is used; then the search is seen to find it where it was written down."""
    monkeypatch.setenv("THE_PASSPHRASE", PASSPHRASE)
    given: dict[str, str | int] = {"ca_dir": str(tmp_path / "ca"), "ca_passphrase": "env:THE_PASSPHRASE"}
    given |= {"approve": "auto", "audit_dir": str(tmp_path / "audit")}
    runbook = find(RUNBOOK.stem)
    folder, _ = begin(runbook, runbook.values(given), "ca")
    with SecretChannel() as channel:
        papermill.execute_notebook(
            RUNBOOK,
            folder / "notebook.ipynb",
            given,
            engine_name="mailtls",
            progress_bar=False,
            kernel_env={"MAILTLS_RUN_FOLDER": str(folder), **channel.environment},
            kernel_pass_fds=channel.pass_fds,
        )
        secrets = channel.secrets()
    assert {name: secret.reveal() for name, secret in secrets.items()} == {"ca_passphrase": PASSPHRASE.encode()}
    assert {"notebook.ipynb", "record.json", "commands.jsonl"} <= {path.name for path in folder.iterdir()}
    assert find_leaks(folder, secrets, known_text=RUNBOOK.read_bytes()) == ()
    with (folder / "commands.jsonl").open("a") as log:
        log.write('{"stdout": "it is correct-horse \\"battery\\" st\\u00e4ple"}\n')
    (leak,) = find_leaks(folder, secrets, known_text=RUNBOOK.read_bytes())
    assert (leak.file, leak.where.split(", ")[-1], leak.form) == ("commands.jsonl", "stdout", "as it is")
    (found_key,) = {leak.what for leak in find_leaks(tmp_path / "ca" / "private", {})}
    assert found_key == "a private key"
