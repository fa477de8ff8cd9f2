"""02-issue-certificate on the testbed: put into service, judged by other instruments than its own, and again."""

from __future__ import annotations

import json
import re
import subprocess
from datetime import UTC, datetime
from importlib.resources import files
from pathlib import Path

import jsonschema
import pytest
from cryptography import x509
from cryptography.x509.verification import PolicyBuilder, Store, VerificationError

from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.testbed import Testbed
from tests.procedures.conftest import Machines, Ran, Runbooks

pytestmark = pytest.mark.testbed

CERTS = "/etc/mail/certs"
PEM = f"{CERTS}/relay.example.test.pem"
OPTIONS = {
    "CACertFile": f"{CERTS}/cacert.pem",
    "CACertPath": CERTS,
    "ServerCertFile": PEM,
    "ServerKeyFile": PEM,
    "ClientCertFile": PEM,
    "ClientKeyFile": PEM,
}
BLOCK = re.compile(r"^dnl # BEGIN mailtls-nb.*^dnl # END mailtls-nb\n", re.MULTILINE | re.DOTALL)
SETTINGS = """\
define(`confCACERT_PATH', ``/etc/mail/certs'')dnl
define(`confCACERT', ``/etc/mail/certs/cacert.pem'')dnl
define(`confSERVER_CERT', ``/etc/mail/certs/relay.example.test.pem'')dnl
define(`confSERVER_KEY', ``/etc/mail/certs/relay.example.test.pem'')dnl
define(`confCLIENT_CERT', ``/etc/mail/certs/relay.example.test.pem'')dnl
define(`confCLIENT_KEY', ``/etc/mail/certs/relay.example.test.pem'')dnl
"""


@pytest.fixture(scope="module")
def before(machines: Machines) -> dict[str, str]:
    """What the host's files were before anything was done."""
    return {name: machines.relay.sh(f"cat /etc/mail/{name}") for name in ("sendmail.mc", "sendmail.cf", "access")}


@pytest.fixture(scope="module")
def ca(pristine: Testbed, runbooks: Runbooks) -> CADirectory:
    assert runbooks("01").outcome == "changed"
    return CADirectory.open(pristine.ca_dir)


@pytest.fixture(scope="module")
def first(ca: CADirectory, before: dict[str, str], runbooks: Runbooks) -> Ran:
    """The runbook with its defaults, on a pristine host. The tests below it look at what it left."""
    ran = runbooks("02")
    assert ran.error is None
    return ran


def test_the_record_says_what_was_done_and_seen(first: Ran, ca: CADirectory) -> None:
    statement = json.loads((first.folder / "record.json").read_bytes())
    jsonschema.Draft202012Validator(
        json.loads((files("mailtls_nb") / "record.schema.json").read_text(encoding="utf-8"))
    ).validate(statement)
    (row,) = ca.rows()
    assert (first.outcome, first.exit_status) == ("changed", 0)
    assert first.actions == ["make-directory", "make-key", "sign", "install", "write", "write", "build", "reload"]
    assert first.claims == {
        "STARTTLS is offered": ("250-STARTTLS", "live"),
        "the certificate on port 25 is the one installed": (f"serial {row.serial:X}", "live"),
        "the chain leads to the CA and is for relay.example.test": ("OK", "live"),
        "the same chain is refused for another name": ("refused", "live"),
        "a client without a certificate is not taken for verified": ("verify=NO", "live"),
        "the certificate is accepted from a client that shows it": ("verify=OK", "live"),
        "a message from testbed:relay arrives verified at testbed:stranger": ("verify=OK", "live"),
        "a message to relay.example.test leaves testbed:stranger over a verified connection": ("verify=OK", "live"),
    }
    assert first.shown["verdict"] == (
        "changed: relay.example.test uses the certificate on testbed:relay; 8 claims hold, 8 of them proved live."
    )


def test_files_are_closed_to_everybody_but_root(first: Ran, machines: Machines) -> None:
    listed = machines.relay.sh(f"stat -c '%a %U:%G %F %n' {CERTS} {CERTS}/* && find {CERTS} -mindepth 1 | wc -l")
    assert listed.splitlines() == [
        f"700 root:root directory {CERTS}",
        f"600 root:root regular file {CERTS}/cacert.pem",
        f"600 root:root regular file {PEM}",
        "2",
    ]
    # What a change needs on the way, copies of keys among it, is gone after it.
    assert machines.relay.sh("ls -A /var/lib/mailtls-nb").split() == ["guard"]
    assert machines.relay.sh("find /etc /var -name '*.new' -o -name '*mailtls-nb-*'") == ""


def test_the_settings_stand_in_one_block_and_every_other_byte_stays(
    first: Ran, machines: Machines, before: dict[str, str]
) -> None:
    mc = machines.relay.sh("cat /etc/mail/sendmail.mc")
    (block,) = BLOCK.findall(mc)
    assert "".join(block.splitlines(keepends=True)[1:-1]) == SETTINGS
    assert BLOCK.sub("", mc) == before["sendmail.mc"]
    assert machines.relay.sh("cat /etc/mail/access") == before["access"]


def test_sendmail_cf_has_the_options_and_is_what_the_mc_builds(
    first: Ran, machines: Machines, before: dict[str, str]
) -> None:
    cf = machines.relay.sh("cat /etc/mail/sendmail.cf")
    assert dict(re.findall(r"^O (\w+)=(/etc/mail/certs.*)$", cf, re.MULTILINE)) == OPTIONS

    def code(text: str) -> list[str]:
        return [line for line in text.splitlines() if not line.startswith("#") and not line.startswith("O ")]

    assert code(cf) == code(before["sendmail.cf"])
    # Debian's own make, run afterwards by an operator or a package, finds it done.
    assert "sendmail.cf" not in machines.relay.sh("cd /etc/mail && make -n 2>&1 | grep 'm4 ' || :")


def test_swaks_delivers_over_verified_tls_and_not_with_another_ca(
    first: Ran, ca: CADirectory, machines: Machines, tmp_path: Path
) -> None:
    other_ca = tmp_path / "other.pem"
    argv = ["openssl", "req", "-x509", "-nodes", "-newkey", "rsa:2048", "-subj", "/CN=Example Mail CA", "-days", "2"]
    subprocess.run([*argv, "-keyout", tmp_path / "key", "-out", other_ca], check=True, capture_output=True)
    swaks = (
        "cat >/tmp/ca.pem; swaks --server relay.example.test --from a@stranger.example.test "
        "--to root@relay.example.test --tls --tls-verify --tls-ca-path /tmp/ca.pem --tls-sni relay.example.test "
        "--quit-after RCPT 2>&1"
    )
    right = machines.stranger.sh(swaks, stdin=ca.layout.certificate.read_text())
    assert "~> RCPT TO:<root@relay.example.test>\n<~  250" in right
    wrong = machines.stranger.sh(swaks, stdin=other_ca.read_text(), status=None)
    assert "TLS startup failed" in wrong or "certificate verify failed" in wrong
    assert "RCPT TO" not in wrong


def test_openssl_here_verifies_the_handshake(first: Ran, ca: CADirectory, pristine: Testbed) -> None:
    def handshake(ca_file: Path | str, name: str) -> str:
        argv = ["openssl", "s_client", "-starttls", "smtp", "-connect", f"{pristine.address('relay')}:25", "-brief"]
        checks = ["-verify_return_error", "-verify_hostname", name, "-CAfile", ca_file]
        done = subprocess.run([*argv, *checks], input=b"QUIT\n", capture_output=True, timeout=60, check=False)
        return (done.stdout + done.stderr).decode("utf-8", "replace")

    good = handshake(ca.layout.certificate, "relay.example.test")
    assert "Verification: OK" in good
    assert "Verified peername: relay.example.test" in good
    assert "Verification: OK" not in handshake(ca.layout.certificate, "partner.example.test")
    assert "Verification: OK" not in handshake("/etc/ssl/certs/ca-certificates.crt", "relay.example.test")


def test_cryptography_verifies_what_was_shown_as_server_and_as_client(first: Ran, ca: CADirectory) -> None:
    leaf, *above = x509.load_pem_x509_certificates((first.folder / "presented.pem").read_bytes())
    assert above == [ca.ca_certificate]
    policy = PolicyBuilder().store(Store([ca.ca_certificate])).time(datetime.now(UTC))
    assert policy.build_server_verifier(x509.DNSName("relay.example.test")).verify(leaf, [])
    client = policy.build_client_verifier().verify(leaf, [])
    assert client.subjects == [x509.DNSName("relay.example.test")]
    with pytest.raises(VerificationError):
        policy.build_server_verifier(x509.DNSName("partner.example.test")).verify(leaf, [])


def test_the_private_key_is_nowhere_but_on_the_host(first: Ran, machines: Machines, pristine: Testbed) -> None:
    key = machines.relay.sh(f"openssl pkey -in {PEM} -outform DER | tail -c 60 | base64 -w0")
    assert machines.relay.sh(f"grep -c 'BEGIN.*PRIVATE KEY' {PEM}").strip() == "1"
    assert len(key) > 60
    for path in (*first.folder.rglob("*"), *pristine.ca_dir.rglob("*")):
        if path.is_file() and path.name != "cakey.pem":
            assert "PRIVATE KEY" not in path.read_text("utf-8", "replace"), path


@pytest.fixture(scope="module")
def second(first: Ran, machines: Machines, ca: CADirectory, runbooks: Runbooks) -> Ran:
    """The same again; everything is compared before and after."""

    def everything() -> tuple[str, ...]:
        hosts = (machines.relay, machines.stranger)
        states = [part for machine in hosts for part in (machine.state(), machine.daemon())]
        here = sorted(f"{p} {p.stat().st_mtime_ns} {p.stat().st_mode:o}" for p in ca.path.rglob("*"))
        return (*states, *here, ca.layout.database.read_text())

    seen = everything()
    ran = runbooks("02")
    assert everything() == seen
    return ran


def test_a_second_run_says_unchanged_and_touches_nothing(second: Ran, first: Ran) -> None:
    assert (second.outcome, second.exit_status, second.actions) == ("unchanged", 0, [])
    on_port = {name: first.claims[name] for name in list(first.claims)[:4]}
    assert second.claims == {
        **on_port,
        "the certificate verifies as a client's": ("OK", "inspection"),
        "the key beside it is its own": ("yes", "inspection"),
    }


def test_a_wrong_mode_is_one_step_and_is_cured(second: Ran, first: Ran, machines: Machines, runbooks: Runbooks) -> None:
    machines.relay.sh(f"chmod 640 {PEM}")
    cured = runbooks("02")
    assert (cured.outcome, cured.actions) == ("changed", ["set-mode", "reload"])
    assert machines.relay.sh(f"stat -c %a {PEM}").strip() == "600"
    serial = "the certificate on port 25 is the one installed"
    assert cured.claims[serial] == first.claims[serial]


def test_another_role_later_keeps_what_the_first_one_has(
    runbooks: Runbooks, machines: Machines, pristine: Testbed
) -> None:
    """A certificate for the server, then one of another key type for the client, on partner."""
    of_partner = {"hostname": "partner.example.test", "host": "testbed:partner", "dns_names": "smtp.example.test"}
    server = runbooks("02", **of_partner, roles="server", key_type="rsa-2048")
    assert server.outcome == "changed"
    assert not [claim for claim in server.claims if claim.startswith("a message from")]
    client = runbooks("02", **of_partner, roles="client")
    assert client.outcome == "changed"
    assert list(client.claims) == [
        "the certificate is accepted from a client that shows it",
        "a message from testbed:partner arrives verified at testbed:stranger",
    ]
    of_server, of_client = (f"{CERTS}/partner.example.test-{role}.pem" for role in ("server", "client"))
    cf = machines.partner.sh("cat /etc/mail/sendmail.cf")
    assert dict(re.findall(r"^O (\w+)=(/etc/mail/certs.*)$", cf, re.MULTILINE)) == {
        **OPTIONS,
        "ServerCertFile": of_server,
        "ServerKeyFile": of_server,
        "ClientCertFile": of_client,
        "ClientKeyFile": of_client,
    }
    text = machines.partner.sh(
        f"for f in {of_server} {of_client}; do openssl x509 -in $f -noout -text -nameopt RFC2253; done"
    )
    assert re.findall(r"Public Key Algorithm: (\w+)", text) == ["rsaEncryption", "id"]
    assert re.findall(r"TLS Web .*|DNS:.*", text) == [
        "TLS Web Server Authentication",
        "DNS:partner.example.test, DNS:smtp.example.test",
        "TLS Web Client Authentication",
        "DNS:partner.example.test, DNS:smtp.example.test",
    ]
    assert "(2048 bit)" in text
    assert runbooks("02", **of_partner, roles="server", key_type="rsa-2048").outcome == "unchanged"
