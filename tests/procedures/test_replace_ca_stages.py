"""09-replace-ca with its defaults on the testbed: stage by stage, its way back, and what is refused."""

from __future__ import annotations

import pytest

from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.succession import signing_directory, successor
from mailtls_nb.testbed import Testbed
from tests.procedures.conftest import Machine, Machines, Ran, Runbooks

pytestmark = pytest.mark.testbed

NEW_NAME, OLD = "Example Mail CA 2", "Example Mail CA"


def trusted_by(machine: Machine) -> list[str]:
    """The names in the file of trusted CAs, in its order."""
    printed = machine.sh("openssl crl2pkcs7 -nocrl -certfile /etc/mail/certs/cacert.pem | openssl pkcs7 -print_certs")
    return [line.rpartition("CN = ")[2] for line in printed.splitlines() if line.startswith("subject=")]


@pytest.fixture(scope="module")
def ready(machines: Machines, testbed: Testbed, runbooks: Runbooks) -> Testbed:
    for runbook in ("01", "02", "03"):
        assert runbooks(runbook).outcome == "changed"
    return testbed


@pytest.fixture(scope="module")
def both(ready: Testbed, runbooks: Runbooks) -> Ran:
    ran = runbooks("09")
    assert ran.error is None
    return ran


def test_what_is_out_of_turn_is_refused(ready: Testbed, runbooks: Runbooks, machines: Machines) -> None:
    """Before the first stage; nothing is touched, in the CA directory or on the host."""
    tree, index = machines.relay.tree(), (ready.ca_dir / "index.txt").read_bytes()
    for stage, said in (
        ("reissue", "does not trust the new CA yet"),
        ("withdraw", "does not trust the new CA yet"),
    ):
        ran = runbooks("09", stage=stage)
        assert (ran.outcome, ran.exit_status) == ("failed", 2)
        assert said in ran.said
    assert runbooks("09", stage="cancel").outcome == "unchanged"
    for name in ("Example Mail CA",):
        assert "is the name of the CA that is to be replaced" in runbooks("09", new_common_name=name).said
    assert machines.relay.tree() == tree
    assert (ready.ca_dir / "index.txt").read_bytes() == index
    assert [path.name for path in ready.state_dir.glob("ca-*")] == []


def test_both_are_trusted_and_partners_get_a_pack(both: Ran, ready: Testbed, machines: Machines) -> None:
    assert both.actions == ["create-ca", "cross-sign", "succession", "write", "reload"]
    assert both.claims["a client with a certificate of the new CA at testbed:relay"] == ("verify=OK", "live")
    (claim,) = [claim for claim in both.record["claims"] if "certificate of the new CA" in claim["claim"]]
    assert claim["fails_when"] == "before the change: verify=FAIL"
    assert trusted_by(machines.relay) == [NEW_NAME, NEW_NAME, OLD]
    pack = {path.name: path.read_bytes() for path in (both.folder / "partner-pack").iterdir()}
    assert {"CHANGE.md", "README.md", "fingerprint.txt", "cross-signed.pem", "example-mail-ca-2.pem"} <= set(pack)
    new = CADirectory.open(ready.ca_dir.with_name("ca-example-mail-ca-2"))
    assert new.fingerprint in pack["CHANGE.md"].decode()
    assert "NOT READY TO SEND" not in pack["README.md"].decode()
    assert "PRIVATE KEY" not in "".join(text.decode("latin-1") for text in pack.values())


def test_again_changes_nothing(both: Ran, runbooks: Runbooks, machines: Machines) -> None:
    tree = machines.relay.tree()
    ran = runbooks("09")
    assert (ran.outcome, ran.actions) == ("unchanged", [])
    assert machines.relay.tree() == tree


def test_the_old_one_signs_until_reissue(both: Ran, ready: Testbed, runbooks: Runbooks) -> None:
    assert signing_directory(ready.ca_dir) == ready.ca_dir
    assert runbooks("02").outcome == "unchanged"


def test_the_way_back_from_both(both: Ran, runbooks: Runbooks, ready: Testbed, machines: Machines) -> None:
    ran = runbooks("09", stage="cancel")
    assert (ran.outcome, ran.actions) == ("changed", ["write", "reload", "succession"])
    assert ran.claims["a client with a certificate of the new CA at testbed:relay"] == ("verify=FAIL", "live")
    assert trusted_by(machines.relay) == [OLD]
    assert successor(CADirectory.open(ready.ca_dir).layout) is None
    assert runbooks("09").actions == ["succession", "write", "reload"]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        ("TLS_Clt:mx2.example.test\tPERM+VERIFY:112+CI:/CN=Example+20Mail+20CA", "ask for certificates of"),
    ],
)
def test_a_rule_that_names_the_old_ca_is_in_the_way(
    rule: str, said: str, both: Ran, runbooks: Runbooks, machines: Machines
) -> None:
    relay = machines.relay
    relay.sh("cd /etc/mail && cp -p access access.db /root && cat >>access", stdin=f"{rule}\n")
    tree = relay.tree()
    ran = runbooks("09", stage="reissue")
    assert (ran.outcome, ran.exit_status) == ("failed", 2)
    assert "ask for certificates of /CN=Example Mail CA by its name" in ran.said
    assert relay.tree() == tree
    relay.sh("cd /root && mv access access.db /etc/mail")


def test_another_name_in_between_is_refused(both: Ran, runbooks: Runbooks) -> None:
    ran = runbooks("09", new_common_name="Example Mail CA 3")
    assert (ran.outcome, ran.exit_status) == ("failed", 2)
    assert "is being replaced" in ran.said


def test_to_the_end(both: Ran, runbooks: Runbooks, ready: Testbed, machines: Machines) -> None:
    """What is still of the old CA, and who has not confirmed, is named; a CRL of the old CA goes with it."""
    assert runbooks("05", crl_hosts="testbed:relay").outcome == "changed"
    ran = runbooks("09", stage="reissue")
    assert ran.outcome == "changed"
    assert ran.claims["who trusts only the old CA verifies what testbed:relay sends now"] == ("OK", "live")
    assert "if a rule of its names the old one (CI:)" in ran.shown["plan"].replace("\n", " ")
    # A host that nobody thought of: 02 signs by the new CA, and what leads to the old one is sent along there too.
    other = {"hostname": "stranger.example.test", "host": "testbed:stranger", "probe_from": "testbed:partner"}
    assert runbooks("02", **other).outcome == "changed"
    assert trusted_by(machines.stranger) == [NEW_NAME, NEW_NAME, OLD]
    assert "partner.example.test" in runbooks("09", stage="withdraw").said
    confirmed = {"stage": "withdraw", "partners_confirmed": "partner.example.test"}
    planned = runbooks("09", **confirmed, approve="")
    assert planned.actions == ["sign-crl", "write", "write", "reload", "succession"]
    ran = runbooks("09", **confirmed)
    assert ran.outcome == "changed"
    assert ran.claims["a client with a certificate of the old CA at testbed:relay"] == ("verify=FAIL", "live")
    crl = machines.relay.sh("cat /etc/mail/certs/ca-*.crl | openssl crl -noout -issuer")
    assert crl.strip().endswith(NEW_NAME)
    assert runbooks("05", action="refresh", crl_hosts="testbed:relay").outcome == "unchanged"
    assert runbooks("06", renew_before_days=30).outcome == "unchanged"
