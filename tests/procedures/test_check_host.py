"""07-check-host on the testbed: a sound relay has no errors; planted faults are found, named, and left as they are."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from mailtls_nb.cli import main
from mailtls_nb.errors import BadParameter, MailTLSError, NotReady
from mailtls_nb.record import Record, load
from mailtls_nb.testbed import Testbed
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


# A CA with a certificate for the relay in service, each with a beginning and an end as `openssl ca` takes them.
OLD_CA = r"""
old_ca() {
    cd /root && : >i.txt && rm -rf new && mkdir new && echo 01 >serial
    printf '%s\n' '[ca]' default_ca=a '[a]' database=/root/i.txt new_certs_dir=/root/new serial=/root/serial \
        default_md=sha256 policy=p unique_subject=no '[p]' commonName=supplied '[x]' basicConstraints=critical,CA:TRUE \
        '[l]' subjectAltName=DNS:relay.example.test >ca.cnf
    openssl req -new -nodes -newkey rsa:2048 -subj "/CN=Old CA" -keyout k.pem -out c.csr 2>/dev/null
    openssl ca -batch -notext -config ca.cnf -selfsign -keyfile k.pem -in c.csr -out c.pem -extensions x \
        -startdate "$1" -enddate "$2" 2>/dev/null
    openssl req -new -nodes -newkey rsa:2048 -subj "/CN=relay.example.test" -keyout l.key -out l.csr 2>/dev/null
    openssl ca -batch -notext -config ca.cnf -keyfile k.pem -cert c.pem -in l.csr -out l.pem -extensions l \
        -startdate "$3" -enddate "$4" 2>/dev/null
}
trusted() { cat c.pem >>CERTS/cacert.pem; }
in_service() { trusted; (umask 077; cat l.pem l.key >PEM); }
""".replace("CERTS", CERTS).replace("PEM", PEM)

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
    "expired certificate": (
        f"{OLD_CA} old_ca 20200101000000Z 20480101000000Z 20200101000000Z 20200201000000Z && in_service",
        r"The server and client certificate /CN=relay\.example\.test ended on 2020-02-01\.",
        PEM,
    ),
    "expired CA of ours": (
        f"{OLD_CA} old_ca 20200101000000Z 20210101000000Z 20200101000000Z 20480101000000Z && in_service",
        r"Our CA /CN=Old CA ended on 2021-01-01\.",
        f"{CERTS}/cacert.pem",
    ),
    "expired CA of a partner": (
        f"{OLD_CA} old_ca 20200101000000Z 20210101000000Z 20200101000000Z 20480101000000Z && trusted",
        r"The partner's CA /CN=Old CA ended on 2021-01-01\.",
        f"{CERTS}/cacert.pem",
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
    assert '<h1><span class="word">1 error</span>: nothing was changed</h1>' in page
    assert "TLS_Srv:x.example.test has a value that is no requirement" in page


def test_a_ca_directory_is_looked_at_too(runbooks: Runbooks, relay: Machine, pristine: Testbed, tmp_path: Path) -> None:
    """Its CRL, certificates and end; without a passphrase, and without a byte of it being written."""

    def tree() -> dict[Path, tuple[int, bytes]]:
        files = [path for path in pristine.ca_dir.rglob("*") if path.is_file()]
        return {path: (path.stat().st_mtime_ns, path.read_bytes()) for path in files}

    def looked_at() -> Record:
        before = tree()
        record = check(runbooks, ca_dir="testbed", textfile=str(tmp_path / "ca.prom"))
        assert tree() == before
        return record

    assert looked_at().findings == []
    damaged = pristine.ca_dir / ".mailtls-nb.successor"
    damaged.write_text("garbage")
    assert said(looked_at()) == [(f"{damaged} cannot be read.", str(pristine.ca_dir))]
    damaged.unlink()
    argv = ["openssl", "ca", "-gencrl", "-config", str(pristine.ca_dir / "openssl.cnf"), "-passin", "env:PASS"]
    argv += ["-crl_lastupdate", "20200101000000Z", "-crl_nextupdate", "20200201000000Z"]
    argv += ["-out", str(pristine.ca_dir / "crl.pem")]
    environment = {**os.environ, "PASS": pristine.passphrase().reveal().decode()}
    subprocess.run(argv, env=environment, check=True, capture_output=True)
    crl = str(pristine.ca_dir / "crl.pem")
    assert said(looked_at()) == [("The CRL of our CA /CN=Example Mail CA ended on 2020-02-01.", crl)]
    assert f'kind="crl",name="/CN=Example Mail CA",path="{crl}"}} -' in (tmp_path / "ca.prom").read_text()


def test_what_openssl_would_stumble_over_in_the_index_is_found(
    runbooks: Runbooks, relay: Machine, pristine: Testbed
) -> None:
    """Whoever searches for openssl's own words finds it."""
    index = pristine.ca_dir / "index.txt"
    rows = index.read_bytes()
    index.write_bytes(rows + rows.splitlines(keepends=True)[0])
    try:
        found = [f for f in check(runbooks, ca_dir="testbed").findings or () if f["where"].startswith(str(index))]
    finally:
        index.write_bytes(rows)
    assert [f["severity"] for f in found] == ["error"]
    assert "TXT_DB error number 2" in " ".join(found[0].values())


def test_a_ca_directory_that_is_not_there(runbooks: Runbooks, relay: Machine, tmp_path: Path) -> None:
    run = runbooks.bind("07", ca_dir=str(tmp_path / "none"))
    with pytest.raises(NotReady, match="there is no CA at"):
        run.observe()


def test_what_ends_first_stands_first(runbooks: Runbooks, relay: Machine) -> None:
    run = runbooks.bind("07", ca_dir="testbed")
    shown = repr(run.observe())
    first, second = shown.index("certificate /CN=relay.example.test"), shown.index("our CA /CN=Example Mail CA")
    assert shown.index("What ends first") < first < second < shown.index("Its own certificates")
    assert "days left: 364\n  state: fine" in shown
    assert "days left: 3649\n  state: fine" in shown
    assert "agrees with this machine's" in shown


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
    [
        ("warn_days", -1),
        ("textfile", "relative.prom"),
        ("ca_dir", "relative/ca"),
        ("host", "testbed:nobody"),
        ("probe_from", "testbed:relay"),
    ],
)
def test_bad_parameters_are_refused(name: str, value: str | int, runbooks: Runbooks) -> None:
    with pytest.raises(BadParameter, match=name):
        runbooks.bind("07", **{name: value})
