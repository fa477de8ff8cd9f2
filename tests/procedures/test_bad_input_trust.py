"""Bad input to 03: refused before any host is contacted, and said clearly."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

from mailtls_nb.errors import BadParameter
from tests.procedures.conftest import Ran, Runbooks, assert_refused

DIGEST = "0a" * 32
FILE = "/srv/partner.pem"


@pytest.mark.parametrize(
    ("name", "value", "problem"),
    [
        ("action", "revoke", "is none of: trust, untrust"),
        ("action", "trust\n", "holds a control character"),
        ("action", "Trust", "is none of"),
        ("partner", "", "parameter partner: is empty"),
        ("partner", "partner.example.test\n", "holds a control character"),
        ("partner", "partner.example.test\t", "holds a control character"),
        ("partner", "partner\0.example.test", "holds a control character"),
        ("partner", "partner.example.test'", "is not a host name"),
        ("partner", 'partner.example.test"', "is not a host name"),
        ("partner", "`id`.example.test", "is not a host name"),
        ("partner", "$(id).example.test", "is not a host name"),
        ("partner", "partner.example.test;id", "is not a host name"),
        ("partner", "define(`x',`y').example.test", "is not a host name"),
        ("partner", "../../etc/cron.d/x", "is not a host name"),
        ("partner", "-partner.example.test", "is not a host name"),
        ("partner", "p\u0430rtner.example.test", "may look like others"),  # a Cyrillic letter
        ("partner", "*.example.test", "is a wildcard"),
        ("partner", "192.0.2.1", "is an IP address"),
        ("partner", "partner", "has no domain"),
        ("partner", f"{'a' * 63}.{'b' * 63}.{'c' * 63}.{'d' * 63}.test", "is longer than 253 characters"),
        ("partner_ca", "", "is not a whole path"),
        ("partner_ca", "/srv/a\nb.pem", "holds a control character"),
        ("partner_ca", FILE, "testbed is the fingerprint of the testbed's own partner only"),
        ("partner_ca_fingerprint", "", "so nothing would say that the CA is the partner's"),
        ("partner_ca_fingerprint", DIGEST[:40], "as of SHA-1"),
        ("partner_ca_fingerprint", f"{DIGEST}\x1b[31m", "holds a control character"),
        ("partner_ca_fingerprint", f"{DIGEST}$(id)", "is not a SHA-256 fingerprint"),
        ("partner_ca_fingerprint", "sha256:*", "is not a SHA-256 fingerprint"),
        ("partner_crl", "/srv/crl\n.pem", "holds a control character"),
        ("host", "ssh://root:secret-word@relay", "holds a password"),
        ("host", "ssh://-oProxyCommand=id", "parameter host"),
        ("host", "docker://relay", "is no host of the testbed"),
        ("probe_from", "testbed:relay", "is the host itself"),
        ("approve", "yes", "parameter approve"),
        ("fingerprint", DIGEST, "did you mean partner_ca_fingerprint"),
    ],
)
def test_a_bad_value_is_refused_at_once(
    audit_dir: Path, capsys: pytest.CaptureFixture[str], name: str, value: str, problem: str
) -> None:
    assert_refused("03", {name: value}, problem, audit_dir, capsys)


def test_a_crl_is_not_for_untrusting(tmp_path: Path) -> None:
    runbooks = Runbooks(tmp_path / "audit")
    with pytest.raises(BadParameter, match="is not used to untrust"):
        runbooks.bind("03", action="untrust", partner_crl="/srv/crl.pem")


# -- what only shows when the file is read: no host is contacted before


@pytest.fixture
def refused(tmp_path: Path) -> Refused:
    return Refused(tmp_path)


class Refused:
    """Runs of 03 on a host that does not exist: whoever asks it anything fails in another way."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.runbooks = Runbooks(path / "audit")

    def __call__(self, **given: str) -> Ran:
        defaults = {"host": "docker://mailtls-nb-nowhere", "probe_from": "here", "approve": "auto"}
        ran = self.runbooks("03", **{**defaults, "partner_ca": str(self.path / "ca.pem"), **given})
        assert (ran.outcome, ran.exit_status) == ("failed", 2)
        assert "nothing was touched" in ran.said
        assert "mailtls-nb-nowhere" not in ran.said
        return ran


def test_a_file_that_is_not_there_or_is_none(refused: Refused) -> None:
    assert "No such file" in refused(partner_ca_fingerprint=DIGEST).said
    assert "is no file" in refused(partner_ca_fingerprint=DIGEST, partner_ca="/dev/zero").said
    assert "is no file" in refused(partner_ca_fingerprint=DIGEST, partner_ca="/").said
    os.mkfifo(refused.path / "pipe")
    assert "is no file" in refused(partner_ca_fingerprint=DIGEST, partner_ca=str(refused.path / "pipe")).said
    long = refused.path / ("a" * 300)
    assert "File name too long" in refused(partner_ca_fingerprint=DIGEST, partner_ca=str(long)).said


def test_a_file_with_a_key_is_refused_and_its_key_not_repeated(refused: Refused) -> None:
    argv = ["openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=x", "-keyout", "-", "-out", "-"]
    both = subprocess.run(argv, check=True, capture_output=True, text=True).stdout
    (refused.path / "ca.pem").write_text(both)
    ran = refused(partner_ca_fingerprint=DIGEST)
    assert "it holds a private key" in ran.said
    secret = both.split("PRIVATE KEY-----")[1].split()[1]
    kept = "".join(path.read_text() for path in ran.folder.rglob("*") if path.is_file())
    assert secret not in ran.said + kept


def test_another_ca_than_the_fingerprint_says(refused: Refused) -> None:
    """A file exchanged on its way: it is sound, and not the partner's."""
    argv = [
        "openssl",
        "req",
        "-x509",
        "-nodes",
        "-newkey",
        "rsa:2048",
        "-subj",
        "/CN=Partner CA",
        "-keyout",
        "/dev/null",
    ]
    pem = subprocess.run([*argv, "-out", "-"], check=True, capture_output=True, text=True).stdout
    (refused.path / "ca.pem").write_text(pem)
    said = refused(partner_ca_fingerprint=DIGEST).said
    assert f"no certificate in it has the fingerprint {bytes.fromhex(DIGEST).hex(':').upper()}" in said
    assert "compare with what the partner told you by another way" in said
