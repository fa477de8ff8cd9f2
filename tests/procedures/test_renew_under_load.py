"""06 while mail flows in both directions all the time: every message arrives, each once, and none comes back."""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from mailtls_nb.pki import revoking
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.testbed import Testbed
from mailtls_nb.testbed.organisation import partner_organisation
from tests.procedures.ageing import Installed, serial_on_port
from tests.procedures.conftest import Machines, Runbooks
from tests.procedures.load import Load

pytestmark = pytest.mark.testbed

RELAY = "relay.example.test"


def test_not_one_message_is_lost(pristine: Testbed, machines: Machines, runbooks: Runbooks) -> None:
    assert runbooks("01").outcome == "changed"
    assert runbooks("02").outcome == "changed"
    ca = CADirectory.open(pristine.ca_dir)
    # It has a certificate of its own, and verifies ours.
    partner_organisation(pristine)
    relay = Installed(machines.relay, f"/etc/mail/certs/{RELAY}.pem")
    hosts = {"host": f"docker://{machines.relay.name}", "probe_from": f"docker://{machines.stranger.name}"}
    load = Load(
        {
            "in": (machines.stranger, machines.relay, f"root@{RELAY}"),
            "out": (machines.relay, machines.partner, "root@partner.example.test"),
            "back": (machines.partner, machines.relay, f"root@{RELAY}"),
        }
    )
    serials = [relay.serial]
    with load.flowing():
        for key in ("new", "same", "new"):
            # What is revoked is due at once; no mail server here is told of it.
            revoking.revoke(ca, [serials[-1]], "superseded", now=datetime.now(UTC))
            ran = runbooks("06", **hosts, approve="auto", key=key)
            assert ran.outcome == "changed", ran.error
            serials.append(serial_on_port(machines.stranger, RELAY, relay.serial))
    assert len(set(serials)) == 4
    account = load.account()
    arrived = Counter(name.partition("-")[0] for name in account.arrived)
    print(f"3 renewals, {len(account.sent)} messages sent; arrived: {dict(arrived)}; {len(account.problems)} problems")
    assert account.problems == []
    assert all(arrived[way] > 50 for way in ("in", "out", "back")), arrived
    # They went over TLS all the while, and relay was verified by its certificate wherever that is asked for.
    assert machines.relay.log().count("STARTTLS=server, relay=stranger.example.test") > 50
    verified = re.findall(r"STARTTLS=server, relay=relay\.example\.test .* verify=(\w+)", machines.partner.log())
    # sendmail reads certificate and key one after the other: a delivery that does so in the moment of the rename has
    # those of two files, says so, and goes on without a certificate. One for each new key is what that can come to.
    torn = machines.relay.log().count("STARTTLS=client, error: SSL_CTX_check_private_key failed")
    assert verified.count("NO") == torn <= 2
    assert (set(verified) - {"NO"}, len(verified) > 50) == ({"OK"}, True)

    # This would have been noticed: a message that was lost, one that came twice, one that came back, one that waits.
    name = next(iter(account.sent))
    assert replace(account, arrived=account.arrived - Counter([name])).problems == [f"lost: {name}"]
    assert replace(account, arrived=account.arrived + Counter([name])).problems == [f"arrived more than once: {name}"]
    machines.stranger.sh(f"echo | /usr/sbin/sendmail -i nobody-here@{RELAY}")
    machines.partner.sh("echo >/var/mail/root")
    machines.relay.sh("touch /var/spool/mqueue/dfplanted")
    try:
        noticed = load.account(tries=5).problems
    finally:
        machines.relay.sh("rm /var/spool/mqueue/dfplanted")
    assert sum(problem.startswith("lost: out-") for problem in noticed) == arrived["out"]
    assert [problem for problem in noticed if problem.startswith("came back: ") and "User unknown" in problem]
    assert "waits: /var/spool/mqueue/dfplanted" in noticed
