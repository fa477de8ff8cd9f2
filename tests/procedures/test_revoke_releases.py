"""05 on every sendmail release of the testbed, as an operator uses it: hosts by their containers, nothing delivered."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from mailtls_nb.pki import revoking
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import serial_text
from mailtls_nb.secret import Secret
from mailtls_nb.testbed import Testbed
from mailtls_nb.testbed.images import ensure_image
from tests.procedures.conftest import Machine, Runbooks

pytestmark = pytest.mark.testbed

RELEASES = {"bullseye": (8, 15), "bookworm": (8, 17), "trixie": (8, 18)}


@pytest.fixture(params=RELEASES)
def release(request: pytest.FixtureRequest, tmp_path: Path, testbed: Testbed) -> Iterator[tuple[str, Testbed]]:
    """A testbed of its own, on that release."""
    ensure_image(testbed.engine, request.param)
    other = Testbed(tmp_path / "testbed", request.param, testbed.engine)
    other.up()
    try:
        yield request.param, other
    finally:
        other.down()


def trust_another_ca(runbooks: Runbooks, path: Path, **given: str | int) -> None:
    """By 03, with a CRL: so that sendmail reads CRLs from CRLPath."""
    other = {**given, "ca_dir": f"{path}/other"}
    made = {key: value for key, value in other.items() if key in ("ca_dir", "ca_passphrase", "approve")}
    assert runbooks("01", **made, common_name="Other CA").outcome == "changed"
    ca = CADirectory.open(path / "other")
    passphrase = Secret((path / "passphrase").read_bytes())
    revoking.sign_new_crl(ca, days=7, passphrase=passphrase, now=datetime.now(UTC))
    files = {"partner_ca": str(ca.layout.certificate), "partner_crl": str(ca.layout.crl)}
    theirs = {**files, "partner": "mail.partner.invalid", "partner_ca_fingerprint": ca.fingerprint}
    hosts = {key: given[key] for key in ("host", "probe_from", "approve")}
    assert runbooks("03", **theirs, **hosts).outcome == "changed"


def verified(machine: Machine, since: int, address: str) -> list[str]:
    """``verify=WORD`` of each session that came from an address, from the log as it is."""
    lines = [line for line in machine.log().splitlines()[since:] if "STARTTLS=server, relay=" in line]
    return [line.partition(", verify=")[2].partition(",")[0] for line in lines if f"[{address}]" in line]


def test_what_is_revoked_is_refused_and_a_good_one_is_not(
    release: tuple[str, Testbed], runbooks: Runbooks, tmp_path: Path
) -> None:
    """The partner's key is lost. On the relay its certificate is verify=OK before, verify=FAIL after."""
    name, testbed = release
    machines = {
        host: Machine(testbed.engine.argv, testbed.container_name(host)) for host in ("relay", "partner", "stranger")
    }
    relay = machines["relay"]
    (tmp_path / "passphrase").write_text("correct horse battery staple")
    ca: dict[str, str | int] = {
        "ca_dir": f"{tmp_path}/ca",
        "ca_passphrase": f"file:{tmp_path}/passphrase",
        "approve": "auto",
        "probe_from": f"docker://{machines['stranger'].name}",
    }
    made = {key: value for key, value in ca.items() if key != "probe_from"}
    assert runbooks("01", **made).outcome == "changed"
    for host in ("relay", "partner"):
        given = {**ca, "host": f"docker://{machines[host].name}", "hostname": f"{host}.example.test"}
        ran = runbooks("02", **given)
        assert ran.outcome == "changed"
        major, minor = RELEASES[name]
        assert f"sendmail {major}.{minor}" in ran.shown["observe"]
    hosts = f"docker://{relay.name},docker://{machines['partner'].name}"
    knows_crl_path = RELEASES[name] >= (8, 16)
    if knows_crl_path:
        trust_another_ca(runbooks, tmp_path, host=f"docker://{relay.name}", **ca)
    since = len(relay.log().splitlines())
    ran = runbooks("05", **ca, hostname="partner.example.test", revocation_reason="keyCompromise", crl_hosts=hosts)
    assert ran.outcome == "changed", ran.error
    assert "until it has a new one" in ran.shown["plan"].replace("\n", " ")
    where = f"docker://{relay.name}"
    assert ran.claims[f"a client that shows a revoked certificate to {where}"] == ("verify=FAIL", "live")
    assert ran.claims[f"a client that shows a good certificate to {where}"] == ("verify=OK", "live")
    assert verified(relay, since, testbed.address("partner"))[:2] == ["OK", "FAIL"]
    # CRLPath is read at each handshake: that it counts without a reload is proved by what was logged.
    on_relay = [step["action"] for step in ran.record["plan"]["steps"] if step["where"] == where]
    assert on_relay == (["write", "link"] if knows_crl_path else ["write", "write", "build", "reload"])
    (row,) = [row for row in CADirectory.open(tmp_path / "ca").rows() if row.status == "R"]
    claim = f"the certificate {serial_text(row.serial)} is refused on {where}"
    assert ran.claims[claim] == ("certificate revoked", "inspection")
    assert all(claim["fails_when"] for claim in ran.record["claims"] if claim["negative"])
    # Mail tells the same: the partner's own sendmail shows the certificate as a client.
    since = len(relay.log().splitlines())
    machines["partner"].sh("echo | /usr/sbin/sendmail -i root@relay.example.test")
    words: list[str] = []
    for _ in range(50):
        words = verified(relay, since, testbed.address("partner"))
        if words:
            break
        machines["partner"].sh("sleep 0.2")
    assert words == ["FAIL"]
    assert runbooks("05", **ca, action="refresh", crl_hosts=hosts).outcome == "unchanged"
