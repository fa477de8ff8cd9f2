"""Runs of the runbooks in process, and a way to look at the testbed's machines that is not the product's."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from mailtls_nb.cli import main
from mailtls_nb.errors import MailTLSError
from mailtls_nb.library import find
from mailtls_nb.record import load
from mailtls_nb.run import Run, bind
from mailtls_nb.testbed import Testbed

# Set where `mailtls-nb run` runs a notebook that runs tests; every run here has a folder of its own.
os.environ.pop("MAILTLS_RUN_FOLDER", None)

STEPS = ("observe", "plan", "approval", "apply", "evidence", "verdict")


@dataclass(frozen=True)
class Ran:
    """What one run left: its record, what its cells showed, and the error that one of them raised."""

    folder: Path
    record: Mapping[str, Any]
    shown: Mapping[str, str]
    error: MailTLSError | None

    @property
    def outcome(self) -> str:
        return str(self.record["outcome"])

    @property
    def exit_status(self) -> int:
        return load(self.folder / "record.json").exit_status

    @property
    def actions(self) -> list[str]:
        """The plan's steps, in one word each."""
        return [str(step["action"]) for step in self.record["plan"]["steps"]]

    @property
    def digest(self) -> str:
        return str(self.record["plan"]["digest"])

    @property
    def claims(self) -> dict[str, tuple[str, str]]:
        """Of each claim: what was seen, and how it was proved."""
        return {claim["claim"]: (claim["observed"], claim["proof"]) for claim in self.record["claims"]}

    @property
    def said(self) -> str:
        assert self.error is not None
        return str(self.error)


@dataclass(frozen=True)
class Runbooks:
    """Binds runbooks with their notebooks' defaults, as their cells do."""

    audit_dir: Path

    def bind(self, runbook: str, **given: str | int) -> Run:
        source = find(runbook)
        defaults = {parameter.name: parameter.default for parameter in source.declared}
        return bind(source.id, {**defaults, "audit_dir": str(self.audit_dir), **given})

    def __call__(self, runbook: str, **given: str | int) -> Ran:
        """Run it from its first cell to its last."""
        return self.disturbed(lambda: None, runbook, **given)

    def disturbed(self, meanwhile: Callable[[], None], runbook: str, **given: str | int) -> Ran:
        """Run it while something else happens between approval and change."""
        folders = set(self.audit_dir.glob("*/"))
        run = self.bind(runbook, **given)
        (folder,) = set(self.audit_dir.glob("*/")) - folders
        shown: dict[str, str] = {}
        error: MailTLSError | None = None
        try:
            for step in STEPS:
                if step == "apply":
                    meanwhile()
                shown[step] = repr(getattr(run, step)())
        except MailTLSError as raised:
            error = raised
        # load() checks it against its schema.
        load(folder / "record.json")
        record = json.loads((folder / "record.json").read_bytes())["predicate"]
        assert (record["outcome"] == "failed") == (error is not None)
        return Ran(folder, record, shown, error)


def assert_refused(
    runbook: str, given: Mapping[str, str], problem: str, audit_dir: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The command refuses these parameters before it writes anything, and says why without what is secret in them."""
    arguments = [word for name, value in given.items() for word in ("-p", name, value)]
    assert main(["run", runbook, *arguments]) == 2
    said = capsys.readouterr()
    assert problem in said.err
    assert "State: nothing was touched" in said.err
    assert "Traceback" not in said.err
    for text in (said.out, said.err):
        assert "secret-word" not in text
        assert "\x1b" not in text
        assert "\0" not in text
    assert not audit_dir.exists()


@dataclass(frozen=True)
class Machine:
    """A container, looked at through the engine only."""

    engine: tuple[str, ...]
    name: str

    def sh(self, script: str, *parameters: str, stdin: str = "", status: int | None = 0) -> str:
        """What the script printed on both streams; ``status`` None: any."""
        done = subprocess.run(
            [*self.engine, "exec", "-i", self.name, "sh", "-c", script, "sh", *parameters],
            input=stdin.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=90,
            check=False,
        )
        printed = done.stdout.decode("utf-8", "replace")
        assert status in (None, done.returncode), printed
        return printed

    def state(self) -> str:
        """Everything below /etc and /var/lib: content, mode, owner and time."""
        return self.sh(
            r"""
            find /etc /var/lib -printf '%p %y %m %u:%g %T@ %l\n' | LC_ALL=C sort
            find /etc /var/lib -type f -exec cksum {} + | LC_ALL=C sort
            """
        )

    def tree(self) -> dict[str, str]:
        """All that a change may touch, without times: what stands at each path."""
        listed = self.sh(
            r"""
            find /etc/mail ! -type f -printf '%p\t%y %m %u:%g %l\n'
            find /etc/mail -type f -printf '%p\t%m %u:%g ' -exec sh -c 'cksum <"$1"' sh {} \;
            find /var/lib/mailtls-nb -mindepth 1 ! -name guard -printf '%p\tleft behind\n' 2>/dev/null || :
            """
        )
        return dict(line.split("\t", 1) for line in listed.splitlines())

    def daemon(self) -> str:
        return self.sh("sed -n 1p /run/sendmail/mta/sendmail.pid").strip()

    def ehlo(self) -> str:
        """What port 25 answers to EHLO; without STARTTLS in it where none is offered."""
        return self.sh("swaks --server 127.0.0.1 --quit-after EHLO --helo probe.example.test")

    def log(self) -> str:
        return self.sh("cat /var/log/mail.log")


@dataclass(frozen=True)
class Machines:
    relay: Machine
    partner: Machine
    stranger: Machine


@pytest.fixture
def audit_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The audit folder of the command's runs."""
    monkeypatch.setenv("MAILTLS_AUDIT_DIR", str(tmp_path / "audit"))
    return tmp_path / "audit"


@pytest.fixture(scope="module")
def runbooks(tmp_path_factory: pytest.TempPathFactory) -> Runbooks:
    return Runbooks(tmp_path_factory.mktemp("audit"))


@pytest.fixture(scope="module")
def machines(pristine: Testbed) -> Machines:
    """The testbed's machines, pristine at the start of each test file."""
    return Machines(
        *(Machine(pristine.engine.argv, pristine.container_name(name)) for name in ("relay", "partner", "stranger"))
    )
