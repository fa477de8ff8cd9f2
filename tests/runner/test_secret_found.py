"""A run that writes a secret down is not sealed with it: what holds it is removed, and the record says where it was."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from mailtls_nb.cli import main
from mailtls_nb.record import load

WriteNotebook = Callable[..., Path]

PASSPHRASE = 'correct "horse" & battery\\staple 7c3f'
# As Run does it when a procedure asks for the secret.
RESOLVED = """\
import base64, json, os
from datetime import datetime, UTC
from pathlib import Path
from mailtls_nb import record
from mailtls_nb.audit.leaks.secret_channel import tell
from mailtls_nb.secret import Secret
value = os.environb[b"CA_PASSPHRASE"]
tell("ca_passphrase", Secret(value))
folder = Path(os.environ["MAILTLS_RUN_FOLDER"])
(folder / "commands.jsonl").write_text('{"argv": ["true"]}\\n')
"""
ENDED = (
    "run = record.load(folder / 'record.json')\n"
    "record.finish(run, ended=datetime.now(UTC), outcome='changed').write_draft(folder)"
)


@pytest.fixture(autouse=True)
def _passphrase(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CA_PASSPHRASE", PASSPHRASE)


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


SHOWN = {
    "print(value.decode())": "the secret of ca_passphrase as it is in notebook.ipynb, cell 5, output 1",
    "print(base64.b64encode(b'user:' + value).decode())": "in base64 in notebook.ipynb, cell 5, output 1",
    "print(value.hex())": "in hexadecimal in notebook.ipynb, cell 5, output 1",
    "import urllib.parse; print(urllib.parse.quote(value))": "URL-escaped in notebook.ipynb, cell 5, output 1",
    "print(json.dumps(value.decode()))": "in notebook.ipynb, cell 5, output 1",
    "import ipywidgets; ipywidgets.Password(value=value.decode())": "in notebook.ipynb, metadata.widgets",
    "(folder / 'commands.jsonl').write_bytes(json.dumps({'stdout': value.decode()}).encode() + b'\\n')": (
        "in commands.jsonl, line 1"
    ),
    "(folder / 'request.txt').write_bytes(b'x ' + value)": "in request.txt, line 1",
    "print('-----BEGIN' + ' PRIVATE KEY-----')": "a private key as it is in notebook.ipynb, cell 5, output 1",
}


@pytest.mark.parametrize("shows", SHOWN)
def test_what_holds_a_secret_is_removed_and_said(
    write_notebook: WriteNotebook, audit_dir: Path, capsys: pytest.CaptureFixture[str], shows: str
) -> None:
    path = write_notebook(RESOLVED, "print('before')", shows, ENDED)
    assert main(["run", str(path), "--json"]) == 1
    printed = capsys.readouterr()
    (folder,) = audit_dir.glob("*/")
    said = json.loads(printed.out.splitlines()[-1])["error"]
    assert said["kind"] == "secret-found"
    assert SHOWN[shows] in said["message"]
    assert said["state"].startswith("what the run did stands (changed); removed")
    assert files(folder) == {"record.json"}
    record = load(folder / "record.json")
    assert (record.outcome, record.subject) == ("failed", ())
    assert record.error is not None
    assert record.error.message == said["message"]
    assert main(["audit", "verify"]) == 0
    everything = b"".join(path.read_bytes() for path in audit_dir.rglob("*") if path.is_file())
    for form in (PASSPHRASE, json.dumps(PASSPHRASE)[1:-1], PASSPHRASE.encode().hex()):
        assert form not in printed.out + printed.err
        assert form.encode() not in everything


def test_a_secret_that_was_used_and_not_shown_is_none(
    write_notebook: WriteNotebook, audit_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """So the check above can fail: the same run without showing it is sealed with all its files."""
    assert main(["run", str(write_notebook(RESOLVED, "print('before')", "print(len(value))", ENDED))]) == 0
    (folder,) = audit_dir.glob("*/")
    assert files(folder) == {"commands.jsonl", "notebook.html", "notebook.ipynb", "record.json"}


def test_a_secret_given_as_another_parameter_is_taken_out_of_the_record(
    write_notebook: WriteNotebook, audit_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_notebook(RESOLVED, ENDED)
    assert main(["run", str(path), "-p", "word", PASSPHRASE]) == 1
    (folder,) = audit_dir.glob("*/")
    assert load(folder / "record.json").parameters["word"] == "[removed]"
    assert "predicate.parameters.word" in capsys.readouterr().err
    assert not any(PASSPHRASE.encode() in path.read_bytes() for path in audit_dir.rglob("*") if path.is_file())
