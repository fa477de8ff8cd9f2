"""02 on a host that trusts others already: whom it verified before, it verifies after."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.testbed import Testbed
from tests.procedures.conftest import Machines, Runbooks

pytestmark = pytest.mark.testbed

OLD = "/etc/mail/old"


def _another_ca(tmp_path: Path) -> str:
    out = tmp_path / "partner-ca.pem"
    argv = ["openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=A Partner CA", "-days", "9"]
    subprocess.run([*argv, "-keyout", tmp_path / "key", "-out", out], check=True, capture_output=True)
    return out.read_text()


def test_the_cas_of_a_file_and_of_a_directory_in_use_stay_trusted(
    pristine: Testbed, runbooks: Runbooks, machines: Machines, tmp_path: Path
) -> None:
    """The operator's own settings stand in sendmail.mc, before the place of our block."""
    relay, partner_ca = machines.relay, _another_ca(tmp_path)
    relay.sh(f"mkdir -m 755 {OLD} && cat >{OLD}/cas.pem && chmod 644 {OLD}/cas.pem", stdin=partner_ca)
    mc = relay.sh("cat /etc/mail/sendmail.mc")
    own = f"define(`confCACERT', `{OLD}/cas.pem')dnl\ndefine(`confCACERT_PATH', `{OLD}')dnl\nMAILER_DEFINITIONS\n"
    relay.sh("cat >/etc/mail/sendmail.mc", stdin=mc.replace("MAILER_DEFINITIONS\n", own))
    relay.sh("make -C /etc/mail && /etc/init.d/sendmail reload")
    assert f"O CACertFile={OLD}/cas.pem" in relay.sh("cat /etc/mail/sendmail.cf")
    runbooks("01")

    planned = runbooks("02", approve="", roles="client")
    assert "+ /CN=A Partner CA" in planned.shown["plan"]
    assert f"CACertPath stays {OLD}" in planned.shown["observe"]

    ran = runbooks("02")
    assert ran.outcome == "changed"
    cf = relay.sh("cat /etc/mail/sendmail.cf")
    assert f"O CACertPath={OLD}" in cf
    assert "O CACertFile=/etc/mail/certs/cacert.pem" in cf
    trusted = relay.sh("cat /etc/mail/certs/cacert.pem")
    assert partner_ca.strip() in trusted
    assert CADirectory.open(pristine.ca_dir).layout.certificate.read_text().strip() in trusted
    # The operator's own file is as it was.
    assert relay.sh(f"cat {OLD}/cas.pem") == partner_ca
    assert runbooks("02").outcome == "unchanged"
