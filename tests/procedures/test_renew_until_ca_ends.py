"""06 with a CA that ends before a new certificate's lifetime is over: it ends with the CA."""

from __future__ import annotations

from datetime import timedelta

import pytest

from mailtls_nb.testbed import Testbed
from tests.procedures.ageing import Installed, old_ca
from tests.procedures.conftest import Machines, Runbooks

pytestmark = pytest.mark.testbed

RELAY = "relay.example.test"


def test_the_new_certificate_ends_with_its_ca_by_a_plan_that_stays_the_same(
    pristine: Testbed, machines: Machines, runbooks: Runbooks
) -> None:
    ca = old_ca(pristine.ca_dir, pristine.passphrase(), valid_days=800)
    ends = ca.ca_certificate.not_valid_after_utc
    assert runbooks("02", valid_days=99).outcome == "changed"
    relay = Installed(machines.relay, f"/etc/mail/certs/{RELAY}.pem")
    relay.age(ca, pristine.passphrase(), 340, valid_days=365)
    shown = runbooks("06", approve="")
    (sign,) = [step for step in shown.record["plan"]["steps"] if step["action"] == "sign"]
    assert sign["sentence"].endswith(f"valid for 365 days, at most until the CA ends on {ends:%Y-%m-%d}.")
    assert sign["settings"]["valid_until"] == f"{ends:%Y-%m-%d}"
    assert "The new certificate is for 99 days only: then the CA itself ends" in shown.shown["observe"]
    ran = runbooks("06", approve=shown.digest)
    assert (ran.outcome, ran.exit_status) == ("changed", 0)
    assert timedelta(0) <= ends - relay.certificate.not_valid_after_utc < timedelta(days=1)
    assert runbooks("06").outcome == "unchanged"
