"""The other ways of 02: a request that came as a file, and a CA elsewhere."""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.testbed import Testbed
from tests.procedures.conftest import Machines, Ran, Runbooks

pytestmark = pytest.mark.testbed

PENDING = "/etc/mail/certs/relay.example.test.pending.key"


def openssl(*argv: str | Path, stdin: str = "") -> str:
    done = subprocess.run(["openssl", *map(str, argv)], input=stdin.encode(), capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout.decode()


@pytest.fixture(scope="module")
def ca(pristine: Testbed, runbooks: Runbooks) -> CADirectory:
    assert runbooks("01").outcome == "changed"
    return CADirectory.open(pristine.ca_dir)


def request(directory: Path, *names: str, extensions: str = "", form: str = "PEM") -> Path:
    """A request by OpenSSL with a key of its own, as a partner's server would make it."""
    san = ",".join(f"DNS:{name}" for name in names)
    (directory / "req.cnf").write_text(
        "[req]\nprompt = no\ndistinguished_name = dn\nreq_extensions = ext\n"
        f"[dn]\nCN = {names[0]}\n[ext]\nsubjectAltName = {san}\n{extensions}"
    )
    path = directory / f"request.{form.lower()}"
    new = ("-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", directory / "key.pem")
    openssl("req", *new, "-config", directory / "req.cnf", "-outform", form, "-out", path)
    return path


def for_partner(runbooks: Runbooks, csr: Path, **given: str) -> Ran:
    return runbooks("02", csr=str(csr), hostname="partner.example.test", **given)


@pytest.mark.parametrize("form", ["PEM", "DER"])
def test_a_request_from_a_file_is_signed_and_nothing_is_installed(
    form: str, ca: CADirectory, runbooks: Runbooks, machines: Machines, tmp_path: Path
) -> None:
    states = [machine.state() for machine in (machines.relay, machines.partner, machines.stranger)]
    csr = request(tmp_path, "partner.example.test", form=form)
    ran = for_partner(runbooks, csr)
    assert (ran.outcome, ran.actions) == ("changed", ["sign"])
    assert {proof for _, proof in ran.claims.values()} == {"inspection"}
    certificate = ran.folder / "certificate.pem"
    openssl("verify", "-x509_strict", "-purpose", "sslserver", "-CAfile", ran.folder / "cacert.pem", certificate)
    openssl("verify", "-x509_strict", "-purpose", "sslclient", "-CAfile", ca.layout.certificate, certificate)
    of_key = openssl("pkey", "-in", tmp_path / "key.pem", "-pubout")
    assert openssl("x509", "-in", certificate, "-noout", "-pubkey") == of_key

    rows = ca.layout.database.read_bytes()
    again = for_partner(runbooks, csr)
    assert (again.outcome, again.actions) == ("unchanged", [])
    assert (again.folder / "certificate.pem").read_bytes() == certificate.read_bytes()
    assert ca.layout.database.read_bytes() == rows
    assert [machine.state() for machine in (machines.relay, machines.partner, machines.stranger)] == states
    assert not [line for line in (ran.folder / "commands.jsonl").read_text().splitlines() if "testbed:" in line]


def test_a_request_for_a_ca_gets_a_mail_servers_certificate(
    ca: CADirectory, runbooks: Runbooks, tmp_path: Path
) -> None:
    asks = "basicConstraints = critical,CA:TRUE\nkeyUsage = critical,keyCertSign\n"
    ran = for_partner(runbooks, request(tmp_path, "partner.example.test", extensions=asks))
    assert ran.outcome == "changed"
    text = openssl("x509", "-in", ran.folder / "certificate.pem", "-noout", "-text")
    assert "CA:FALSE" in text
    assert "CA:TRUE" not in text
    assert "Certificate Sign" not in text
    assert "basicConstraints" in ran.shown["observe"]


def test_a_request_with_other_names_is_refused_with_all_of_them(
    ca: CADirectory, runbooks: Runbooks, tmp_path: Path
) -> None:
    rows = ca.layout.database.read_bytes()
    ran = for_partner(runbooks, request(tmp_path, "www.example.com", "mail.example.org"))
    assert ran.outcome == "failed"
    assert "www.example.com" in ran.said
    assert "mail.example.org" in ran.said
    assert ran.exit_status == 2
    assert "no certificate was issued" in ran.said
    assert ca.layout.database.read_bytes() == rows


@pytest.mark.parametrize("content", ["", "garbage", "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n", None])
def test_a_file_that_is_no_request_is_refused(
    content: str | None, ca: CADirectory, runbooks: Runbooks, tmp_path: Path
) -> None:
    path = tmp_path / "request.csr"
    if content is not None:
        path.write_text(content)
    ran = for_partner(runbooks, path)
    assert ran.exit_status == 2
    assert str(path) in ran.said


# -- a CA elsewhere


@dataclass(frozen=True)
class CAElsewhere:
    """A root and an intermediate made by openssl; ``sign`` is what that CA does with our request."""

    directory: Path

    def make(self, name: str, subject: str, issuer: str | None) -> None:
        key, certificate = self.directory / f"{name}.key", self.directory / f"{name}.pem"
        openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
        ext = self.directory / f"{name}.ext"
        ext.write_text("basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign\n")
        csr = openssl("req", "-new", "-key", key, "-subj", subject)
        by = ("-signkey", key) if issuer is None else self._by(issuer)
        openssl("x509", "-req", *by, "-days", "30", "-extfile", ext, "-out", certificate, stdin=csr)

    def sign(
        self,
        csr: Path | str,
        *,
        name: str = "relay.example.test",
        purposes: str = "serverAuth,clientAuth",
        chain: tuple[str, ...] = ("intermediate", "root"),
        days: str = "20",
    ) -> Path:
        """The file that this CA sends back: the certificate, then ``chain``."""
        ext, leaf = self.directory / "leaf.ext", self.directory / "leaf.pem"
        ext.write_text(
            f"basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\nextendedKeyUsage={purposes}\n"
            f"subjectAltName=DNS:{name}\n"
        )
        openssl(*("x509", "-req", "-in", csr, *self._by("intermediate"), "-days", days, "-extfile", ext, "-out", leaf))
        sent_back = self.directory / "sent-back.pem"
        parts = [leaf, *(self.directory / f"{issuer}.pem" for issuer in chain)]
        sent_back.write_text("".join(part.read_text() for part in parts))
        return sent_back

    def _by(self, issuer: str) -> tuple[str | Path, ...]:
        pem, key = (self.directory / f"{issuer}.{kind}" for kind in ("pem", "key"))
        return ("-CA", pem, "-CAkey", key, "-CAcreateserial")


@pytest.fixture(scope="module")
def elsewhere(tmp_path_factory: pytest.TempPathFactory) -> CAElsewhere:
    made = CAElsewhere(tmp_path_factory.mktemp("elsewhere"))
    made.make("root", "/O=Elsewhere/CN=Root", None)
    made.make("intermediate", "/O=Elsewhere/CN=Intermediate", "root")
    return made


@pytest.fixture(scope="module")
def requested(ca: CADirectory, runbooks: Runbooks, machines: Machines) -> Ran:
    mc = machines.relay.sh("cat /etc/mail/sendmail.mc")
    ran = runbooks("02", external_certificate="request")
    assert machines.relay.sh("cat /etc/mail/sendmail.mc") == mc
    return ran


def test_a_request_leaves_a_pending_key_on_the_host(requested: Ran, machines: Machines, ca: CADirectory) -> None:
    assert (requested.outcome, requested.exit_status) == ("planned", 3)
    assert f"a key waits at {PENDING} on testbed:relay" in requested.shown["verdict"]
    assert machines.relay.sh(f"stat -c '%a %U' {PENDING} /etc/mail/certs").split() == ["600", "root", "700", "root"]
    csr = requested.folder / "request.csr"
    assert "request.csr" in requested.record["artifacts"]
    text = openssl("req", "-in", csr, "-noout", "-text", "-verify")
    assert "DNS:relay.example.test" in text
    assert openssl("req", "-in", csr, "-noout", "-pubkey") == machines.relay.sh(f"openssl pkey -in {PENDING} -pubout")
    assert "STARTTLS" not in machines.relay.ehlo()
    assert b"relay" not in ca.layout.database.read_bytes()


def test_a_second_request_uses_the_key_that_waits(requested: Ran, runbooks: Runbooks) -> None:
    again = runbooks("02", external_certificate="request")
    key = [openssl("req", "-in", ran.folder / "request.csr", "-noout", "-pubkey") for ran in (requested, again)]
    assert again.outcome == "planned"
    assert again.actions == ["request"]
    assert key[0] == key[1]


def test_what_is_not_fit_is_refused_and_nothing_touched(
    requested: Ran, runbooks: Runbooks, machines: Machines, elsewhere: CAElsewhere, tmp_path: Path
) -> None:
    csr = requested.folder / "request.csr"
    other_key = request(tmp_path, "relay.example.test")
    state, daemon = machines.relay.state(), machines.relay.daemon()

    def refused(sent_back: Path, **given: str) -> str:
        ran = runbooks("02", external_certificate=str(sent_back), **given)
        assert ran.exit_status == 2
        assert "nothing was" in ran.said
        assert "Next: " in ran.said
        return ran.said

    assert "is for the key that waits on the host" in refused(elsewhere.sign(other_key))
    assert "it is not for relay.example.test: its names are mail.example.org" in refused(
        elsewhere.sign(csr, name="mail.example.org")
    )
    assert "expired on" in refused(elsewhere.sign(csr, days="-1"))
    assert "may not be used as a client" in refused(elsewhere.sign(csr, purposes="serverAuth"))
    assert "the chain is missing" in refused(elsewhere.sign(csr, chain=()))
    with_key = elsewhere.sign(csr)
    with_key.write_text(with_key.read_text() + (elsewhere.directory / "root.key").read_text())
    assert "holds a private key" in refused(with_key)
    assert "No such file" in refused(tmp_path / "absent.pem")
    assert (machines.relay.state(), machines.relay.daemon()) == (state, daemon)


def test_what_came_back_is_installed_and_the_intermediate_is_sent(
    requested: Ran, runbooks: Runbooks, machines: Machines, elsewhere: CAElsewhere
) -> None:
    sent_back = elsewhere.sign(requested.folder / "request.csr")
    ran = runbooks("02", external_certificate=str(sent_back))
    assert (ran.outcome, ran.exit_status) == ("changed", 0)
    assert "sign" not in ran.actions
    assert {observed for observed, _ in ran.claims.values()} >= {"250-STARTTLS", "OK", "refused", "verify=OK"}
    # A client that has the root alone: the server must send what is between.
    s_client = (
        "cat >/tmp/root.pem; printf 'QUIT\\r\\n' | openssl s_client -starttls smtp -connect relay.example.test:25 "
        "-showcerts -verify_return_error -verify_hostname relay.example.test -CAfile /tmp/root.pem 2>&1"
    )
    seen = machines.stranger.sh(s_client, stdin=(elsewhere.directory / "root.pem").read_text())
    assert "Verify return code: 0 (ok)" in seen
    shown = [
        x509.load_pem_x509_certificate(pem.encode())
        for pem in re.findall(r"-----BEGIN[^-]+-----[^-]+-----END[^-]+-----", seen)
    ]
    sent = x509.load_pem_x509_certificate(sent_back.read_bytes())
    assert shown[0] == sent
    intermediate = (elsewhere.directory / "intermediate.pem").read_bytes()
    assert x509.load_pem_x509_certificate(intermediate) in shown
    # The key that waited has moved into the file in service.
    assert machines.relay.sh("ls /etc/mail/certs").split() == ["cacert.pem", "relay.example.test.pem"]
    assert sent.public_bytes(Encoding.PEM).decode() in machines.relay.sh("cat /etc/mail/certs/relay.example.test.pem")

    state = machines.relay.state()
    again = runbooks("02", external_certificate=str(sent_back))
    assert (again.outcome, again.actions) == ("unchanged", [])
    assert machines.relay.state() == state
