"""02 as an operator uses it on his own hosts: nothing is delivered there, and every claim is live all the same."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailtls_nb.pki import revoking
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.testbed import Testbed
from tests.procedures.conftest import Machine, Machines, Runbooks

pytestmark = pytest.mark.testbed

CLAIMS = [
    "STARTTLS is offered",
    "the certificate on port 25 is the one installed",
    "the chain leads to the CA and is for relay.example.test",
    "the same chain is refused for another name",
    "a client without a certificate is not taken for verified",
    "the certificate is accepted from a client that shows it",
]
# An account with sudo for the host's sshd; the testbed's image has both packages.
SSHD = r"""
set -e
useradd -m -s /bin/bash keeper
install -d -m 0700 -o keeper -g keeper /home/keeper/.ssh
printf '%s\n' "$1" >/home/keeper/.ssh/authorized_keys
echo 'keeper ALL=(ALL) NOPASSWD: ALL' >/etc/sudoers.d/keeper
ssh-keygen -A >/dev/null
/usr/sbin/sshd
cat /etc/ssh/ssh_host_ed25519_key.pub
"""


@pytest.fixture(scope="module")
def own_ca(runbooks: Runbooks, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    directory = tmp_path_factory.mktemp("ca")
    (directory / "passphrase").write_text("correct horse battery staple\n")
    given = {"ca_dir": f"{directory}/ca", "ca_passphrase": f"file:{directory}/passphrase", "approve": "auto"}
    assert runbooks("01", **given, organization="Own", common_name="Own CA").outcome == "changed"
    return given


def mails(machine: Machine) -> list[str]:
    """Lines of messages in the log, of the whole log."""
    return [line for line in machine.log().splitlines() if "msgid=" in line or "stat=" in line or "to=<" in line]


def test_a_host_named_by_its_container(machines: Machines, runbooks: Runbooks, own_ca: dict[str, str]) -> None:
    given = {**own_ca, "host": f"docker://{machines.relay.name}", "probe_from": f"docker://{machines.stranger.name}"}
    ran = runbooks("02", **given)
    assert (ran.outcome, ran.exit_status, ran.record["approval"]["how"]) == ("changed", 0, "auto")
    assert list(ran.claims) == CLAIMS
    assert {proof for _, proof in ran.claims.values()} == {"live"}
    assert ran.claims["the certificate is accepted from a client that shows it"] == ("verify=OK", "live")
    assert mails(machines.relay) == mails(machines.stranger) == mails(machines.partner) == []
    # The instrument for that claim is the log, which tells of a client with a certificate and of one without.
    log = machines.relay.log()
    assert "relay=localhost [127.0.0.1], version=TLSv1.3, verify=OK" in log
    assert "relay=stranger.example.test" in log
    # Nothing is changed on the probe.
    assert machines.stranger.sh("ls -d /var/lib/mailtls-nb 2>/dev/null || :") == ""
    again = runbooks("02", **given)
    assert (again.outcome, again.actions) == ("unchanged", [])

    assert runbooks("06", **given).outcome == "unchanged"
    ca = CADirectory.open(Path(own_ca["ca_dir"]))
    revoking.revoke(ca, [row.serial for row in ca.rows()], "superseded", now=datetime.now(UTC))
    renewed = runbooks("06", **given)
    assert (renewed.outcome, renewed.exit_status) == ("changed", 0)
    assert list(renewed.claims) == [*CLAIMS, "the key in /etc/mail/certs/relay.example.test.pem is a new one"]
    assert mails(machines.relay) == mails(machines.stranger) == mails(machines.partner) == []
    assert runbooks("06", **given).outcome == "unchanged"


@pytest.fixture
def over_ssh(machines: Machines, pristine: Testbed, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """partner, reached by ssh as an account that needs sudo; the operator's ssh configuration is one of the test's."""
    key, known_hosts = tmp_path / "key", tmp_path / "known_hosts"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    host_key = machines.partner.sh(SSHD, key.with_suffix(".pub").read_text().strip()).strip()
    address = pristine.address("partner")
    known_hosts.write_text(f"{address} {host_key}\n")
    config = tmp_path / "config"
    config.write_text(
        f"Host partner\nHostName {address}\nUser keeper\nIdentityFile {key}\nIdentitiesOnly yes\nIdentityAgent none\n"
        f"UserKnownHostsFile {known_hosts}\nGlobalKnownHostsFile /dev/null\n"
    )
    wrapper = tmp_path / "bin" / "ssh"
    wrapper.parent.mkdir()
    wrapper.write_text(f'#!/bin/sh\nexec {shutil.which("ssh")} -F {shlex.quote(str(config))} "$@"\n')
    wrapper.chmod(wrapper.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{wrapper.parent}:{os.environ['PATH']}")
    return "ssh://partner?sudo=yes"


def test_a_host_reached_by_ssh_with_sudo(
    machines: Machines, runbooks: Runbooks, own_ca: dict[str, str], over_ssh: str
) -> None:
    given = {**own_ca, "host": over_ssh, "hostname": "partner.example.test"}
    given["probe_from"] = f"docker://{machines.stranger.name}"
    before = machines.partner.tree()
    planned = runbooks("02", **{**given, "approve": ""})
    assert (planned.outcome, planned.exit_status) == ("planned", 0)
    assert machines.partner.tree() == before
    ran = runbooks("02", **{**given, "approve": planned.digest})
    assert (ran.outcome, ran.record["approval"]["how"]) == ("changed", "digest")
    assert [claim.replace("partner", "relay") for claim in ran.claims] == CLAIMS
    assert {proof for _, proof in ran.claims.values()} == {"live"}
    pem = "/etc/mail/certs/partner.example.test.pem"
    assert machines.partner.sh(f"stat -c '%a %U:%G' {pem}").strip() == "600 root:root"
    assert mails(machines.partner) == []
    # It went by ssh, as that account.
    assert re.search(r"sudo: +keeper : .*USER=root ; COMMAND=", machines.partner.sh("cat /var/log/auth.log"))
    assert runbooks("02", **given).outcome == "unchanged"
