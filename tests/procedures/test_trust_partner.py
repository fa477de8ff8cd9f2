"""03-trust-partner on the testbed: trusted, proved with the partner, again, approved by digest, and taken away."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
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


BLOCK = "# BEGIN mailtls-nb: rules\n# partner: partner.example.test\n{}\n# END mailtls-nb"
THIS_CA, OUR_CA = "CI:/CN=Partner+20Mail+20CA", "CI:/CN=Example+20Mail+20CA"


@contextmanager
def in_force(relay: Machine, rules: str) -> Iterator[None]:
    """The access map with these lines at its end, and as it was."""
    make = "makemap hash access <access"
    relay.sh(f"cd /etc/mail && cp -p access access.db /root && cat >>access && {make}", stdin=f"{rules}\n")
    try:
        yield
    finally:
        relay.sh("cd /root && mv access access.db /etc/mail")


@pytest.mark.parametrize(
    ("rule", "why"),
    [
        (BLOCK.format("TLS_Srv:partner.example.test\tTEMP+VERIFY:112"), "only with a verified certificate"),
        (BLOCK.format(f"TLS_Clt:192.0.2.1\tPERM+VERIFY+{THIS_CA}"), "only with a verified certificate"),
        (f"TLS_Clt:other.example.test VERIFY:112+CN++{THIS_CA}", "ask for certificates of this CA by its name"),
        (f"tls_srv:other.example.test verify+{THIS_CA.lower()}++CN:x", "ask for certificates of this CA by its name"),
    ],
)
def test_a_ca_that_a_rule_needs_stays_trusted(
    rule: str, why: str, first: Ran, runbooks: Runbooks, machines: Machines
) -> None:
    """Without it the partner's mail would be refused, and ours to it would wait until it is bounced."""
    with in_force(machines.relay, rule):
        tree = machines.relay.tree()
        ran = runbooks("03", action="untrust")
        assert (ran.outcome, ran.exit_status) == ("failed", 2), ran.shown
        assert machines.relay.tree() == tree
    assert why in ran.said
    assert "/etc/mail/access, line " in ran.said
    assert "State: nothing was touched" in ran.said
    assert "Next: first run 04-enforce-access with requirement none" in ran.said


def test_rules_that_do_not_need_the_ca_are_no_hindrance(first: Ran, runbooks: Runbooks, machines: Machines) -> None:
    """The partner's rule asks for encryption, or for another root that stays trusted: it has changed its CA."""
    own = f"TLS_Srv:partner.example.test\tTEMP+ENCR:112\nTLS_Clt:192.0.2.1\tPERM+VERIFY+{OUR_CA}"
    with in_force(machines.relay, f"{BLOCK.format(own)}\nTLS_Clt:other.example.test VERIFY+{THIS_CA}+202"):
        assert runbooks("03", action="untrust", approve="").outcome == "planned"


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
