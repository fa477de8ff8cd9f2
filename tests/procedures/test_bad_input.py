"""Bad input: each time a clear error, an exit status that is not 0, and nothing touched."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mailtls_nb.cli import main
from mailtls_nb.errors import BadParameter
from mailtls_nb.testbed import Testbed
from tests.procedures.conftest import Runbooks

PASSPHRASE = "correct horse battery staple"


# -- refused before a kernel starts, so before anything at all is looked at


@pytest.mark.parametrize(
    ("runbook", "name", "value", "problem"),
    [
        ("02", "host_name", "relay.example.test", "did you mean hostname"),
        ("02", "import os", "1", "is no parameter name"),
        ("02", "valid_days", "many", "'many' is not a whole number"),
        ("02", "valid_days", "365.0", "is not a whole number"),
        ("02", "valid_days", "0", "0 days is not between 1 and"),
        ("02", "valid_days", "-1", "-1 days is not between 1 and"),
        ("02", "hostname", "", "parameter hostname"),
        ("02", "hostname", "relay example.test", "parameter hostname"),
        ("02", "hostname", "relay.example.test\n", "parameter hostname: holds a control character"),
        ("02", "hostname", "$(id).example.test", "parameter hostname"),
        ("02", "hostname", "relay.example.test;id", "parameter hostname"),
        ("02", "hostname", "`id`.example.test", "parameter hostname"),
        ("02", "hostname", "relay.example.test'", "parameter hostname"),
        ("02", "hostname", "-relay.example.test", "parameter hostname"),
        ("02", "hostname", "../relay.example.test", "parameter hostname"),
        ("02", "hostname", "*.example.test", "parameter hostname"),
        ("02", "hostname", "192.0.2.1", "parameter hostname"),
        ("02", "hostname", "relay", "parameter hostname"),
        ("02", "hostname", f"{'a' * 60}.{'b' * 60}.{'c' * 60}.{'d' * 60}.{'e' * 56}", "parameter hostname"),
        ("02", "hostname", f"{'a' * 50}.example.example.test", "longer than the 64 characters"),
        ("02", "dns_names", "good.example.test, bad_.example..test", "parameter dns_names"),
        ("02", "roles", "servers", "parameter roles"),
        ("02", "key_type", "rsa-1024", "parameter key_type"),
        ("02", "cert_dir", "etc/mail/certs", "parameter cert_dir"),
        ("02", "cert_dir", "/etc/mail/cert's", "cannot be named in sendmail.mc"),
        ("02", "cert_dir", "/etc/mail/../../tmp", "cannot be named in sendmail.mc"),
        ("02", "host", "ssh://root:secret-word@relay", "holds a password"),
        ("02", "host", "ssh://-oProxyCommand=id", "parameter host"),
        ("02", "host", "relay.example.test", "is not a host's address"),
        ("02", "probe_from", "testbed:relay", "is the host itself"),
        ("02", "approve", "yes", "parameter approve"),
        ("02", "ca_passphrase", PASSPHRASE, "is not a reference to a secret"),
        ("02", "ca_dir", "/srv/ca", "testbed is the passphrase of the testbed's own CA"),
        ("04", "partner", "", "parameter partner"),
        ("04", "partner", "partner.example.test\tOK", "parameter partner: holds a control character"),
        ("04", "partner", "partner.example.test\nTLS_Clt:", "parameter partner: holds a control character"),
        ("04", "partner", "partner.example.test OK", "parameter partner"),
        ("04", "partner", "partner.example.test`'dnl", "parameter partner"),
        ("04", "partner", "$(id).example.test", "parameter partner"),
        ("04", "partner", "p\u0430rtner.example.test", "may look like others"),
        ("04", "partner", "192.0.2.1", "parameter partner"),
        ("04", "partner", "everyone", "parameter partner"),
        ("04", "partner", "a." * 200 + "test", "parameter partner"),
        ("04", "addresses", "192.0.2.1\0", "parameter addresses"),
        ("04", "addresses", "192.0.2.1;id", "parameter addresses"),
        ("04", "addresses", "192.0.2.300", "parameter addresses"),
        ("04", "addresses", "192.0.2.1/24", "parameter addresses"),
        ("04", "addresses", "0.0.0.0/0", "takes in too much of the internet"),
        ("04", "addresses", "2001:db8::/33", "would need 32768 entries"),
        ("04", "addresses", "2001:db8::g", "parameter addresses"),
        ("04", "partner_domains", "partner.example.test,", "parameter partner_domains"),
        ("04", "partner_domains", "@partner.example.test", "parameter partner_domains"),
        ("04", "partner_domains", "partner.ex\u0430mple", "may look like others"),
        ("04", "directions", "", "parameter directions"),
        ("04", "directions", "server,clients", "parameter directions"),
        ("04", "requirement", "VERFY", "parameter requirement"),
        ("04", "requirement", "PERM+VERIFY:112", "parameter requirement"),
        ("04", "bits", "0", "0 bits is not between 1 and"),
        ("04", "bits", "257", "257 bits is not between 1 and"),
        ("04", "identity", "CI:", "parameter identity"),
        ("04", "identity", "CI:/CN=Partner CA", "parameter identity"),
        ("04", "identity", "CI:/CN=a++CN:b", "parameter identity"),
        ("04", "identity", "CI:/CN=a\tOK", "parameter identity"),
        ("04", "identity", "CITag:MyCA", "parameter identity"),
        ("04", "identity", "issuers", "parameter identity"),
        ("04", "on_failure", "PERM", "parameter on_failure"),
        ("04", "everyone", "yes, please", "parameter everyone"),
        ("04", "probe_from", "testbed:relay", "is the host itself"),
        ("06", "hostname", "", "parameter hostname"),
        ("06", "hostname", "relay.example.test;id", "parameter hostname"),
        ("06", "hostname", "*.example.test", "parameter hostname"),
        ("06", "hostname", "relay.example.test\n", "parameter hostname: holds a control character"),
        ("06", "renew_before_days", "-1", "-1 days is not between 0 and 3650"),
        ("06", "renew_before_days", "3651", "3651 days is not between 0 and 3650"),
        ("06", "renew_before_days", "30.5", "is not a whole number"),
        ("06", "renew_before_days", "soon", "is not a whole number"),
        ("06", "key", "old", "parameter key: 'old' is none of: new, same"),
        ("06", "key", "", "parameter key"),
        ("06", "revoke_old", "true", "parameter revoke_old: 'true' is none of: no, yes"),
        ("06", "host", "ssh://root:secret-word@relay", "holds a password"),
        ("06", "host", "relay.example.test", "is not a host's address"),
        ("06", "probe_from", "testbed:relay", "is the host itself"),
        ("06", "ca_dir", "/srv/ca", "testbed is the passphrase of the testbed's own CA"),
        ("06", "ca_passphrase", PASSPHRASE, "is not a reference to a secret"),
        ("06", "approve", "yes", "parameter approve"),
        ("06", "valid_days", "365", "is not a parameter of this runbook"),
        ("01", "common_name", "", "parameter common_name"),
        ("01", "common_name", "a\x1b[31m", "control character"),
        ("01", "common_name", "Example\nMail CA", "control character"),
        ("01", "organization", "Exam\0ple", "control character"),
        ("01", "country", "Germany", "parameter country"),
        ("01", "valid_days", "0", "0 days is not between 1 and"),
        ("01", "key_type", "rsa-2048", "parameter key_type"),
        ("01", "name_constraints", "example.test,not a domain", "parameter name_constraints"),
        ("01", "ca_passphrase", f"pass:{PASSPHRASE}", "is not a reference to a secret"),
    ],
)
def test_a_bad_value_is_refused_at_once(
    audit_dir: Path, capsys: pytest.CaptureFixture[str], runbook: str, name: str, value: str, problem: str
) -> None:
    assert main(["run", runbook, "-p", name, value]) == 2
    said = capsys.readouterr()
    assert problem in said.err
    assert "State: nothing was touched" in said.err
    assert "Traceback" not in said.err
    # Neither a secret given by mistake nor a character that a terminal would act upon is repeated.
    for text in (said.out + said.err, *(path.read_text() for path in audit_dir.rglob("*") if path.is_file())):
        assert PASSPHRASE not in text
        assert "secret-word" not in text
        assert "\x1b" not in text
    assert not audit_dir.exists()


def test_a_notebook_refuses_a_relative_path(tmp_path: Path) -> None:
    """The command makes it absolute from where it was started; a notebook's own directory is anybody's guess."""
    runbooks = Runbooks(tmp_path / "audit")
    with pytest.raises(BadParameter, match="'ca' is not a whole path"):
        runbooks.bind("01", ca_dir="ca", ca_passphrase="env:PASS")
    with pytest.raises(BadParameter, match="relative path"):
        runbooks.bind("01", ca_dir="/srv/ca", ca_passphrase="file:pass")
    assert not (tmp_path / "audit").exists()


def test_a_notebook_refuses_a_value_of_another_type(tmp_path: Path) -> None:
    runbooks = Runbooks(tmp_path / "audit")
    with pytest.raises(BadParameter, match="quote it"):
        runbooks.bind("02", hostname=12)
    with pytest.raises(BadParameter, match="must be a whole number"):
        runbooks.bind("02", valid_days="365")


# -- what only shows when the CA directory is looked at


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    """Parameters of a CA of one's own."""
    monkeypatch.setenv("CA_PASS", PASSPHRASE)
    return {"ca_dir": str(tmp_path / "ca"), "ca_passphrase": "env:CA_PASS", "approve": "auto"}


@pytest.fixture
def runs(tmp_path: Path) -> Runbooks:
    return Runbooks(tmp_path / "audit")


def listing(directory: Path) -> list[tuple[str, int, int, bytes]]:
    return [
        (str(path), path.lstat().st_mode, path.lstat().st_mtime_ns, path.read_bytes() if path.is_file() else b"")
        for path in sorted(directory.rglob("*"))
    ]


def test_a_directory_with_another_ca_is_left_as_it_is(runs: Runbooks, own: dict[str, str]) -> None:
    assert runs("01", **own, common_name="Elder CA").outcome == "changed"
    there = listing(Path(own["ca_dir"]))
    ran = runs("01", **own)
    assert ran.exit_status == 2
    assert "holds another CA: its name is /CN=Elder CA, asked for is /CN=Example Mail CA" in ran.said
    assert "State: nothing was touched" in ran.said
    assert listing(Path(own["ca_dir"])) == there


def test_a_passphrase_that_is_missing_or_wrong(
    runs: Runbooks, own: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CA_PASS")
    missing = runs("01", **own)
    assert missing.exit_status == 2
    assert "the environment variable CA_PASS is not set or is empty" in missing.said
    assert not Path(own["ca_dir"]).exists()
    monkeypatch.setenv("CA_PASS", PASSPHRASE)
    assert runs("01", **own).outcome == "changed"
    there = listing(Path(own["ca_dir"]))
    monkeypatch.setenv("CA_PASS", "quite another one")
    # No host is contacted before the CA is known to be able to sign.
    wrong = runs("02", **own, host="docker://mailtls-nb-nowhere", probe_from="here")
    assert wrong.exit_status == 2
    assert "ca_passphrase" in wrong.said
    assert "quite another one" not in wrong.said
    assert listing(Path(own["ca_dir"])) == there
    # 01 on a CA that is there proves the passphrase too, and touches nothing.
    again = runs("01", **own)
    assert again.outcome == "failed"
    assert "its private key opens with the passphrase" in again.said
    assert listing(Path(own["ca_dir"])) == there


def test_a_certificate_may_not_outlive_its_ca(runs: Runbooks, own: dict[str, str]) -> None:
    assert runs("01", **own, valid_days=100).outcome == "changed"
    ran = runs("02", **own, valid_days=101, host="docker://mailtls-nb-nowhere", probe_from="here")
    assert ran.exit_status == 2
    assert "parameter valid_days" in ran.said


def test_a_ca_that_is_not_there(runs: Runbooks, own: dict[str, str]) -> None:
    ran = runs("02", **own, host="docker://mailtls-nb-nowhere", probe_from="here")
    assert ran.exit_status == 2
    assert "make it with the runbook 01-create-ca first" in ran.said
    ran = runs("06", **own, host="docker://mailtls-nb-nowhere", probe_from="here")
    assert ran.exit_status == 2
    assert "make it with the runbook 01-create-ca first" in ran.said


def test_a_file_system_that_is_full_for_the_ca(runs: Runbooks, own: dict[str, str], tmp_path: Path) -> None:
    """A whole CA or none."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a small file system")
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16k,mode=0700", "tmpfs", small], check=True)
    try:
        ran = runs("01", **{**own, "ca_dir": str(small / "ca")})
        left = listing(small)
    finally:
        subprocess.run(["umount", small], check=True)
    assert ran.outcome == "failed"
    assert ran.exit_status == 1
    assert "No space left on device" in ran.said
    assert "State: nothing was made" in ran.said
    assert "Next: " in ran.said
    assert left == []


# -- hosts


@pytest.mark.parametrize(
    ("host", "problem"),
    [
        ("ssh://root@127.0.0.1:9", "Connection refused"),
        ("docker://mailtls-nb-nowhere", "No such container"),
    ],
)
@pytest.mark.testbed
def test_a_host_that_cannot_be_reached(
    runs: Runbooks, own: dict[str, str], host: str, problem: str, testbed: Testbed
) -> None:
    assert runs("01", **own).outcome == "changed"
    ran = runs("02", **own, host=host, probe_from="here")
    assert ran.exit_status == 2
    assert problem in ran.said
    assert "Next: " in ran.said
