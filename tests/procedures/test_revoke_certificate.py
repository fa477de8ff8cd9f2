"""05-revoke-certificate on the testbed: revoked, refused, distributed, refreshed, and what stands in its way."""

from __future__ import annotations

import subprocess
from datetime import UTC, datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from mailtls_nb.pki import revoking
from mailtls_nb.pki.crl import sign_crl
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import serial_text
from mailtls_nb.testbed import Testbed
from mailtls_nb.testbed.organisation import partner_organisation
from tests.procedures.conftest import Machine, Machines, Ran, Runbooks

pytestmark = pytest.mark.testbed

CERTS, PARTNER_CERTS = "/etc/mail/certs", "/etc/mail/partner-certs"


def words(machine: Machine, since: int) -> list[str]:
    """``verify=WORD`` of each session with a client on the network, from the log as it is."""
    lines = [line for line in machine.log().splitlines()[since:] if "STARTTLS=server, relay=" in line]
    return [line.partition(", verify=")[2].partition(",")[0] for line in lines]


def crl_on(machine: Machine, directory: str) -> x509.CertificateRevocationList:
    (pem,) = [machine.sh(f"cat {path}") for path in machine.sh(f"ls {directory}/ca-*.crl").split()]
    return x509.load_pem_x509_crl(pem.encode())


def openssl(ca: Path, *argv: str | Path, status: int | None = 0) -> str:
    done = subprocess.run(["openssl", *map(str, argv)], capture_output=True, text=True, timeout=60, check=False, cwd=ca)
    assert status in (None, done.returncode), done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def ready(runbooks: Runbooks, machines: Machines, pristine: Testbed) -> Path:
    """A relay with a certificate of our CA, a partner that trusts it; the CA directory."""
    assert runbooks("01").outcome == "changed"
    assert runbooks("02").outcome == "changed"
    partner_organisation(pristine)
    return pristine.ca_dir


@pytest.fixture(scope="module")
def first(ready: Path, runbooks: Runbooks, machines: Machines) -> Ran:
    """The runbook with its defaults. The tests below it look at what it left."""
    since = {name: len(getattr(machines, name).log().splitlines()) for name in ("relay", "partner")}
    ran = runbooks("05")
    assert ran.error is None
    for name, from_line in since.items():
        # Before and after, the finder of the key and a host with a good certificate, at the same time.
        logged = words(getattr(machines, name), from_line)
        assert (logged[:2], sorted(logged[2:])) == (["OK", "OK"], ["FAIL", "OK"])
    return ran


@pytest.fixture
def directory(first: Ran, ready: Path) -> CADirectory:
    return CADirectory.open(ready)


@pytest.fixture
def issue(directory: CADirectory, pristine: Testbed) -> x509.Certificate:
    """A new certificate for other.example.test."""
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    settings = {"roles": "both", "valid_days": 30, "passphrase": pristine.passphrase(), "now": datetime.now(UTC)}
    return directory.issue(key, ("other.example.test", "alias.example.test"), **settings)  # type: ignore[arg-type]


def test_the_record_says_what_was_done_and_seen(first: Ran) -> None:
    assert (first.outcome, first.exit_status) == ("changed", 0)
    assert first.actions == ["revoke", "sign-crl", *["write", "write", "build", "reload"] * 2]
    for host in ("testbed:relay", "testbed:partner"):
        assert first.claims[f"the CRL on {host} is ours and the newest"] == ("verify OK, number 1", "inspection")
        assert first.claims[f"a certificate that is not revoked verifies on {host}"] == ("OK", "inspection")
        assert first.claims[f"a client that shows a revoked certificate to {host}"] == ("verify=FAIL", "live")
        assert first.claims[f"a client that shows a good certificate to {host}"] == ("verify=OK", "live")
    assert len(first.claims) == 10
    assert all(claim["fails_when"] for claim in first.record["claims"] if claim["negative"])
    assert "lost.example.test" in first.shown["observe"]


def test_openssl_says_the_same(first: Ran, ready: Path, machines: Machines) -> None:
    rows = {line.split("\t")[5]: line.split("\t")[3] for line in (ready / "index.txt").read_text().splitlines()}
    lost, relay = rows["/CN=lost.example.test"], rows["/CN=relay.example.test"]
    for serial, word in ((lost, "Revoked (R)"), (relay, "Valid (V)")):
        assert word in openssl(ready, "ca", "-config", ready / "openssl.cnf", "-status", serial, status=None)
    verify = ("verify", "-crl_check", "-CRLfile", ready / "crl.pem", "-CAfile", ready / "cacert.pem")
    assert "certificate revoked" in openssl(ready, *verify, ready / f"newcerts/{lost}.pem", status=2)
    assert openssl(ready, *verify, ready / f"newcerts/{relay}.pem").strip().endswith(": OK")
    crl = (ready / "crl.pem").read_bytes()
    for machine, directory in ((machines.relay, CERTS), (machines.partner, PARTNER_CERTS)):
        assert crl_on(machine, directory).public_bytes(Encoding.PEM) == crl
        assert machine.sh(f"stat -c '%a %U:%G' {directory}/ca-*.crl").strip() == "644 root:root"
        assert f"O CRLFile={directory}/ca-" in machine.sh("grep ^O.CRL /etc/mail/sendmail.cf")
    assert (first.folder / "crl.pem").read_bytes() == crl


def test_again_changes_nothing(first: Ran, runbooks: Runbooks, ready: Path, machines: Machines) -> None:
    trees = machines.relay.tree(), machines.partner.tree()
    index, daemon = (ready / "index.txt").read_bytes(), machines.relay.daemon()
    for given in ({}, {"action": "refresh"}):
        ran = runbooks("05", **given)
        assert (ran.outcome, ran.exit_status, ran.actions) == ("unchanged", 0, [])
        assert ran.claims["a client that shows a good certificate to testbed:relay"] == ("verify=OK", "live")
    assert (machines.relay.tree(), machines.partner.tree()) == trees
    assert ((ready / "index.txt").read_bytes(), machines.relay.daemon()) == (index, daemon)


def test_neither_02_nor_03_takes_it_away(first: Ran, runbooks: Runbooks, machines: Machines) -> None:
    assert runbooks("02").outcome == "unchanged"
    assert runbooks("03").outcome == "changed"
    assert "confCRL'" in machines.relay.sh("cat /etc/mail/sendmail.mc")
    assert runbooks("05").outcome == "unchanged"


def test_a_refresh_with_another_lifetime_counts_on(first: Ran, runbooks: Runbooks, machines: Machines) -> None:
    """The number goes up, and only the file and the daemon change."""
    (before, _) = crl_on(machines.relay, CERTS), crl_on(machines.partner, PARTNER_CERTS)
    ran = runbooks("05", action="refresh", crl_days=7)
    assert ran.actions == ["sign-crl", "write", "reload", "write", "reload"]
    for machine, directory in ((machines.relay, CERTS), (machines.partner, PARTNER_CERTS)):
        after = crl_on(machine, directory)
        assert after.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number == 2
        assert [entry.serial_number for entry in after] == [entry.serial_number for entry in before]
    assert ran.claims["the CRL on testbed:relay is ours and the newest"] == ("verify OK, number 2", "inspection")
    assert ran.claims["its number on testbed:relay is not lower than before"] == ("yes", "inspection")


def test_by_serial_and_by_every_name(
    issue: x509.Certificate, runbooks: Runbooks, machines: Machines, directory: CADirectory
) -> None:
    """Listed first; approved by digest; a certificate issued in between makes the digest stale."""
    given: dict[str, str | int] = {
        "hostname": "alias.example.test",
        "crl_hosts": "testbed:relay",
        "revocation_reason": "keyCompromise",
    }
    planned = runbooks("05", **given, approve="")
    serial = serial_text(issue.serial_number)
    assert serial in planned.shown["observe"]
    assert (planned.outcome, serial in str(planned.record["plan"])) == ("planned", True)
    assert machines.relay.sh(f"grep -c confCRL {'/etc/mail/sendmail.mc'}").strip() == "1"
    by_digest = runbooks("05", **given, approve=planned.digest)
    assert by_digest.outcome == "changed"
    assert by_digest.claims[f"the certificate {serial} is refused on testbed:relay"][0] == "certificate revoked"
    again = runbooks("05", serial=f"serial={serial.lower()}", crl_hosts="testbed:relay")
    assert again.outcome == "unchanged"
    (row,) = [row for row in directory.rows() if row.serial == issue.serial_number]
    assert row.revocation.endswith(",keyCompromise")


def test_a_compromised_key_gets_no_certificate_from_02(
    directory: CADirectory, runbooks: Runbooks, pristine: Testbed, tmp_path: Path
) -> None:
    name = ("-subj", "/CN=laptop.example.test", "-addext", "subjectAltName=DNS:laptop.example.test")
    key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", "key")
    openssl(tmp_path, "req", *key, *name, "-out", "csr")
    given: dict[str, str | int] = {"hostname": "laptop.example.test", "csr": str(tmp_path / "csr"), "valid_days": 30}
    assert runbooks("02", **given).outcome == "changed"
    revoked = {"hostname": "laptop.example.test", "crl_hosts": "testbed:relay", "revocation_reason": "keyCompromise"}
    assert runbooks("05", **revoked).outcome == "changed"
    index = (pristine.ca_dir / "index.txt").read_bytes()
    ran = runbooks("02", **given)
    assert (ran.outcome, "never certified again" in ran.said) == ("failed", True)
    assert (pristine.ca_dir / "index.txt").read_bytes() == index


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("garbage", "holds no CRL that can be read: sendmail ignores that, and accepts what is revoked"),
        ("", "is not there: sendmail ignores that"),
        ("ended", "refuses every certificate of its CA"),
        ("twice", "holds 2 CRLs: sendmail reads the first only"),
    ],
)
def test_what_a_host_has_is_said_and_replaced(
    content: str, said: str, directory: CADirectory, runbooks: Runbooks, machines: Machines, pristine: Testbed
) -> None:
    runbooks("05", action="refresh", crl_hosts="testbed:relay", crl_days=7)
    path = machines.relay.sh(f"ls {CERTS}/ca-*.crl").strip()
    past = datetime(2020, 1, 1, tzinfo=UTC)
    ended = sign_crl(
        directory.ca_certificate, directory.signing_key(pristine.passphrase()), [], number=1, now=past, days=1
    )
    good = machines.relay.sh(f"cat {path}")
    texts = {"garbage": "garbage\n", "ended": ended.public_bytes(Encoding.PEM).decode(), "twice": good + good}
    machines.relay.sh(f"rm {path}" if not content else f"cat >{path}", stdin=texts.get(content, ""))
    ran = runbooks("05", action="refresh", crl_hosts="testbed:relay", crl_days=7)
    assert said in ran.shown["observe"].replace("\n", " ")
    assert (ran.outcome, ran.actions) == ("changed", ["write", "reload"])
    assert machines.relay.sh(f"cat {path}") == good


@pytest.mark.parametrize("content", ["garbage", "foreign", "twice"])
def test_a_bad_crl_in_the_ca_directory_is_given_to_nobody(
    content: str, directory: CADirectory, runbooks: Runbooks, machines: Machines, pristine: Testbed
) -> None:
    good = directory.layout.crl.read_bytes()
    partner = partner_organisation(pristine).directory
    foreign = revoking.sign_new_crl(partner, days=7, passphrase=pristine.passphrase(), now=datetime.now(UTC))
    bad = {"garbage": b"garbage", "foreign": foreign.public_bytes(Encoding.PEM), "twice": good + good}[content]
    directory.layout.crl.write_bytes(bad)
    ran = runbooks("05", action="refresh", crl_hosts="testbed:relay", crl_days=7)
    assert "sendmail would" in ran.shown["observe"]
    assert ran.actions == ["sign-crl", "write", "reload"]
    assert crl_on(machines.relay, CERTS).issuer == directory.ca_certificate.subject


def test_a_directory_from_a_backup_signs_with_a_number_that_no_host_has(
    directory: CADirectory, runbooks: Runbooks, machines: Machines, pristine: Testbed
) -> None:
    """The host's number is higher than the directory's, whose CRL is fresh."""
    given: dict[str, str | int] = {"action": "refresh", "crl_hosts": "testbed:relay", "crl_days": 7}
    runbooks("05", **given)
    path = machines.relay.sh(f"ls {CERTS}/ca-*.crl").strip()
    key, revoked = directory.signing_key(pristine.passphrase()), revoking.revoked_rows(directory)
    ahead = sign_crl(directory.ca_certificate, key, revoked, number=40, now=datetime.now(UTC), days=7)
    machines.relay.sh(f"cat >{path}", stdin=ahead.public_bytes(Encoding.PEM).decode())
    ran = runbooks("05", **given)
    assert (ran.outcome, ran.actions) == ("changed", ["sign-crl", "write", "reload"])
    assert "testbed:relay has one with number 40 already" in str(ran.record["plan"])
    assert ran.claims["the CRL on testbed:relay is ours and the newest"] == ("verify OK, number 41", "inspection")
    assert runbooks("05", **given).outcome == "unchanged"


def test_a_file_that_was_exchanged_by_hand_is_read_by_a_reload(
    directory: CADirectory, runbooks: Runbooks, machines: Machines
) -> None:
    given: dict[str, str | int] = {"action": "refresh", "crl_hosts": "testbed:relay", "crl_days": 7}
    runbooks("05", **given)
    path = machines.relay.sh(f"ls {CERTS}/ca-*.crl").strip()
    machines.relay.sh(f"cp {path} /root/by-hand && mv /root/by-hand {path}")
    ran = runbooks("05", **given)
    assert (ran.outcome, ran.actions) == ("changed", ["reload"])
    assert runbooks("05", **given).outcome == "unchanged"


def test_where_another_ca_has_a_crl_too_each_goes_into_crlpath(
    directory: CADirectory, runbooks: Runbooks, machines: Machines, pristine: Testbed, tmp_path: Path
) -> None:
    """03 sets CRLPath for the partner's; ours joins it, and counts for a new process without a reload."""
    partner = partner_organisation(pristine)
    theirs = revoking.sign_new_crl(partner.directory, days=7, passphrase=pristine.passphrase(), now=datetime.now(UTC))
    (tmp_path / "partner.crl").write_bytes(theirs.public_bytes(Encoding.PEM))
    assert runbooks("03", partner_crl=str(tmp_path / "partner.crl")).outcome == "changed"
    ran = runbooks("05", action="refresh", crl_hosts="testbed:relay", crl_days=9)
    assert ran.outcome == "changed"
    assert "link" in ran.actions
    links = machines.relay.sh(f"cd {CERTS}; find . -name '*.r0' -printf '%l\n'").split()
    assert sorted(link.partition("-")[0] for link in links) == ["ca", "partner"]
    assert runbooks("05", action="refresh", crl_hosts="testbed:relay", crl_days=9).outcome == "unchanged"


def test_a_host_that_fails_is_put_back_and_the_next_run_goes_on_with_it(
    issue: x509.Certificate, runbooks: Runbooks, machines: Machines, ready: Path
) -> None:
    """The second of two hosts: its daemon does not come back with what is read at its start."""
    serial = serial_text(issue.serial_number)
    given: dict[str, str | int] = {"serial": serial, "crl_days": 9}
    tree = machines.partner.tree()

    def break_it() -> None:
        machines.partner.sh(
            'mv /usr/bin/openssl /usr/bin/openssl.away; printf \'#!/bin/sh\n[ "$1" = crl ] && exit 1\n'
            'exec /usr/bin/openssl.away "$@"\n\' >/usr/bin/openssl; chmod 755 /usr/bin/openssl'
        )

    try:
        ran = runbooks.disturbed(break_it, "05", **given)
    finally:
        machines.partner.sh("mv /usr/bin/openssl.away /usr/bin/openssl")
    assert (ran.outcome, ran.exit_status) == ("failed", 1)
    assert "could not be put into force on testbed:partner" in ran.said
    assert "in force on testbed:relay, not on testbed:partner" in ran.said
    assert machines.partner.tree() == tree
    assert "R\t" in next(line for line in (ready / "index.txt").read_text().splitlines() if serial in line)
    ran = runbooks("05", **given)
    assert ran.outcome == "changed"
    assert {step["where"] for step in ran.record["plan"]["steps"]} == {"testbed:partner"}


def test_a_host_that_does_not_trust_the_ca_is_refused(first: Ran, runbooks: Runbooks, machines: Machines) -> None:
    tree = machines.stranger.tree()
    ran = runbooks("05", action="refresh", crl_hosts="testbed:relay,testbed:stranger", probe_from="testbed:partner")
    assert (ran.outcome, ran.exit_status) == ("failed", 2)
    assert "testbed:stranger does not trust the CA" in ran.said
    assert machines.stranger.tree() == tree


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"serial": "0A0B"}, "has issued no certificate with the serial 0A0B"),
        ({"hostname": "rely.example.test"}, "did you mean relay.example.test?"),
    ],
)
def test_what_the_ca_has_not_issued_is_refused(
    given: dict[str, str], said: str, directory: CADirectory, runbooks: Runbooks
) -> None:
    index = directory.layout.database.read_bytes()
    ran = runbooks("05", **given)
    assert (ran.outcome, ran.exit_status) == ("failed", 2)
    assert said in ran.said
    assert directory.layout.database.read_bytes() == index


def test_without_hosts_it_is_only_signed(issue: x509.Certificate, runbooks: Runbooks, directory: CADirectory) -> None:
    ran = runbooks("05", serial=serial_text(issue.serial_number), crl_hosts="", crl_days=9)
    assert (ran.outcome, ran.actions) == ("changed", ["revoke", "sign-crl"])
    assert "until the CRL is in force somewhere, nothing is refused" in ran.shown["observe"]
    assert (ran.folder / "crl.pem").read_bytes() == directory.layout.crl.read_bytes()


def test_what_has_expired_is_revoked_by_its_serial_only(runbooks: Runbooks, directory: CADirectory) -> None:
    """A host's name stands for its valid certificates."""
    index = directory.layout.database
    before = index.read_bytes()
    row = b"V\t200101000000Z\t\t0ABC\tunknown\t/CN=long-ago.example.test\n"
    index.write_bytes(before + row)
    try:
        by_name = runbooks("05", hostname="long-ago.example.test", crl_hosts="", approve="")
        by_serial = runbooks("05", serial="0ABC", crl_hosts="", approve="")
    finally:
        index.write_bytes(before)
    assert "0ABC" in by_name.shown["observe"]
    assert "revoke" not in by_name.actions
    assert by_serial.actions[0] == "revoke"
