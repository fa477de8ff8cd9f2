"""The passphrase and private keys are only where they belong; the search for them is seen to find."""

from __future__ import annotations

import subprocess
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailtls_nb.cli import main
from mailtls_nb.pki import revoking
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.testbed import Testbed
from tests.procedures.conftest import Machines

pytestmark = pytest.mark.testbed

PASSPHRASE = "correct-horse-battery-staple-7c3f"
KEY = "PRIVATE KEY-----"


class ProcessLists:
    """The command lines of this machine and the testbed's, looked at again and again."""

    def __init__(self, machines: Machines) -> None:
        self._machines = machines
        self._seen: set[str] = set()

    @contextmanager
    def watched(self) -> Iterator[None]:
        ended = threading.Event()

        def watch() -> None:
            # The containers' processes are processes of this machine, too, where their engine runs on it.
            while not ended.is_set():
                listed = subprocess.run(["ps", "-eww", "-o", "args="], capture_output=True, check=True).stdout
                self._seen.update(listed.decode("utf-8", "replace").splitlines())
                time.sleep(0.03)

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()
        for machine in (self._machines.relay, self._machines.stranger):
            self._seen.update(machine.sh("ps -eww -o args=").splitlines())

    def holding(self, word: str) -> list[str]:
        return [line for line in self._seen if word in line]


def files_holding(word: str, *directories: Path) -> list[str]:
    done = subprocess.run(["grep", "-rlaF", "-e", word, *directories], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return sorted(done.stdout.splitlines())


def run(*arguments: str) -> int:
    return main(["run", *arguments])


def test_nothing_shows_the_passphrase_or_a_key(
    pristine: Testbed,
    machines: Machines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The command, the kernel, the notebook, the page, the record, the log of commands, the hosts' logs and files."""
    secret, audit = tmp_path / "secret" / "passphrase", tmp_path / "audit"
    secret.parent.mkdir()
    secret.write_text(PASSPHRASE + "\n")
    monkeypatch.setenv("CA_PASSPHRASE", PASSPHRASE)
    monkeypatch.setenv("MAILTLS_AUDIT_DIR", str(audit))
    given = ["-p", "ca_dir", str(tmp_path / "ca"), "-p", "approve", "auto"]
    by_environment, by_file = ("-p", "ca_passphrase", "env:CA_PASSPHRASE"), ("-p", "ca_passphrase", f"file:{secret}")
    hosts = ["-p", "host", f"docker://{machines.relay.name}", "-p", "probe_from", f"docker://{machines.stranger.name}"]
    processes = ProcessLists(machines)
    with processes.watched():
        subprocess.run(["sleep", "0.2", "--", "0"], check=True)
        assert run("01", *given, *by_environment) == 0
        assert run("02", *given, *by_file, *hosts) == 0
        ca = CADirectory.open(tmp_path / "ca")
        revoking.revoke(ca, [row.serial for row in ca.rows()], "superseded", now=datetime.now(UTC))
        # The key is taken from its file on the host.
        assert run("06", *given, *by_environment, *hosts, "-p", "key", "same") == 0
    printed = capfd.readouterr()

    folders = [folder for number in ("02", "06") for folder in audit.glob(f"*-{number}-*")]
    assert len(folders) == 2
    for folder in folders:
        assert {"notebook.ipynb", "notebook.html", "record.json", "commands.jsonl"} <= {
            path.name for path in folder.iterdir()
        }
        assert len((folder / "commands.jsonl").read_text().splitlines()) > 10
    for word in (PASSPHRASE, KEY):
        assert word not in printed.out + printed.err
        # Another test run on this machine may be looking for keys itself: a key in an argument begins as keys do.
        assert [line for line in processes.holding(word) if word == PASSPHRASE or "-----BEGIN" in line] == []
        assert files_holding(word, audit) == []
        for machine in (machines.relay, machines.stranger):
            # The key in service is where it belongs.
            where = "/var/log /var/lib/mailtls-nb /var/spool /var/mail /tmp /root"
            assert machine.sh(f"grep -rlaF -e '{word}' {where} 2>/dev/null || :") == ""
    assert files_holding(PASSPHRASE, tmp_path) == [str(secret)]
    assert files_holding(KEY, tmp_path) == [str(tmp_path / "ca" / "private" / "cakey.pem")]
    assert "ENCRYPTED PRIVATE KEY" in (tmp_path / "ca" / "private" / "cakey.pem").read_text()

    # The search would have found it.
    assert processes.holding("sleep 0.2 -- 0")
    (folder / "planted.ipynb").write_text(f'{{"a": "{PASSPHRASE}"}}')
    assert files_holding(PASSPHRASE, audit) == [str(folder / "planted.ipynb")]
    planted = "echo -----BEGIN 'PRIVATE KEY-----' >/var/mail/planted; grep -rlaF -e 'PRIVATE KEY-----' /var/mail"
    assert machines.relay.sh(f"{planted}; rm /var/mail/planted").strip() == "/var/mail/planted"


def test_the_testbeds_passphrase_stays_in_its_file(
    pristine: Testbed, machines: Machines, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MAILTLS_AUDIT_DIR", str(tmp_path / "audit"))
    assert run("01") == 0
    passphrase = pristine.passphrase().reveal().decode()
    own_file = pristine.state_dir / "passphrase"
    assert files_holding(passphrase, tmp_path, pristine.state_dir) == [str(own_file)]
    assert own_file.stat().st_mode & 0o777 == 0o600


def test_a_password_in_the_access_map_stays_on_its_host(
    pristine: Testbed,
    machines: Machines,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """makemap prints the key of a line that it refuses: all of it, where a TAB was forgotten."""
    password, access, audit = "hunter2-9b41", "/etc/mail/access", tmp_path / "audit"
    monkeypatch.setenv("MAILTLS_AUDIT_DIR", str(audit))
    number = machines.relay.sh(
        f'cp -p {access} /root/access; echo \'AuthInfo:mx.example"U:me""P:{password}"\' >>{access}; wc -l <{access}'
    ).strip()
    try:
        # It would have been printed.
        assert password in machines.relay.sh(f"makemap hash /root/made <{access}; rm /root/made.db")
        assert (run("04"), run("07")) == (2, 4)
    finally:
        machines.relay.sh(f"mv /root/access {access}")
    printed = capfd.readouterr()
    folders = sorted(audit.glob("*-0[47]-*"))
    assert [folder.name.partition("Z-")[2][:2] for folder in folders] == ["04", "07"]
    for folder in folders:
        for name in ("record.json", "commands.jsonl", "notebook.html"):
            assert f"line {number}: no RHS" in (folder / name).read_text(), (folder, name)
    assert password not in printed.out + printed.err
    assert files_holding(password, tmp_path) == []
