"""02 with a CA that allows one valid certificate for each subject, or whose index is damaged: cured, and taken back."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from mailtls_nb import durable
from mailtls_nb.apply.transaction import Transaction
from mailtls_nb.errors import CommandFailed
from mailtls_nb.pki import mending
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import serial_text
from mailtls_nb.testbed import Testbed
from tests.procedures.conftest import Machines, Runbooks

pytestmark = pytest.mark.testbed

SUBJECT = "/CN=relay.example.test"
CURED = ("mend-index", "update-index", "revoke")


@pytest.fixture(scope="module")
def ca(pristine: Testbed, runbooks: Runbooks) -> CADirectory:
    """Subjects are unique, as openssl has it by default."""
    assert runbooks("01").outcome == "changed"
    ca = CADirectory.open(pristine.ca_dir)
    ca.layout.attributes.write_text("unique_subject = yes\n")
    text = ca.layout.configuration.read_text()
    ca.layout.configuration.write_text(text.replace("unique_subject    = no", "unique_subject    = yes"))
    return CADirectory.open(pristine.ca_dir)


def openssl(ca: CADirectory, testbed: Testbed, *what: str | Path) -> str:
    argv: list[str | Path] = [
        "openssl",
        "ca",
        "-config",
        ca.layout.configuration,
        "-passin",
        "env:PASS",
        "-batch",
        "-notext",
        *what,
    ]
    environment = {**os.environ, "PASS": testbed.passphrase().reveal().decode()}
    done = subprocess.run(argv, capture_output=True, check=False, env=environment)
    return (done.stdout + done.stderr).decode()


def request(directory: Path, name: str) -> Path:
    path = directory / "request.pem"
    argv: list[str | Path] = [
        "openssl",
        "req",
        "-new",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-keyout",
        directory / "key",
        "-out",
        path,
    ]
    san = ("-addext", f"subjectAltName=DNS:{name}")
    subprocess.run([*argv, "-subj", f"/CN={name}", *san], check=True, capture_output=True)
    return path


def statuses(ca: CADirectory) -> list[str]:
    return [row.status for row in ca.rows() if row.subject == SUBJECT]


@pytest.fixture(scope="module")
def in_service(ca: CADirectory, runbooks: Runbooks) -> int:
    """The serial of the first certificate."""
    ran = runbooks("02")
    assert (ran.outcome, [action for action in ran.actions if action in CURED]) == ("changed", [])
    (row,) = ca.rows()
    return row.serial


def test_a_change_that_fails_takes_the_revocation_back(
    in_service: int,
    ca: CADirectory,
    pristine: Testbed,
    runbooks: Runbooks,
    machines: Machines,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    assert "already a certificate for" in openssl(ca, pristine, "-in", request(tmp_path, "relay.example.test"))
    before = machines.relay.tree()
    (first,) = ca.layout.database.read_bytes().splitlines()
    meanwhile: list[list[str]] = []

    def fail(change: Transaction) -> None:
        meanwhile.append(statuses(ca))
        raise CommandFailed("the daemon does not answer")

    with monkeypatch.context() as patched:
        patched.setattr(Transaction, "reload", fail)
        ran = runbooks("02", valid_days=100)
    assert (ran.outcome, ran.exit_status) == ("failed", 1)
    assert meanwhile == [["R", "V"]]
    assert machines.relay.tree() == before
    assert "STARTTLS" in machines.relay.ehlo()
    assert "everything was put back" in ran.said
    assert f"certificate {serial_text(in_service)} is valid in the CA's index again" in ran.said
    # The row is what it was, and openssl finds the index sound: no subject is valid twice.
    first_now, second_now = ca.layout.database.read_bytes().splitlines()
    assert first_now == first
    assert statuses(ca) == ["V", "R"]
    assert second_now.split(b"\t")[2].endswith(b"Z,superseded")
    assert "index" not in openssl(ca, pristine, "-updatedb")


def test_what_is_in_service_is_revoked_before_its_successor_is_signed(
    in_service: int, ca: CADirectory, pristine: Testbed, runbooks: Runbooks
) -> None:
    shown = runbooks("02", valid_days=100, approve="")
    assert shown.outcome == "planned"
    steps = shown.record["plan"]["steps"]
    (step,) = [step for step in steps if step["action"] == "revoke"]
    assert steps[steps.index(step) + 1]["action"] == "sign"
    assert (step["where"], step["target"]) == ("here", str(ca.layout.database))
    assert step["settings"] == {"serials": serial_text(in_service), "revocation_reason": "superseded"}
    assert "TXT_DB error number 2" in step["sentence"]
    ran = runbooks("02", valid_days=100, approve=shown.digest)
    assert ran.outcome == "changed"
    assert statuses(ca) == ["R", "R", "V"]
    newest = [row.serial for row in ca.rows()][-1]
    assert ran.claims["the certificate on port 25 is the one installed"] == (f"serial {newest:X}", "live")
    assert f"{serial_text(in_service)}=Revoked" in openssl(ca, pristine, "-status", serial_text(in_service))
    assert runbooks("02", valid_days=100).outcome == "unchanged"


def test_rows_that_only_a_person_can_tell_apart_are_refused_and_nothing_is_touched(
    in_service: int, ca: CADirectory, runbooks: Runbooks, machines: Machines
) -> None:
    sound = ca.layout.database.read_bytes()
    row = sound.splitlines(keepends=True)[-1].replace(b"relay", b"other")
    row = row.replace(row.split(b"\t")[3], b"0B")
    ca.layout.database.write_bytes(sound + row + row.replace(b"other", b"third"))
    state = machines.relay.state()
    try:
        ran = runbooks("02", valid_days=200)
        assert ran.exit_status == 2
        assert "the serial 0B has several rows that differ" in ran.said
        assert machines.relay.state() == state
        # What is in service needs no signature, and so no index.
        assert runbooks("02", valid_days=100).outcome == "unchanged"
    finally:
        ca.layout.database.write_bytes(sound)


def test_a_certificate_for_other_roles_is_not_superseded(
    in_service: int, ca: CADirectory, runbooks: Runbooks, machines: Machines
) -> None:
    """It would be revoked though it stays in service: for the client, beside the new one for the server."""
    index, state = ca.layout.database.read_bytes(), machines.relay.state()
    ran = runbooks("02", roles="server")
    assert ran.exit_status == 2
    assert "is for other roles (both) than the one wished for (server)" in ran.said
    assert "unique_subject = no" in ran.said
    assert (ca.layout.database.read_bytes(), machines.relay.state()) == (index, state)


def test_a_damaged_index_is_mended_in_one_rewrite_before_a_request_is_signed(
    in_service: int,
    ca: CADirectory,
    pristine: Testbed,
    runbooks: Runbooks,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    sound = ca.layout.database.read_bytes()
    rows = sound.splitlines(keepends=True)
    expired = rows[-1].replace(rows[-1].split(b"\t")[1], b"200101000000Z").replace(rows[-1].split(b"\t")[3], b"0A")
    ca.layout.database.write_bytes(sound + rows[0] + b"\n" + expired.rstrip(b"\n"))
    csr = request(tmp_path, "relay.example.test")
    assert "could not load/parse" in openssl(ca, pristine, "-in", csr)
    written: list[Path] = []
    write = durable.write_pieces

    def noted(path: Path, *others: Any, **more: Any) -> None:
        written.append(path)
        write(path, *others, **more)

    with monkeypatch.context() as patched:
        patched.setattr(durable, "write_pieces", noted)
        ran = runbooks("02", csr=str(csr))
    assert (ran.outcome, ran.actions) == ("changed", ["mend-index", "update-index", "revoke", "sign"])
    assert written.count(ca.layout.database) == 1
    observed = ran.shown["observe"]
    for words in ("has 2 rows, the same row", "is blank", "does not end with LF", "TXT_DB error number 2"):
        assert words in observed
    assert statuses(ca) == ["R", "R", "R", "E", "V"]
    assert "Error" not in openssl(ca, pristine, "-updatedb")
    assert runbooks("02", csr=str(csr)).outcome == "unchanged"


def test_a_request_that_cannot_be_signed_leaves_everything_valid(
    in_service: int, ca: CADirectory, runbooks: Runbooks, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    before = ca.layout.database.read_bytes()
    csr = request(tmp_path, "relay.example.test")

    def store(*arguments: Any) -> None:
        assert "V" not in statuses(ca)
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr("mailtls_nb.pki.recovery.store", store)
        ran = runbooks("02", csr=str(csr))
    assert (ran.outcome, ran.exit_status) == ("failed", 1)
    assert "No space left on device" in ran.said
    assert ca.layout.database.read_bytes() == before


def test_the_way_back_that_fails_says_so(
    in_service: int, ca: CADirectory, runbooks: Runbooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(change: Transaction) -> None:
        raise CommandFailed("the daemon does not answer")

    def stuck(*arguments: Any, **others: Any) -> None:
        raise CommandFailed("the directory is in use")

    before = statuses(ca)
    with monkeypatch.context() as patched:
        patched.setattr(Transaction, "reload", fail)
        patched.setattr(mending, "take_back", stuck)
        ran = runbooks("02", valid_days=50)
    assert ran.exit_status == 1
    assert "and its way back in the CA failed: the directory is in use" in ran.said
    assert before.count("V") == 1
    # The next run cures that: what it finds valid by the index is not what is in service.
    assert runbooks("02", valid_days=50).outcome == "changed"
    assert statuses(ca).count("V") == 1


def test_a_run_that_is_killed_after_it_revoked_is_made_good_by_the_next(
    in_service: int, ca: CADirectory, pristine: Testbed, runbooks: Runbooks, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(change: Transaction) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    pid = os.fork()
    if pid == 0:
        try:
            monkeypatch.setattr(Transaction, "reload", die)
            runbooks("02", valid_days=60)
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    # On the host the older one is put back by the next run; the index says that it is revoked, and another is valid.
    assert statuses(ca).count("V") == 1
    ran = runbooks("02", valid_days=60)
    assert ran.outcome == "changed"
    (row,) = [row for row in ca.rows() if row.status == "V" and row.subject == SUBJECT]
    assert ran.claims["the certificate on port 25 is the one installed"] == (f"serial {row.serial:X}", "live")
    assert "rror" not in openssl(ca, pristine, "-updatedb")
