"""06-renew-certificate on the testbed: what is not due stays as it is, what is due is replaced while it serves."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path

import pytest
from cryptography import x509

from mailtls_nb.apply.transaction import Transaction
from mailtls_nb.pki import revoking, succession
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import serial_text
from mailtls_nb.pki.profiles import Roles
from mailtls_nb.pki.revocation import Reason
from mailtls_nb.pki.succession import Succession
from mailtls_nb.testbed import Testbed
from tests.procedures.ageing import Installed, old_ca, serial_on_port, statuses
from tests.procedures.conftest import Machines, Ran, Runbooks

pytestmark = pytest.mark.testbed

CERTS = "/etc/mail/certs"
RELAY = "relay.example.test"
PARTNER = {"hostname": "partner.example.test", "host": "testbed:partner"}
RENEWAL = ["make-key", "sign", "install", "reload"]


@pytest.fixture(scope="module")
def ca(pristine: Testbed) -> CADirectory:
    return old_ca(pristine.ca_dir, pristine.passphrase())


@pytest.fixture(scope="module")
def relay(ca: CADirectory, machines: Machines, runbooks: Runbooks) -> Installed:
    """The certificate of relay, put into service by 02."""
    assert runbooks("02").outcome == "changed"
    return Installed(machines.relay, f"{CERTS}/{RELAY}.pem")


@pytest.fixture(scope="module")
def renew(machines: Machines, runbooks: Runbooks) -> Callable[..., Ran]:
    """06 on hosts named by their containers, so that no mail is sent for the proof: half the time."""
    stranger = f"docker://{machines.stranger.name}"
    return partial(runbooks, "06", host=f"docker://{machines.relay.name}", probe_from=stranger, approve="auto")


def listing(directory: Path) -> list[tuple[str, int, bytes]]:
    files = [path for path in sorted(directory.rglob("*")) if path.is_file()]
    return [(str(path), path.lstat().st_mtime_ns, path.read_bytes()) for path in files]


def openssl_status(ca: CADirectory, serial: int) -> str:
    """What `openssl ca -status` says of a serial."""
    argv = ["openssl", "ca", "-config", f"{ca.path}/openssl.cnf", "-status", serial_text(serial)]
    done = subprocess.run(argv, cwd=ca.path, capture_output=True, text=True, check=False)
    (status,) = re.findall(r"=(\w+) \(", done.stdout + done.stderr)
    return str(status)


def revoke(ca: CADirectory, serial: int, reason: Reason) -> None:
    revoking.revoke(ca, [serial], reason, now=datetime.now(UTC))


def test_what_is_not_due_is_left_as_it_is(
    relay: Installed, ca: CADirectory, machines: Machines, runbooks: Runbooks
) -> None:
    before = machines.relay.state(), machines.relay.daemon(), machines.stranger.state(), listing(ca.path)
    ran = runbooks("06")
    assert (machines.relay.state(), machines.relay.daemon(), machines.stranger.state(), listing(ca.path)) == before
    assert (ran.outcome, ran.exit_status, ran.actions) == ("unchanged", 0, [])
    assert ran.claims == {
        "STARTTLS is offered": ("250-STARTTLS", "live"),
        "the certificate on port 25 is the one installed": (f"serial {relay.serial:X}", "live"),
        f"the chain leads to the CA and is for {RELAY}": ("OK", "live"),
        "the same chain is refused for another name": ("refused", "live"),
        "the certificate verifies as a client's": ("OK", "inspection"),
        "the key beside it is its own": ("yes", "inspection"),
    }
    assert re.search("^  left +364 days$", ran.shown["observe"], re.MULTILINE)


def test_what_is_due_is_replaced_and_the_old_one_stays_valid(
    relay: Installed, ca: CADirectory, pristine: Testbed, machines: Machines, runbooks: Runbooks
) -> None:
    old = relay.age(ca, pristine.passphrase(), 340)
    assert serial_on_port(machines.stranger, RELAY, old) == old
    key = relay.public_key
    assert runbooks("06", renew_before_days=20).outcome == "unchanged"
    ran = runbooks("06")
    assert (ran.outcome, ran.exit_status, ran.actions) == ("changed", 0, RENEWAL)
    new = relay.certificate
    assert serial_on_port(machines.stranger, RELAY) == new.serial_number != old
    assert openssl_status(ca, new.serial_number) == openssl_status(ca, old) == "Valid"
    assert relay.public_key != key
    assert (new.not_valid_after_utc - datetime.now(UTC)) // timedelta(days=1) == 364
    assert ran.claims["the certificate on port 25 is the one installed"] == (f"serial {new.serial_number:X}", "live")
    assert ran.claims[f"the key in {relay.path} is a new one"] == ("yes", "inspection")
    assert f"now: it ends on {datetime.now(UTC) + timedelta(days=25):%Y-%m-%d}" in ran.shown["observe"]
    assert runbooks("06").outcome == "unchanged"


def test_a_plan_that_holds_no_more_is_refused(
    relay: Installed, ca: CADirectory, pristine: Testbed, machines: Machines, renew: Callable[..., Ran]
) -> None:
    relay.age(ca, pristine.passphrase(), 340)
    shown = renew(approve="")
    assert renew(approve="").digest == shown.digest
    other = renew(approve=shown.digest, revoke_old="yes")
    assert other.exit_status == 2
    assert "asked for: revoke_old was no, is yes" in other.said
    # Somebody else renews it.
    relay.age(ca, pristine.passphrase(), 341)
    state = machines.relay.tree(), listing(ca.path)
    stale = renew(approve=shown.digest)
    assert (stale.exit_status, (machines.relay.tree(), listing(ca.path))) == (2, state)
    assert "State: nothing was touched" in stale.said


def test_the_old_one_is_back_where_the_new_one_is_not_seen(
    relay: Installed,
    ca: CADirectory,
    pristine: Testbed,
    machines: Machines,
    renew: Callable[..., Ran],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From where the proof looks, the name suddenly leads to another server."""
    old, tree = relay.age(ca, pristine.passphrase(), 342), machines.relay.tree()
    reload = Transaction.reload

    def reload_and_mislead(change: Transaction) -> None:
        reload(change)
        elsewhere, there = pristine.address("partner"), pristine.address("relay")
        lines = [line.replace(f"{there} ", f"{elsewhere} ") for line in pristine.hosts_lines()]
        pristine.set_dns("stranger", lines)

    monkeypatch.setattr(Transaction, "reload", reload_and_mislead)
    try:
        ran = renew(revoke_old="yes")
    finally:
        monkeypatch.undo()
        pristine.set_dns("stranger", pristine.hosts_lines())
    assert (ran.outcome, ran.exit_status) == ("failed", 1)
    assert "the mail server was reloaded and answers" in ran.said
    assert (machines.relay.tree(), serial_on_port(machines.stranger, RELAY)) == (tree, old)
    # Never before the proof.
    assert statuses(ca)[old] == "V"


def test_what_is_superseded_is_revoked_after_the_proof(
    relay: Installed, ca: CADirectory, pristine: Testbed, machines: Machines, renew: Callable[..., Ran]
) -> None:
    """With all that were superseded before; not what is for other names or roles, on whatever host that is."""
    due = relay.age(ca, pristine.passphrase(), 343)
    unlike: list[tuple[tuple[str, ...], Roles]] = [
        ((RELAY, "mx.example.test"), "both"),
        ((RELAY,), "client"),
        (("a.example.test",), "both"),
    ]
    others = [
        ca.issue(
            relay.certificate.public_key(),
            names,
            roles=roles,
            valid_days=365,
            passphrase=pristine.passphrase(),
            now=datetime.now(UTC) - timedelta(days=350),
        ).serial_number
        for names, roles in unlike
    ]
    before = {serial for serial, status in statuses(ca).items() if status == "V"} - set(others)
    ran = renew(revoke_old="yes")
    assert (ran.outcome, ran.actions) == ("changed", [*RENEWAL, "revoke"])
    after = statuses(ca)
    assert due in before
    assert {after[serial] for serial in before} == {"Rsuperseded"}
    assert {after[serial] for serial in (*others, relay.serial)} == {"V"}
    assert openssl_status(ca, due) == "Revoked"
    assert revoking.newest_crl(ca) is None
    # Each was named before.
    assert all(f"{serial:X}" in ran.shown["plan"] for serial in before)
    assert "05-revoke-certificate with action refresh" in ran.shown["verdict"]
    assert renew(revoke_old="yes").outcome == "unchanged"


def test_the_key_may_stay_and_a_crl_that_is_there_tells_of_the_old_one(
    relay: Installed, ca: CADirectory, pristine: Testbed, machines: Machines, renew: Callable[..., Ran]
) -> None:
    """Though the CA has a valid certificate for exactly this key and these names: the one that is due."""
    revoking.sign_new_crl(ca, days=40, passphrase=pristine.passphrase(), now=datetime.now(UTC))
    old, key = relay.age(ca, pristine.passphrase(), 340), relay.public_key
    shown = renew(key="same", approve="")
    assert (shown.outcome, shown.actions, relay.serial) == ("planned", ["keep-key", *RENEWAL[1:]], old)
    assert renew(key="same", approve=shown.digest).outcome == "changed"
    assert relay.public_key == key
    assert serial_on_port(machines.stranger, RELAY) == relay.serial != old
    there = machines.relay.sh(f"stat -c '%a %U:%G' {relay.path}; ls {CERTS}").split()
    assert there == ["600", "root:root", "cacert.pem", f"{RELAY}.pem"]
    # As after a run that was killed before it revoked: just that is left to do.
    assert statuses(ca)[old] == "V"
    state = machines.relay.state(), machines.relay.daemon()
    ran = renew(revoke_old="yes")
    assert (ran.outcome, ran.actions) == ("changed", ["revoke"])
    assert (machines.relay.state(), machines.relay.daemon()) == state
    printed = subprocess.run(
        ["openssl", "crl", "-in", ca.layout.crl, "-noout", "-text"], capture_output=True, text=True, check=True
    ).stdout
    _, entry = printed.split(f"Serial Number: {serial_text(old)}")
    assert "Superseded" in entry.partition("Serial Number")[0]
    assert f"{relay.serial:X}" not in printed
    assert "X509v3 CRL Number: \n                2\n" in printed
    assert ran.claims[f"the CA's new CRL refuses {serial_text(old)}"][0] == "certificate revoked"
    assert renew(revoke_old="yes").outcome == "unchanged"


def test_one_whose_key_is_lost_is_renewed_at_once_and_only_with_a_new_key(
    relay: Installed, ca: CADirectory, machines: Machines, runbooks: Runbooks, renew: Callable[..., Ran], tmp_path: Path
) -> None:
    csr = tmp_path / "request.csr"
    csr.write_text(machines.relay.sh(f"openssl req -new -key {relay.path} -subj /CN={RELAY}"))
    lost, key = relay.serial, relay.public_key
    revoke(ca, lost, "keyCompromise")
    state = machines.relay.state(), listing(ca.path)
    refused = renew(key="same")
    assert refused.exit_status == 2
    assert "may be in other hands" in refused.said
    assert "Next: run again with key new" in refused.said
    signed = runbooks("02", csr=str(csr))
    assert signed.exit_status == 2
    assert "may be in other hands" in signed.said
    assert (machines.relay.state(), listing(ca.path)) == state
    ran = renew(revoke_old="yes")
    assert (ran.outcome, ran.actions) == ("changed", RENEWAL)
    assert "now: the CA has revoked it" in ran.shown["observe"]
    assert relay.public_key != key
    assert statuses(ca)[lost] == "RkeyCompromise"


def test_a_name_or_a_time_that_does_not_fit_is_refused(
    relay: Installed, ca: CADirectory, machines: Machines, runbooks: Runbooks
) -> None:
    state = machines.relay.state(), listing(ca.path)
    name = runbooks("06", hostname="relais.example.test")
    assert name.exit_status == 2
    assert f"did you mean {RELAY}? The names there are: {RELAY}" in name.said
    often = runbooks("06", renew_before_days=365)
    assert often.exit_status == 2
    assert "is not less than the 365 days" in often.said
    none = runbooks("06", **PARTNER)
    assert none.exit_status == 2
    assert "no certificate of this CA is in service on testbed:partner" in none.said
    assert "run 02-issue-certificate for partner.example.test once" in none.said
    assert (machines.relay.state(), listing(ca.path)) == state


def test_a_clock_that_is_wrong_by_a_year_is_refused(
    relay: Installed, ca: CADirectory, machines: Machines, renew: Callable[..., Ran], monkeypatch: pytest.MonkeyPatch
) -> None:
    """By it the certificate would have ended, or not be due for long."""
    state = machines.relay.state(), listing(ca.path)
    for days, said in ((366, "the clock of docker://"), (-366, "clock")):
        monkeypatch.setattr("mailtls_nb.run._now", lambda days=days: datetime.now(UTC) + timedelta(days=days))
        ran = renew(revoke_old="yes")
        assert ran.exit_status == 2
        assert said in ran.said
    assert (machines.relay.state(), listing(ca.path)) == state


def test_each_role_has_its_own_file_and_is_renewed_when_it_is_due(
    ca: CADirectory, pristine: Testbed, machines: Machines, runbooks: Runbooks
) -> None:
    """And a certificate of another CA is left alone."""
    partner = machines.partner
    of_partner = {
        "hostname": "partner.example.test",
        "host": f"docker://{partner.name}",
        "probe_from": f"docker://{machines.stranger.name}",
        "approve": "auto",
    }
    server = Installed(partner, f"{CERTS}/partner.example.test-server.pem")
    client = Installed(partner, f"{CERTS}/partner.example.test-client.pem")
    assert runbooks("02", **of_partner, roles="server", key_type="rsa-2048", dns_names="mx.example.test").error is None
    assert runbooks("02", **of_partner, roles="client", valid_days=200).error is None
    of_server = server.serial
    client.age(ca, pristine.passphrase(), 190)
    one = runbooks("06", **{**of_partner, "approve": ""})
    assert one.actions == RENEWAL
    assert [step["target"] for step in one.record["plan"]["steps"] if step["action"] == "install"] == [client.path]
    # Both at once.
    revoke(ca, of_server, "superseded")
    both = runbooks("06", **of_partner)
    assert (both.outcome, both.actions) == ("changed", RENEWAL * 2)
    assert serial_on_port(machines.stranger, "partner.example.test") == server.serial != of_server
    assert (client.certificate.not_valid_after_utc - datetime.now(UTC)).days == 199
    names = server.certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["partner.example.test", "mx.example.test"]
    assert {statuses(ca)[installed.serial] for installed in (server, client)} == {"V"}

    partner.sh(
        f"cp -p {server.path} /root/ours; openssl req -x509 -nodes -newkey rsa:2048 -subj /CN=partner.example.test "
        f"-addext subjectAltName=DNS:partner.example.test -days 90 -keyout /root/k -out /root/c 2>/dev/null; "
        f"cat /root/c /root/k >{server.path}; rm /root/k"
    )
    left_alone = runbooks("06", **of_partner)
    assert (left_alone.outcome, left_alone.actions) == ("unchanged", [])
    ends = f"is left alone: it ends on {datetime.now(UTC) + timedelta(days=90):%Y-%m-%d}"
    assert f"{server.path}, in use as server" in left_alone.shown["observe"]
    assert ends in left_alone.shown["observe"].replace("\n  ", " ")
    partner.sh(f"cp -p /root/ours {server.path}")


def test_the_ca_that_has_taken_over_renews_what_the_old_one_issued(
    relay: Installed,
    ca: CADirectory,
    pristine: Testbed,
    machines: Machines,
    runbooks: Runbooks,
    renew: Callable[..., Ran],
    tmp_path: Path,
) -> None:
    old = relay.age(ca, pristine.passphrase(), 300)
    heir = old_ca(tmp_path / "heir", pristine.passphrase(), name="Next Mail CA", days_ago=10)
    succession.write_predecessor(heir.layout, ca.path)
    succession.write_successor(ca.layout, Succession(heir.path, "reissue"))
    try:
        assert serial_on_port(machines.stranger, RELAY, old) == old
        waits = renew()
        assert (waits.outcome, waits.actions) == ("unchanged", [])
        ran = renew(renew_before_days=90, revoke_old="yes")
        assert (ran.outcome, ran.actions[-1]) == ("changed", "revoke")
        assert "was replaced: the one in" in ran.shown["observe"]
        assert relay.certificate.issuer == heir.ca_certificate.subject
        assert serial_on_port(machines.stranger, RELAY) == relay.serial
        assert (statuses(ca)[old], statuses(heir)) == ("Rsuperseded", {relay.serial: "V"})
        assert renew(renew_before_days=90, revoke_old="yes").outcome == "unchanged"
        # 01 makes, or finds, the CA that was named.
        assert runbooks("01").outcome == "unchanged"
    finally:
        succession.remove_successor(ca.layout)
