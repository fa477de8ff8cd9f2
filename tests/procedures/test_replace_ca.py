"""09-replace-ca: every stage, its way back and what stands in its way, with mail flowing and verified all the while."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest
from tests.procedures.load import Load

from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.succession import signing_directory, successor
from mailtls_nb.testbed import Testbed
from tests.procedures.conftest import Machine, Machines, Ran, Runbooks

pytestmark = pytest.mark.testbed

NEW_NAME = "Example Mail CA 2"
# What the partner demands of us, by name: no CA is named, as its pack told it.
THEIR_RULES = "TLS_Clt:relay.example.test\tPERM+VERIFY:112\nTLS_Srv:relay.example.test\tTEMP+VERIFY:112\n"


@dataclass(frozen=True)
class Organisations:
    """Ours, with the relay, and the partner's: each with a CA of its own that the other trusts."""

    machines: Machines
    runbooks: Runbooks
    path: Path

    def __call__(self, stage: str, **given: str | int) -> Ran:
        """Run 09 at a stage."""
        ours = {"hosts": f"docker://{self.machines.relay.name}", **self.ours}
        return self.runbooks("09", **{**ours, "stage": stage, "new_common_name": NEW_NAME, **given})

    @property
    def ours(self) -> dict[str, str | int]:
        return {
            "ca_dir": f"{self.path}/ours",
            "ca_passphrase": f"file:{self.path}/passphrase",
            "approve": "auto",
            "probe_from": f"docker://{self.machines.stranger.name}",
        }

    @property
    def old(self) -> Path:
        return self.path / "ours"

    @property
    def new(self) -> Path:
        return self.path / "ours-example-mail-ca-2"

    def trust(self, who: Machine, whom: str, ca: Path) -> None:
        """One organisation trusts the other's CA, by 03."""
        given = {"host": f"docker://{who.name}", "probe_from": f"docker://{self.machines.stranger.name}"}
        directory = CADirectory.open(ca)
        files = {"partner_ca": str(directory.layout.certificate), "partner_ca_fingerprint": directory.fingerprint}
        ran = self.runbooks("03", **given, **files, partner=whom, approve="auto")
        assert ran.outcome == "changed", ran.error


@pytest.fixture(scope="module")
def organisations(machines: Machines, runbooks: Runbooks, tmp_path_factory: pytest.TempPathFactory) -> Organisations:
    path = tmp_path_factory.mktemp("cas")
    (path / "passphrase").write_text("correct horse battery staple")
    found = Organisations(machines, runbooks, path)
    made = {key: value for key, value in found.ours.items() if key != "probe_from"}
    assert runbooks("01", **made).outcome == "changed"
    assert runbooks("01", **{**made, "ca_dir": f"{path}/theirs"}, common_name="Partner CA").outcome == "changed"
    for machine, ca in ((machines.relay, "ours"), (machines.partner, "theirs")):
        name = machine.sh("hostname").strip()
        given = {**found.ours, "ca_dir": f"{path}/{ca}", "host": f"docker://{machine.name}", "hostname": name}
        assert runbooks("02", **given).outcome == "changed"
    found.trust(machines.relay, "partner.example.test", path / "theirs")
    found.trust(machines.partner, "relay.example.test", path / "ours")
    machines.partner.sh("cd /etc/mail && cat >>access && makemap hash access <access", stdin=THEIR_RULES)
    return found


def words(machine: Machine, peer: str) -> Counter[str]:
    """``verify=WORD`` of all sessions with that host, from the log as it is."""
    lines = [line for line in machine.log().splitlines() if "STARTTLS=" in line and f"relay={peer}" in line]
    return Counter(line.partition(", verify=")[2].partition(",")[0] for line in lines)


def issuer_on_port(machine: Machine, server: str) -> str:
    printed = machine.sh(
        f"echo QUIT | openssl s_client -connect {server}:25 -starttls smtp 2>/dev/null | openssl x509 -noout -issuer"
    )
    return printed.strip().rpartition("CN = ")[2]


def trusted_by(machine: Machine) -> list[str]:
    """The names in the file of trusted CAs, in its order."""
    printed = machine.sh("openssl crl2pkcs7 -nocrl -certfile /etc/mail/certs/cacert.pem | openssl pkcs7 -print_certs")
    return [line.rpartition("CN = ")[2] for line in printed.splitlines() if line.startswith("subject=")]


def test_mail_is_verified_from_the_first_stage_to_the_last(organisations: Organisations) -> None:
    """With one change of mind on the way. The partner adds the new CA only after everything is reissued."""
    machines = organisations.machines
    before = {name: words(getattr(machines, name), peer) for name, peer in PEERS.items()}
    load = Load(
        {
            "out": (machines.relay, machines.partner, "root@partner.example.test"),
            "back": (machines.partner, machines.relay, "root@relay.example.test"),
        }
    )
    seen: list[tuple[str, str]] = []
    with load.flowing():
        for stage in ("both", "reissue", "both", "reissue"):
            ran = organisations(stage)
            assert ran.outcome == "changed", ran.error
            seen.append((stage, issuer_on_port(machines.stranger, "relay.example.test")))
        organisations.trust(machines.partner, "relay.example.test", organisations.new)
        ran = organisations("withdraw", partners_confirmed="partner.example.test")
        assert ran.outcome == "changed", ran.error
    assert seen == [("both", OLD), ("reissue", NEW_NAME), ("both", OLD), ("reissue", NEW_NAME)]
    account = load.account()
    assert account.problems == []
    arrived = Counter(name.partition("-")[0] for name in account.arrived)
    print(f"5 stages, {len(account.sent)} messages sent; arrived: {dict(arrived)}; {len(account.problems)} problems")
    assert all(arrived[way] > 50 for way in ("out", "back")), arrived
    for name, peer in PEERS.items():
        during = words(getattr(machines, name), peer) - before[name]
        assert set(during) == {"OK"}, (name, during)
        assert during["OK"] > 100


PEERS = {"relay": "partner.example.test", "partner": "relay.example.test"}
OLD = "Example Mail CA"


def test_it_ends_with_the_new_ca_alone(organisations: Organisations, runbooks: Runbooks) -> None:
    """After the test above: who names the old directory gets the new CA, and there is no way back."""
    relay = organisations.machines.relay
    assert trusted_by(relay) == [NEW_NAME]
    assert signing_directory(organisations.old) == organisations.new
    for stage, outcome in (("withdraw", "unchanged"), ("both", "failed"), ("cancel", "failed"), ("reissue", "failed")):
        tree = relay.tree()
        ran = organisations(stage, partners_confirmed="partner.example.test")
        assert ran.outcome == outcome, ran.error
        assert relay.tree() == tree
    given = {**organisations.ours, "host": f"docker://{relay.name}", "hostname": "relay.example.test"}
    ran = runbooks("02", **given)
    assert ran.outcome == "unchanged"
    assert f"The CA in {organisations.old} was replaced" in ran.shown["observe"]


class TestOnTheTestbed:
    """With the defaults, from a fresh start."""

    @pytest.fixture(scope="class")
    def ready(self, testbed: Testbed, runbooks: Runbooks) -> Testbed:
        testbed.reset()
        for runbook in ("01", "02", "03"):
            assert runbooks(runbook).outcome == "changed"
        return testbed

    @pytest.fixture(scope="class")
    def both(self, ready: Testbed, runbooks: Runbooks) -> Ran:
        ran = runbooks("09")
        assert ran.error is None
        return ran

    def test_what_is_out_of_turn_is_refused(self, ready: Testbed, runbooks: Runbooks, machines: Machines) -> None:
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

    def test_both_are_trusted_and_partners_get_a_pack(self, both: Ran, ready: Testbed, machines: Machines) -> None:
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

    def test_again_changes_nothing(self, both: Ran, runbooks: Runbooks, machines: Machines) -> None:
        tree = machines.relay.tree()
        ran = runbooks("09")
        assert (ran.outcome, ran.actions) == ("unchanged", [])
        assert machines.relay.tree() == tree

    def test_the_old_one_signs_until_reissue(self, both: Ran, ready: Testbed, runbooks: Runbooks) -> None:
        assert signing_directory(ready.ca_dir) == ready.ca_dir
        assert runbooks("02").outcome == "unchanged"

    def test_the_way_back_from_both(self, both: Ran, runbooks: Runbooks, ready: Testbed, machines: Machines) -> None:
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
        self, rule: str, said: str, both: Ran, runbooks: Runbooks, machines: Machines
    ) -> None:
        relay = machines.relay
        relay.sh("cd /etc/mail && cp -p access access.db /root && cat >>access", stdin=f"{rule}\n")
        tree = relay.tree()
        ran = runbooks("09", stage="reissue")
        assert (ran.outcome, ran.exit_status) == ("failed", 2)
        assert said in ran.said
        assert relay.tree() == tree
        relay.sh("cd /root && mv access access.db /etc/mail")

    def test_another_name_in_between_is_refused(self, both: Ran, runbooks: Runbooks) -> None:
        ran = runbooks("09", new_common_name="Example Mail CA 3")
        assert (ran.outcome, ran.exit_status) == ("failed", 2)
        assert "is being replaced" in ran.said

    def test_to_the_end(self, both: Ran, runbooks: Runbooks, ready: Testbed, machines: Machines) -> None:
        """What is still of the old CA, and who has not confirmed, is named; a CRL of the old CA goes with it."""
        assert runbooks("05", crl_hosts="testbed:relay").outcome == "changed"
        ran = runbooks("09", stage="reissue")
        assert ran.outcome == "changed"
        assert ran.claims["who trusts only the old CA verifies what testbed:relay sends now"] == ("OK", "live")
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
