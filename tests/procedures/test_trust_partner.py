"""03-trust-partner on the testbed: trusted, proved with the partner, again, approved by digest, and taken away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes

from mailtls_nb.library import find
from mailtls_nb.testbed import Testbed
from tests.procedures.conftest import Machine, Machines, Ran, Runbooks

pytestmark = pytest.mark.testbed

CERTS = "/etc/mail/certs"
# By the host's own OpenSSL, which trusts nothing but the directory.
VERIFY = f"openssl verify -no-CAfile -no-CAstore -CApath {CERTS}"


def handshakes(relay: Machine, since: int) -> list[str]:
    """``client verify=OK`` and the like, for connections with the partner, from the log as it is."""
    lines = [line for line in relay.log().splitlines()[since:] if "STARTTLS=" in line and "relay=partner." in line]
    return [
        f"{line.partition('STARTTLS=')[2].partition(',')[0]} verify={line.partition('verify=')[2].partition(',')[0]}"
        for line in lines
    ]


@pytest.fixture(scope="module")
def ready(runbooks: Runbooks, machines: Machines) -> dict[str, str]:
    """A relay with a certificate of its own, and what its files were before the partner was trusted."""
    assert runbooks("01").outcome == "changed"
    assert runbooks("02").outcome == "changed"
    return machines.relay.tree()


@pytest.fixture(scope="module")
def first(ready: dict[str, str], runbooks: Runbooks, machines: Machines) -> Ran:
    """The runbook with its defaults. The tests below it look at what it left."""
    daemon, since = machines.relay.daemon(), len(machines.relay.log().splitlines())
    ran = runbooks("03")
    assert ran.error is None
    assert machines.relay.daemon() == daemon  # hash directories are read at each handshake
    words = handshakes(machines.relay, since)
    assert sorted(words[:2]) == ["client verify=FAIL", "server verify=FAIL"]
    assert sorted(words[2:]) == ["client verify=OK", "server verify=OK"]
    return ran


@pytest.fixture(scope="module")
def partner_ca(first: Ran, pristine: Testbed) -> x509.Certificate:
    return x509.load_pem_x509_certificate((pristine.partner_ca_dir / "cacert.pem").read_bytes())


def test_the_record_says_what_was_done_and_seen(first: Ran) -> None:
    assert (first.outcome, first.exit_status) == ("changed", 0)
    assert first.actions == ["write", "link"]
    assert first.claims == {
        "the CA offered is one that sendmail trusts": ("OK", "inspection"),
        "the certificate of partner.example.test on port 25, seen from the host": ("verified", "live"),
        "a message to partner.example.test": ("verify=OK", "live"),
        "a message from partner.example.test": ("verify=OK", "live"),
        "a client with a certificate of an unknown CA": ("verify=FAIL", "live"),
    }
    assert all(claim["fails_when"] for claim in first.record["claims"])
    assert "logs for a message to it    verify=FAIL" in first.shown["observe"]
    assert "logs for a message from it  verify=FAIL" in first.shown["observe"]


def test_the_ca_lies_there_as_openssl_wants_it(first: Ran, partner_ca: x509.Certificate, machines: Machines) -> None:
    short = partner_ca.fingerprint(hashes.SHA256()).hex()[:12]
    name = f"partner-partner.example.test-{short}.pem"
    (link,) = machines.relay.sh(f"cd {CERTS}; find . -type l -printf '%f %l\\n'").splitlines()
    hashed = machines.relay.sh(f"openssl x509 -hash -noout -in {CERTS}/{name}").strip()
    assert link == f"{hashed}.0 {name}"
    assert machines.relay.sh(f"stat -c '%a %U:%G' {CERTS}/{name}").strip() == "644 root:root"
    assert machines.relay.sh(f"cat {CERTS}/{name} | {VERIFY}").strip() == "stdin: OK"


def test_02_stays_as_it_is(first: Ran, runbooks: Runbooks) -> None:
    """Neither runbook undoes the other."""
    assert runbooks("02").outcome == "unchanged"


def test_again_headless_under_papermill_changes_nothing(first: Ran, machines: Machines, tmp_path: Path) -> None:
    tree = machines.relay.tree()
    argv = [sys.executable, "-m", "papermill", "--engine", "mailtls", "--no-progress-bar", str(find("03").path)]
    environment = {**os.environ, "MAILTLS_AUDIT_DIR": str(tmp_path / "audit"), "MAILTLS_HEADLESS": "1"}
    subprocess.run([*argv, str(tmp_path / "out.ipynb")], env=environment, check=True, capture_output=True)
    (record,) = (tmp_path / "audit").glob("*/record.json")
    predicate = json.loads(record.read_bytes())["predicate"]
    assert predicate["outcome"] == "unchanged"
    assert {claim["claim"]: claim["observed"] for claim in predicate["claims"]} == {
        claim: observed for claim, (observed, _) in first.claims.items()
    }
    assert machines.relay.tree() == tree


@pytest.fixture(scope="module")
def untrusted(first: Ran, ready: dict[str, str], runbooks: Runbooks, machines: Machines) -> Ran:
    """Taken away, by the digest of a plan that was looked at before."""
    planned = runbooks("03", action="untrust", approve="")
    assert (planned.outcome, planned.actions) == ("planned", ["remove", "remove"])
    return runbooks("03", action="untrust", approve=planned.digest)


def test_untrust_leaves_nothing_behind(untrusted: Ran, ready: dict[str, str], machines: Machines) -> None:
    assert (untrusted.outcome, untrusted.error) == ("changed", None)
    assert machines.relay.tree() == ready


def test_untrust_is_proved_with_the_partner(untrusted: Ran) -> None:
    assert untrusted.claims == {
        "the CA is none that sendmail trusts": ("refused", "inspection"),
        "the host's own certificate verifies as before": ("OK", "inspection"),
        "the certificate of partner.example.test on port 25, seen from the host": ("not verified", "live"),
        "a message to partner.example.test": ("verify=FAIL", "live"),
        "a message from partner.example.test": ("verify=FAIL", "live"),
    }
    assert all(claim["fails_when"] for claim in untrusted.record["claims"])
