"""03 with files of one's own, on a host that is not said to be the testbed's: no mail is sent there.

The host is one that has no TLS at first: its CACertPath is set by the first run.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from mailtls_nb.apply.transaction import Transaction
from tests.procedures.conftest import Machine, Machines, Ran, Runbooks

pytestmark = pytest.mark.testbed

CERTS = "/etc/mail/certs"
_CONFIGURATION = """
[ca]
database = index
crlnumber = number
default_md = sha256
default_crl_days = 9
[root]
basicConstraints = critical, CA:TRUE
subjectKeyIdentifier = hash
[leaf]
basicConstraints = critical, CA:FALSE
"""


@dataclass(frozen=True)
class Authority:
    """A CA kept by openssl in a directory of its own."""

    path: Path

    @classmethod
    def make(cls, path: Path, name: str, *, key: Authority | None = None, issuer: Authority | None = None) -> Authority:
        path.mkdir()
        (path / "cnf").write_text(_CONFIGURATION)
        (path / "index").touch()
        (path / "number").write_text("01\n")
        ca = cls(path)
        if key is None:
            ca.openssl("genpkey", "-algorithm", "RSA", "-out", "key")
        else:
            (path / "key").write_bytes((key.path / "key").read_bytes())
        request = ("req", "-new", "-key", "key", "-subj", f"/CN={name}", "-config", "/dev/null")
        signer = issuer or ca
        by = ("-signkey", "key") if issuer is None else ("-CA", signer.path / "pem", "-CAkey", signer.path / "key")
        ca.openssl(*request, "-out", "request")
        sign = ("x509", "-req", "-in", "request", "-days", "30", "-extfile", "cnf", "-extensions", "root", *by)
        ca.openssl(*sign, "-set_serial", str(int.from_bytes(os.urandom(8))), "-out", "pem")
        return ca

    def openssl(self, *arguments: str | Path) -> str:
        argv = ["openssl", *map(str, arguments)]
        return subprocess.run(argv, cwd=self.path, check=True, capture_output=True, text=True, timeout=60).stdout

    @property
    def pem(self) -> str:
        return (self.path / "pem").read_text()

    @property
    def fingerprint(self) -> str:
        return self.openssl("x509", "-in", "pem", "-noout", "-fingerprint", "-sha256").strip()

    @property
    def hash(self) -> str:
        return self.openssl("x509", "-in", "pem", "-noout", "-hash").strip()

    def leaf(self) -> str:
        """A certificate that it has signed."""
        self.openssl("req", "-newkey", "rsa:2048", "-nodes", "-keyout", "lk", "-subj", "/CN=x", "-out", "lr")
        by = ("-CA", "pem", "-CAkey", "key", "-set_serial", "99", "-extfile", "cnf", "-extensions", "leaf")
        return self.openssl("x509", "-req", "-in", "lr", "-days", "5", *by)

    def crl(self, name: str) -> Path:
        self.openssl("ca", "-config", "cnf", "-name", "ca", "-gencrl", "-cert", "pem", "-keyfile", "key", "-out", name)
        return self.path / name


@dataclass(frozen=True)
class Trusting:
    """Runs of 03 on one host, and that host looked at through the engine."""

    runbooks: Runbooks
    host: Machine
    probe: Machine

    def __call__(self, ca: Authority, *, file: Path | None = None, **given: str | int) -> Ran:
        return self.runbooks(
            "03",
            **{
                "host": f"docker://{self.host.name}",
                "probe_from": f"docker://{self.probe.name}",
                # Nobody: nothing is proved with the partner here, and the time to look at its port is saved.
                "partner": "mail.partner.invalid",
                "partner_ca": str(file or ca.path / "pem"),
                "partner_ca_fingerprint": ca.fingerprint,
                "approve": "auto",
                **given,
            },
        )

    def links(self) -> dict[str, str]:
        """Each link with its target."""
        return dict(
            line.split(" ") for line in self.host.sh(f"find {CERTS} -type l -printf '%f %l\n' | sort").splitlines()
        )

    def verdict(self, certificate: str) -> str:
        """What the host's own openssl makes of a certificate by the directory alone."""
        argv = f"openssl verify -no-CAfile -no-CAstore -CApath {CERTS}"
        return "OK" if "stdin: OK" in self.host.sh(argv, stdin=certificate, status=None) else "refused"

    def unchanged_by(self, act: Callable[[], Ran]) -> Ran:
        """The run refuses, and leaves everything as it is."""
        tree = self.host.tree()
        ran = act()
        assert (ran.outcome, ran.exit_status) == ("failed", 2)
        assert "State: nothing was touched" in ran.said
        assert self.host.tree() == tree
        return ran


@pytest.fixture(scope="module")
def ca(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority.make(tmp_path_factory.mktemp("ca") / "one", "A Partner CA")


@pytest.fixture(scope="module")
def trusting(runbooks: Runbooks, machines: Machines, tmp_path_factory: pytest.TempPathFactory) -> Trusting:
    """A host with a CACertFile of its operator, and no CACertPath."""
    own = Authority.make(tmp_path_factory.mktemp("own") / "ca", "Our Own CA")
    stranger = machines.stranger
    stranger.sh("cat >/etc/mail/own-ca.pem", stdin=own.pem)
    define = "define(`confCACERT', `/etc/mail/own-ca.pem')dnl\nMAILER_DEFINITIONS\n"
    mc = stranger.sh("cat /etc/mail/sendmail.mc").replace("MAILER_DEFINITIONS\n", define)
    stranger.sh("cat >/etc/mail/sendmail.mc && make -C /etc/mail && /etc/init.d/sendmail reload", stdin=mc)
    assert "O CACertFile=/etc/mail/own-ca.pem" in stranger.sh("cat /etc/mail/sendmail.cf")
    return Trusting(runbooks, stranger, machines.partner)


@pytest.fixture(scope="module")
def first(trusting: Trusting, ca: Authority) -> Ran:
    return trusting(ca)


@pytest.fixture
def only_ca(first: Ran, trusting: Trusting, ca: Authority) -> None:
    """A test begins with this CA alone, by its one link."""
    assert first.error is None
    assert list(trusting.links()) == [f"{ca.hash}.0"]


def test_a_missing_cacertpath_is_set(first: Ran, trusting: Trusting, ca: Authority) -> None:
    assert (first.outcome, first.error) == ("changed", None)
    assert first.actions == ["make-directory", "write", "link", "write", "build", "reload"]
    # Live proof needs a partner that shows a certificate of this CA: nothing is claimed to be live here.
    assert first.claims == {"the CA offered is one that sendmail trusts": ("OK", "inspection")}
    assert f"O CACertPath={CERTS}\n" in trusting.host.sh("cat /etc/mail/sendmail.cf")
    assert trusting.verdict(ca.leaf()) == "OK"


def test_a_host_that_verifies_nobody_is_refused(runbooks: Runbooks, machines: Machines, ca: Authority) -> None:
    """sendmail loads neither CACertFile nor CACertPath unless it has both."""
    without_tls = Trusting(runbooks, machines.partner, machines.stranger)
    assert "has no CACertFile (not set)" in without_tls.unchanged_by(lambda: without_tls(ca)).said


@pytest.mark.usefixtures("only_ca")
def test_again_changes_nothing(trusting: Trusting, ca: Authority) -> None:
    tree = trusting.host.tree()
    ran = trusting(ca)
    assert (ran.outcome, ran.actions) == ("unchanged", [])
    assert trusting.host.tree() == tree


@pytest.mark.usefixtures("only_ca")
def test_a_bundle_in_any_order_and_a_link_that_leads_nowhere(trusting: Trusting, ca: Authority, tmp_path: Path) -> None:
    """One fingerprint vouches for root and intermediate; what stands in the way of their links is replaced."""
    root = Authority.make(tmp_path / "root", "Bundle Root")
    below = Authority.make(tmp_path / "below", "Bundle Intermediate", issuer=root)
    bundle = tmp_path / "bundle.pem"
    bundle.write_text(below.pem + root.pem)
    trusting.host.sh(f"ln -s gone.pem {CERTS}/{root.hash}.0; ln -s {CERTS}/gone.pem {CERTS}/{below.hash}.1")

    ran = trusting(root, file=bundle)
    assert ran.error is None
    assert f"{root.hash}.0 leads to gone.pem, which is not there" in ran.shown["observe"]
    assert set(trusting.links()) == {f"{name}.0" for name in (ca.hash, root.hash, below.hash)}
    assert trusting.verdict(root.leaf()) == "OK"
    chain = below.leaf() + below.pem
    assert trusting.verdict(chain) == "OK"

    alone = trusting.unchanged_by(lambda: trusting(below, file=bundle))
    assert "/CN=Bundle Root has the fingerprint" in alone.said
    gone = trusting(root, file=bundle, action="untrust", partner_ca_fingerprint="")
    assert (gone.outcome, gone.error) == ("changed", None)
    assert set(trusting.links()) == {f"{ca.hash}.0"}


@pytest.mark.usefixtures("only_ca")
def test_one_name_with_another_key_is_refused(trusting: Trusting, tmp_path: Path) -> None:
    namesake = Authority.make(tmp_path / "namesake", "A Partner CA")
    ran = trusting.unchanged_by(lambda: trusting(namesake))
    assert "with another key is trusted on this host already" in ran.said
    assert "AuthorityKeyIdentifier" in ran.said


@pytest.mark.usefixtures("only_ca")
@pytest.mark.parametrize(("mode", "whom"), [("0777", "everybody"), ("0775", "its group")])
def test_a_directory_that_others_may_write_is_refused(trusting: Trusting, tmp_path: Path, mode: str, whom: str) -> None:
    other = Authority.make(tmp_path / "other", "Another Partner CA")
    trusting.host.sh(f"chmod {mode} {CERTS}")
    try:
        ran = trusting.unchanged_by(lambda: trusting(other))
    finally:
        trusting.host.sh(f"chmod 0700 {CERTS}")
    assert f"{CERTS} can be written by {whom} (mode {mode})" in ran.said


@pytest.mark.usefixtures("only_ca")
def test_what_cannot_be_taken_away_is_said(trusting: Trusting, ca: Authority, tmp_path: Path) -> None:
    other = Authority.make(tmp_path / "other", "In a File CA")
    host = trusting.host
    host.sh("cat >/root/cas.pem; cp -p /etc/mail/sendmail.cf /root/cf; chmod 644 /root/cas.pem", stdin=other.pem)
    host.sh("echo 'O CACertFile=/root/cas.pem' >>/etc/mail/sendmail.cf")
    try:
        ran = trusting.unchanged_by(lambda: trusting(other, action="untrust"))
        assert trusting(other).outcome == "unchanged"
    finally:
        host.sh("cp -p /root/cf /etc/mail/sendmail.cf; rm /root/cf /root/cas.pem")
    assert "/CN=In a File CA is in /root/cas.pem (CACertFile)" in ran.said


@pytest.mark.usefixtures("only_ca")
def test_only_the_plan_that_was_approved(trusting: Trusting, ca: Authority) -> None:
    planned = trusting(ca, action="untrust", approve="")
    assert (planned.outcome, planned.actions) == ("planned", ["remove", "remove"])
    trusting.host.sh(f"ln -s {CERTS}/nothing.pem {CERTS}/{ca.hash}.1")
    try:
        stale = trusting.unchanged_by(lambda: trusting(ca, action="untrust", approve=planned.digest))
    finally:
        trusting.host.sh(f"rm {CERTS}/{ca.hash}.1")
    assert f"step on {CERTS}/{ca.hash}.1: is new" in stale.said


@pytest.mark.usefixtures("only_ca")
def test_a_proof_that_fails_puts_everything_back(
    trusting: Trusting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The link is lost before anybody looked: what is claimed is seen anew."""
    other = Authority.make(tmp_path / "other", "Lost CA")
    link = Transaction.link

    def link_and_lose(change: Transaction, path: str, target: str, *, expected: str | None = None) -> None:
        link(change, path, target, expected=expected)
        trusting.host.sh('rm "$1"', path)

    monkeypatch.setattr(Transaction, "link", link_and_lose)
    tree = trusting.host.tree()
    ran = trusting(other)
    assert (ran.outcome, ran.exit_status) == ("failed", 1)
    assert "the CA offered is one that sendmail trusts: expected OK" in ran.said
    assert "State: everything was put back" in ran.said
    assert trusting.host.tree() == tree


@pytest.mark.usefixtures("only_ca")
def test_what_a_killed_run_left_is_undone_by_the_next(trusting: Trusting, ca: Authority) -> None:
    """Killed in the middle of taking away: the link is gone, the file is not. The next run puts it back first."""
    tree, remove = trusting.host.tree(), Transaction.remove

    def removed_or_killed(change: Transaction, path: str, *, expected: str | None = None) -> None:
        if path.endswith(".pem"):
            os.kill(os.getpid(), signal.SIGKILL)
        remove(change, path, expected=expected)

    pid = os.fork()
    if pid == 0:  # a child must never run on into the test session
        try:
            Transaction.remove = removed_or_killed  # type: ignore[assignment,method-assign]
            trusting(ca, action="untrust")
        finally:
            os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
    assert trusting.links() == {}
    assert trusting.host.tree() != tree

    assert trusting(ca).error is None
    assert trusting.host.tree() == tree


@pytest.mark.usefixtures("only_ca")
def test_a_crl_comes_and_is_renewed(trusting: Trusting, ca: Authority, tmp_path: Path) -> None:
    old = ca.crl("old.crl")
    came = trusting(ca, partner_crl=str(old))
    assert (came.error, came.actions) == (None, ["write", "link", "write", "build", "reload"])
    assert "From then on sendmail refuses every certificate of that CA" in came.shown["observe"]
    assert f"O CRLPath={CERTS}\n" in trusting.host.sh("cat /etc/mail/sendmail.cf")
    assert f"{ca.hash}.r0" in trusting.links()
    with_crl = f"openssl verify -no-CAfile -no-CAstore -crl_check -CApath {CERTS}"
    assert "stdin: OK" in trusting.host.sh(with_crl, stdin=ca.leaf())
    assert trusting(ca, partner_crl=str(old)).outcome == "unchanged"

    leaf = tmp_path / "leaf.pem"
    leaf.write_text(ca.leaf())
    ca.openssl("ca", "-config", "cnf", "-name", "ca", "-revoke", leaf, "-cert", "pem", "-keyfile", "key")
    subprocess.run(["sleep", "1"], check=True)  # dates in a CRL are whole seconds
    new = ca.crl("new.crl")
    renewed = trusting(ca, partner_crl=str(new))
    assert (renewed.error, renewed.actions) == (None, ["write"])  # read at the next handshake
    assert "certificate revoked" in trusting.host.sh(with_crl, stdin=leaf.read_text(), status=None)
    assert "is newer" in trusting.unchanged_by(lambda: trusting(ca, partner_crl=str(old))).said


def test_names_that_collide_are_numbered_and_the_gap_is_closed(
    trusting: Trusting, ca: Authority, tmp_path: Path
) -> None:
    """The CA prolonged its certificate: one name and key, two certificates. The CRL of the test before goes too."""
    longer = Authority.make(tmp_path / "longer", "A Partner CA", key=ca)
    der = tmp_path / "longer.der"
    longer.openssl("x509", "-in", "pem", "-outform", "DER", "-out", der)
    assert trusting(longer, file=der).error is None
    assert set(trusting.links()) == {f"{ca.hash}.0", f"{ca.hash}.1", f"{ca.hash}.r0"}

    assert "with the same key, is trusted" in trusting.unchanged_by(lambda: trusting(ca, action="untrust")).said

    # By hand, somebody's third CA of that name; it comes last, and a gap before it would hide it.
    namesake = Authority.make(tmp_path / "namesake", "A Partner CA")
    trusting.host.sh(f"cd {CERTS} && cat >theirs.pem && ln -s theirs.pem {ca.hash}.2", stdin=namesake.pem)
    assert trusting.verdict(namesake.leaf()) == "OK"
    both = tmp_path / "both.pem"
    both.write_text(ca.pem + longer.pem)
    gone = trusting(ca, file=both, action="untrust", partner_ca_fingerprint="")
    assert (gone.error, gone.actions) == (None, ["move", *["remove"] * 5])
    assert trusting.links() == {f"{ca.hash}.0": "theirs.pem"}
    assert trusting.verdict(ca.leaf()) == "refused"
    assert trusting.verdict(namesake.leaf()) == "OK"
    assert trusting.host.sh(f"ls {CERTS}").split() == [f"{ca.hash}.0", "theirs.pem"]
