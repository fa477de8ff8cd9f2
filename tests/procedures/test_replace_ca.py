"""09-replace-ca: every stage, its way back and what stands in its way, with mail flowing and verified all the while."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.succession import signing_directory
from tests.procedures.conftest import Machine, Machines, Ran, Runbooks
from tests.procedures.load import Load

pytestmark = pytest.mark.testbed

NEW_NAME, OLD = "Example Mail CA 2", "Example Mail CA"
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
    # The relay has one certificate as a server and another as a client, the partner one for both.
    for machine, ca, roles in (
        (machines.relay, "ours", "server"),
        (machines.relay, "ours", "client"),
        (machines.partner, "theirs", "both"),
    ):
        name = machine.sh("hostname").strip()
        where = {"ca_dir": f"{path}/{ca}", "host": f"docker://{machine.name}", "hostname": name, "roles": roles}
        assert runbooks("02", **{**found.ours, **where}).outcome == "changed"
    found.trust(machines.relay, "partner.example.test", path / "theirs")
    found.trust(machines.partner, "relay.example.test", path / "ours")
    machines.partner.sh("cd /etc/mail && cat >>access && makemap hash access <access", stdin=THEIR_RULES)
    return found


def words(machine: Machine, peer: str, side: str) -> Counter[str]:
    """``verify=WORD`` of all sessions with that host as ``client`` or ``server``, from the log as it is."""
    lines = [line for line in machine.log().splitlines() if f"STARTTLS={side}, relay={peer}" in line]
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
    before = {(name, side): words(getattr(machines, name), peer, side) for name, peer, side in SESSIONS}
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
    for name, peer, side in SESSIONS:
        during = words(getattr(machines, name), peer, side) - before[name, side]
        # 03 on the partner's side looks at our port 25 without a certificate; no mail comes that way.
        assert set(during) - ({"NO"} if (name, side) == ("relay", "server") else set()) == {"OK"}, (name, side, during)
        assert (during["OK"] > 50, during["NO"] <= 4) == (True, True), during
        assert "reject=" not in getattr(machines, name).log()


SESSIONS = [
    (name, peer, side)
    for name, peer in (("relay", "partner.example.test"), ("partner", "relay.example.test"))
    for side in ("client", "server")
]


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
    given = {
        **organisations.ours,
        "host": f"docker://{relay.name}",
        "hostname": "relay.example.test",
        "roles": "client",
    }
    ran = runbooks("02", **given)
    assert ran.outcome == "unchanged"
    assert f"The CA in {organisations.old} was replaced" in ran.shown["observe"]
