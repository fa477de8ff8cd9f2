"""Hosts on which a certificate cannot be put into service: each named as what it is, and left as it was."""

from __future__ import annotations

import ipaddress
import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from mailtls_nb.testbed import Testbed
from tests.procedures.conftest import Machine, Machines, Ran, Runbooks

pytestmark = pytest.mark.testbed


@pytest.fixture(scope="module")
def spoiled(pristine: Testbed, machines: Machines) -> Iterator[Machine]:
    """A mail server to be spoiled, in a container of its own, that stranger takes for relay.

    It has a file system of three pages at /etc/small and one at /etc/frozen that cannot be written.
    """
    (relay,) = pristine.engine.inspect("container", machines.relay.name, doing="looking at relay")
    (network,) = relay["NetworkSettings"]["Networks"]
    address = str(ipaddress.ip_address(pristine.address("relay")) + 100)
    lines = [line.replace(f"{pristine.address('relay')} ", f"{address} ") for line in pristine.hosts_lines()]
    machine = Machine(pristine.engine.argv, f"mailtls-nb-spoiled-{uuid.uuid4().hex[:8]}")
    pristine.engine.run(
        *("run", "-d", "--name", machine.name, "--hostname", "relay.example.test"),
        *("--network", network, "--ip", address, "--env", "TESTBED_HOSTS=" + "\n".join(lines)),
        *("--tmpfs", "/etc/small:size=12k,mode=0755", "--tmpfs", "/etc/frozen:ro", relay["Image"]),
        doing="starting a container",
    )
    try:
        machine.sh("/usr/local/lib/testbed/ready 30")
        pristine.set_dns("stranger", lines)
        yield machine
    finally:
        pristine.engine.attempt("rm", "-f", machine.name)


@pytest.fixture(scope="module")
def given(
    spoiled: Machine, machines: Machines, runbooks: Runbooks, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, str]:
    """The parameters to run 02 on it with a CA of one's own."""
    directory = tmp_path_factory.mktemp("ca")
    (directory / "passphrase").write_text("correct horse battery staple\n")
    ca = {"ca_dir": f"{directory}/ca", "ca_passphrase": f"file:{directory}/passphrase", "approve": "auto"}
    assert runbooks("01", **ca).outcome == "changed"
    return {**ca, "host": f"docker://{spoiled.name}", "probe_from": f"docker://{machines.stranger.name}"}


def run_on(spoiled: Machine, runbooks: Runbooks, given: dict[str, str], spoil: str, mend: str, **more: str) -> Ran:
    """Run 02 on the spoiled host; everything there must be as before."""
    index = Path(given["ca_dir"]) / "index.txt"
    rows = index.read_bytes()
    spoiled.sh(spoil)
    try:
        tree, small = spoiled.tree(), spoiled.sh("ls -lAR /etc/small")
        ran = runbooks("02", **{**given, **more})
        assert spoiled.tree() == tree
        assert spoiled.sh("ls -lAR /etc/small") == small
    finally:
        spoiled.sh(mend)
    assert ran.outcome == "failed"
    assert "State: " in ran.said
    assert "Next: " in ran.said
    if ran.exit_status == 2:
        assert index.read_bytes() == rows
    return ran


_MTA = "/usr/sbin/sendmail"


@pytest.mark.parametrize(
    ("spoil", "mend", "problem"),
    [
        pytest.param(f"mv {_MTA} {_MTA}.away", f"mv {_MTA}.away {_MTA}", "sendmail", id="no sendmail"),
        pytest.param(
            f"mv {_MTA} {_MTA}.away; printf '#!/bin/sh\\necho postdrop: usage\\n' >/usr/sbin/postfix; "
            f"chmod 755 /usr/sbin/postfix; ln -s postfix {_MTA}",
            f"rm /usr/sbin/postfix; mv -f {_MTA}.away {_MTA}",
            "Postfix",
            id="Postfix in its place",
        ),
        pytest.param(
            f"mv {_MTA} {_MTA}.away; printf '#!/bin/sh\\n{_MTA}.away \"$@\" | sed s/STARTTLS//\\n' >{_MTA}; "
            f"chmod 755 {_MTA}",
            f"mv -f {_MTA}.away {_MTA}",
            "STARTTLS",
            id="without STARTTLS",
        ),
        pytest.param("mv /usr/bin/openssl /openssl", "mv /openssl /usr/bin/openssl", "openssl", id="no openssl"),
        pytest.param("mv /usr/bin/m4 /m4", "mv /m4 /usr/bin/m4", "m4", id="no m4"),
        pytest.param(
            # Debian's own stop leaves the daemon running in a container.
            "kill $(sed -n 1p /run/sendmail/mta/sendmail.pid); while pgrep -f '[s]endmail: MTA'; do sleep 0.1; done",
            "/etc/init.d/sendmail start >/dev/null 2>&1; /usr/local/lib/testbed/ready 30",
            "port 25 of relay.example.test is not reached from",
            id="stopped",
        ),
        pytest.param(
            "cd /etc/mail; cp -p sendmail.cf /cf; sed -i 's/^#O MaxMessageSize.*/O MaxMessageSize=1/' sendmail.cf",
            "cp -p /cf /etc/mail/sendmail.cf",
            "does not build",
            id="cf edited by hand",
        ),
        pytest.param(
            "mkdir -m 0777 /etc/mail/certs; chmod 0777 /etc/mail/certs",
            "rm -r /etc/mail/certs",
            "can be written by others",
            id="directory open to all",
        ),
        pytest.param(
            "mkdir -m 0700 /etc/mail/certs; cd /etc/mail/certs; "
            "printf '%s CERTIFICATE-----\\n' -----BEGIN -----END >cacert.pem",
            "rm -r /etc/mail/certs",
            "/etc/mail/certs/cacert.pem",
            id="garbage as CA file",
        ),
        pytest.param(
            "echo 'dnl # BEGIN mailtls-nb: half a block' >>/etc/mail/sendmail.mc",
            "sed -i '/half a block/d' /etc/mail/sendmail.mc",
            "the markers of the managed block do not pair",
            id="half a block",
        ),
    ],
)
def test_what_is_found_before_anything_is_touched(
    spoiled: Machine, runbooks: Runbooks, given: dict[str, str], spoil: str, mend: str, problem: str
) -> None:
    ran = run_on(spoiled, runbooks, given, spoil, mend)
    assert ran.exit_status == 2
    assert problem in ran.said
    assert "nothing was touched" in ran.said


@pytest.mark.parametrize(
    ("cert_dir", "spoil", "problem"),
    [
        ("/etc/small/certs", "head -c 12k /dev/zero >/etc/small/big", "No space left on device"),
        # Room for the key and, beside it, not for the file with the certificate.
        ("/etc/small/certs", "head -c 8k /dev/zero >/etc/small/big", "No space left on device"),
        ("/etc/frozen/certs", ":", "Read-only file system"),
        ("/etc/nowhere/certs", ":", "No such file or directory"),
    ],
)
def test_what_fails_on_the_way_is_put_back(
    spoiled: Machine, runbooks: Runbooks, given: dict[str, str], cert_dir: str, spoil: str, problem: str
) -> None:
    daemon = spoiled.daemon()
    ran = run_on(spoiled, runbooks, given, spoil, "rm -f /etc/small/big", cert_dir=cert_dir)
    assert ran.exit_status == 1
    assert problem in ran.said
    assert "everything was put back and compared with its copy" in ran.said
    assert spoiled.daemon() == daemon
    assert spoiled.sh("ls /etc/small") == ""
    assert "STARTTLS" not in spoiled.ehlo()


def test_the_same_host_unspoiled(spoiled: Machine, runbooks: Runbooks, given: dict[str, str]) -> None:
    """So it was for what was spoiled that the runs above failed."""
    assert runbooks("02", **given).outcome == "changed"
