"""07-check-host on the testbed: a sound relay has no errors; planted faults are found, named, and left as they are."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailtls_nb.cli import main
from mailtls_nb.errors import BadParameter, MailTLSError, NotReady
from mailtls_nb.record import Record, load
from tests.procedures.conftest import Machine, Machines, Runbooks

pytestmark = pytest.mark.testbed

CERTS = "/etc/mail/certs"
PEM = f"{CERTS}/relay.example.test.pem"
CF = "/etc/mail/sendmail.cf"
ACCESS = "/etc/mail/access"


def check(runbooks: Runbooks, **given: str | int) -> Record:
    """The record of one run, cell by cell."""
    folders = set(runbooks.audit_dir.glob("*"))
    run = runbooks.bind("07", **given)
    (folder,) = set(runbooks.audit_dir.glob("*")) - folders
    run.observe()
    report = repr(run.findings())
    assert repr(run.verdict()).startswith("unchanged: nothing was touched; ")
    record = load(folder / "record.json")
    assert record.outcome == "unchanged"
    assert all(finding["what"] in report for finding in record.findings or ())
    return record


def said(record: Record, severity: str = "error") -> list[tuple[str, str]]:
    """What is found of a severity, and where."""
    return [(found["what"], found["where"]) for found in record.findings or () if found["severity"] == severity]


@pytest.fixture(scope="module")
def relay(runbooks: Runbooks, machines: Machines) -> Machine:
    """A relay that is sound, with everything kept that a test changes."""
    for runbook in ("01", "02"):
        assert runbooks(runbook).outcome == "changed"
    machines.relay.sh("mkdir /root/kept && cp -a /etc/mail /root/kept/")
    return machines.relay


@contextmanager
def planted(relay: Machine, script: str, *parameters: str, stdin: str = "") -> Iterator[dict[str, str]]:
    """A fault on the relay, for a while; what stands there with it must stand there after the check."""
    relay.sh(script, *parameters, stdin=stdin)
    tree = relay.tree()
    try:
        yield tree
        assert relay.tree() == tree
    finally:
        relay.sh("rm -rf /etc/mail/certs && cp -a /root/kept/mail/. /etc/mail/")


def test_a_sound_relay_has_no_errors_and_nothing_is_changed(runbooks: Runbooks, relay: Machine, tmp_path: Path) -> None:
    looked_at = "ls -lA /etc /etc/mail /var/lib /root"
    before, daemon, listed = relay.tree(), relay.daemon(), relay.sh(looked_at)
    textfile = tmp_path / "mailtls.prom"
    record = check(runbooks, textfile=str(textfile))
    assert (record.findings, record.exit_status) == ([], 0)
    assert (relay.tree(), relay.daemon(), relay.sh(looked_at)) == (before, daemon, listed)
    assert 'mailtls_findings{host="testbed:relay",severity="error"} 0\n' in textfile.read_text()
    assert textfile.stat().st_mode & 0o777 == 0o644
    assert [path.name for path in tmp_path.iterdir()] == ["mailtls.prom"]


# The script that plants it; what must be said of it, and where.
FAULTS = {
    "open rule": (
        f"printf 'TLS_Clt:x.example.test PERM+VERFY:112\\n' >>{ACCESS}; makemap hash {ACCESS} <{ACCESS}",
        r"TLS_Clt:x\.example\.test has a value that is no requirement.*",
        rf"{ACCESS}, line \d+",
    ),
    "stale database": (
        f"printf 'Connect:192.0.2.1 REJECT\\n' >>{ACCESS}",
        rf"The access map's database, {ACCESS}\.db, is not what {ACCESS} says\.",
        rf"{ACCESS}\.db",
    ),
    "a text that makemap refuses": (
        f"printf 'Connect:192.0.2.1\\n' >>{ACCESS}",
        r"testbed:relay: makemap does not take .*",
        ACCESS,
    ),
    "key 0644": (f"chmod 644 {PEM}", rf"The server key {PEM} is open to others \(mode 0644\)\.", PEM),
    "dangling link": (
        f"ln -s gone.pem {CERTS}/0a0a0a0a.0",
        rf"{CERTS}/0a0a0a0a\.0 leads to gone\.pem, which is not there\.",
        rf"{CERTS}/0a0a0a0a\.0",
    ),
    "expired CRL": (
        f"""
        cd /root && openssl req -x509 -nodes -newkey rsa:2048 -subj "/CN=A CA" -keyout k.pem -out c.pem 2>/dev/null
        : >i.txt; printf '[ca]\\ndefault_ca=a\\n[a]\\ndatabase=/root/i.txt\\ndefault_md=sha256\\n' >ca.cnf
        openssl ca -gencrl -config ca.cnf -keyfile k.pem -cert c.pem -out {CERTS}/crl.pem \
            -crl_lastupdate 20200101000000Z -crl_nextupdate 20200201000000Z 2>/dev/null
        cat c.pem >>{CERTS}/cacert.pem
        echo 'O CRLFile={CERTS}/crl.pem' >>{CF}
        """,
        r"The CRL of /CN=A CA ended on 2020-02-01\.",
        f"{CERTS}/crl.pem",
    ),
    "no clientAuth": (
        f"""
        cd /root && openssl req -x509 -nodes -newkey rsa:2048 -days 90 -subj "/CN=relay.example.test" -keyout k.pem \
            -addext extendedKeyUsage=serverAuth -addext subjectAltName=DNS:relay.example.test -out c.pem 2>/dev/null
        (umask 077; cat c.pem k.pem >{CERTS}/client.pem)
        sed -i 's,^O Client\\(Cert\\|Key\\)File=.*,O Client\\1File={CERTS}/client.pem,' {CF}
        """,
        r"The client certificate /CN=relay\.example\.test is not for use as a client \(.* without clientAuth\)\.",
        f"{CERTS}/client.pem",
    ),
    "a file of the configuration gone": (
        f"rm {CERTS}/cacert.pem",
        rf"The file of CACertFile, {CERTS}/cacert\.pem, is not there\.",
        f"{CERTS}/cacert.pem",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_planted_fault_is_found_and_left(fault: str, runbooks: Runbooks, relay: Machine) -> None:
    script, what, where = FAULTS[fault]
    with planted(relay, script):
        record = check(runbooks)
    errors = said(record)
    assert any(re.fullmatch(what, found) and re.fullmatch(where, place) for found, place in errors), record.findings
    assert record.exit_status == 4
    assert [finding["severity"] for finding in record.findings or ()][: len(errors)] == ["error"] * len(errors)


def test_the_command_exits_with_4_and_says_how_many(
    runbooks: Runbooks, relay: Machine, capsys: pytest.CaptureFixture[str]
) -> None:
    """Under papermill the notebook itself succeeds."""
    audit = str(runbooks.audit_dir)
    with planted(relay, f"printf 'TLS_Srv:x.example.test PERM+ENCR\\n' >>{ACCESS}; makemap hash {ACCESS} <{ACCESS}"):
        status = main(["run", "07", "--json", "-p", "audit_dir", audit])
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert (status, told["exit_status"], told["outcome"], told["error"]) == (4, 4, "unchanged", None)
    assert told["findings"]["error"] == 1
    page = (Path(told["folder"]) / "notebook.html").read_text()
    assert '<p class="outcome">1 error; nothing was changed</p>' in page
    assert "TLS_Srv:x.example.test has a value that is no requirement" in page


def test_a_host_that_cannot_be_reached_is_no_finding(runbooks: Runbooks) -> None:
    run = runbooks.bind("07", host="docker://no-such-host")
    with pytest.raises(MailTLSError) as caught:
        run.observe()
    assert caught.value.exit_status == 2
    with pytest.raises(NotReady, match="an earlier step"):
        run.findings()


def test_there_is_nothing_to_plan_or_apply(relay: Machine, runbooks: Runbooks) -> None:
    run = runbooks.bind("07")
    run.observe()
    with pytest.raises(NotReady, match="changes nothing"):
        run.plan()
    with pytest.raises(NotReady, match="07-check-host"):
        runbooks.bind("01").findings()


@pytest.mark.parametrize(
    ("name", "value"),
    [("warn_days", -1), ("textfile", "relative.prom"), ("host", "testbed:nobody"), ("probe_from", "testbed:relay")],
)
def test_bad_parameters_are_refused(name: str, value: str | int, runbooks: Runbooks) -> None:
    with pytest.raises(BadParameter, match=name):
        runbooks.bind("07", **{name: value})
