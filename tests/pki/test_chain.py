"""Certificates by another CA: openssl makes them, wrong in one way each or in all at once."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import load_pem_public_key

from mailtls_nb.errors import CertificateRefused
from mailtls_nb.pki.chain import CertificateChain, check_external, parse_certificates
from mailtls_nb.pki.profiles import PublicKey, Roles

# Half a day ahead: later than every certificate that is made here, however long the session has run by then.
NOW = datetime.now(UTC) + timedelta(hours=12)
BOTH = "extendedKeyUsage=serverAuth,clientAuth"
CA = "basicConstraints=critical,CA:TRUE\nkeyUsage=critical,keyCertSign,cRLSign"


class Workshop:
    """Root, intermediate and leaf; every file NAME.pem with its key NAME.key."""

    def __init__(self, path: Path, openssl: Callable[..., str]) -> None:
        self.path, self.openssl = path, openssl
        self.make("root", CA)
        self.make("middle", CA, by="root")

    def make(self, name: str, extensions: str, *, by: str = "", days: int = 90, options: tuple[str, ...] = ()) -> bytes:
        key = self.path / f"{name}.key"
        if not key.exists():
            self.openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-out", key)
        (self.path / "ext").write_text(extensions + "\n")
        self.openssl("req", "-new", "-key", key, "-subj", f"/CN={name}", "-out", "csr")
        signer = ("-CA", f"{by}.pem", "-CAkey", f"{by}.key", "-CAcreateserial") if by else ("-signkey", key)
        out = ("-days", str(days), "-extfile", "ext", "-out", f"{name}.pem")
        self.openssl("x509", "-req", "-in", "csr", *signer, *out, *options)
        return self.read(name)

    def leaf(self, san: str = "DNS:relay.example.test", purposes: str = BOTH, **others: object) -> bytes:
        return self.make("leaf", f"subjectAltName={san}\n{purposes}", **{"by": "middle", **others})  # type: ignore[arg-type]

    def read(self, *names: str) -> bytes:
        return b"".join((self.path / f"{name}.pem").read_bytes() for name in names)

    def key(self, name: str = "leaf") -> PublicKey:
        pem = self.openssl("pkey", "-in", f"{name}.key", "-pubout").encode()
        key = load_pem_public_key(pem)
        assert isinstance(key, ec.EllipticCurvePublicKey)
        return key

    def check(self, data: bytes, *, roles: Roles = "both", now: datetime = NOW, key: str = "leaf") -> CertificateChain:
        names = ("relay.example.test",)
        return check_external(data, public_key=self.key(key), names=names, roles=roles, now=now, where="mail.pem")

    def problems(self, data: bytes, **others: object) -> str:
        with pytest.raises(CertificateRefused) as caught:
            self.check(data, **others)  # type: ignore[arg-type]
        assert "mail.pem" in str(caught.value)
        return "\n".join(caught.value.problems)


@pytest.fixture
def workshop(tmp_path: Path, openssl: Callable[..., str]) -> Workshop:
    return Workshop(tmp_path, openssl)


def test_a_chain_is_put_in_order_up_to_what_was_given(workshop: Workshop) -> None:
    workshop.leaf()
    for order in (("leaf", "middle", "root"), ("root", "leaf", "middle"), ("middle", "root", "leaf")):
        chain = workshop.check(workshop.read(*order))
        assert [c.subject.rfc4514_string() for c in chain.issuers] == ["CN=middle", "CN=root"]
        assert chain.certificate.subject.rfc4514_string() == "CN=leaf"
    assert len(workshop.check(workshop.read("leaf", "middle")).issuers) == 1


@pytest.mark.parametrize(
    "san", ["DNS:RELAY.example.test", "DNS:*.example.test", "DNS:other.test,DNS:relay.example.test"]
)
def test_names_that_stand_for_the_host(workshop: Workshop, san: str) -> None:
    workshop.leaf(san)
    workshop.check(workshop.read("leaf", "middle"))


@pytest.mark.parametrize(
    "san", ["DNS:example.test", "DNS:*.test", "DNS:*.relay.example.test", "email:a@relay.example.test"]
)
def test_names_that_do_not(workshop: Workshop, san: str) -> None:
    workshop.leaf(san)
    assert workshop.problems(workshop.read("leaf", "middle")).startswith("it is not for relay.example.test")


@pytest.mark.parametrize(
    ("purposes", "good_for"),
    [
        (BOTH, {"both", "server", "client"}),
        ("keyUsage=digitalSignature", {"both", "server", "client"}),
        ("extendedKeyUsage=serverAuth", {"server"}),
        ("extendedKeyUsage=clientAuth", {"client"}),
    ],
)
def test_purposes_fit_the_roles(workshop: Workshop, purposes: str, good_for: set[Roles]) -> None:
    workshop.leaf(purposes=purposes)
    roles: tuple[Roles, ...] = ("both", "server", "client")
    for role in roles:
        if role in good_for:
            workshop.check(workshop.read("leaf", "middle"), roles=role)
        else:
            assert "may not be used as a" in workshop.problems(workshop.read("leaf", "middle"), roles=role)


def test_every_mismatch_is_named_at_once(workshop: Workshop) -> None:
    """Another key, no chain, another name, expired, server only."""
    workshop.make("waiting", CA)
    leaf = workshop.leaf("DNS:other.example.test", "extendedKeyUsage=serverAuth\nkeyUsage=keyAgreement")
    problems = workshop.problems(leaf, key="waiting", now=NOW + timedelta(days=91))
    for words in (
        "key that waits",
        "chain is missing",
        "/CN=middle",
        "not for relay",
        "expired",
        "client",
        "digitalSig",
    ):
        assert words in problems
    assert len(problems.splitlines()) == 6
    assert "not valid before" in workshop.problems(leaf, now=NOW - timedelta(days=1))


def test_a_chain_that_does_not_hold(workshop: Workshop) -> None:
    workshop.leaf()
    workshop.make("other", CA)
    assert "chain is missing" in workshop.problems(workshop.read("leaf", "root", "other"))
    # The same name and another key: the signature decides.
    original = (workshop.path / "middle.key").read_bytes()
    leaf = workshop.read("leaf")
    (workshop.path / "middle.key").unlink()
    assert "chain is missing" in workshop.problems(leaf + workshop.make("middle", CA, by="root"))
    (workshop.path / "middle.key").write_bytes(original)
    assert "is no CA" in workshop.problems(leaf + workshop.make("middle", "basicConstraints=CA:FALSE", by="root"))
    unfit = workshop.make("middle", "basicConstraints=CA:TRUE\nkeyUsage=digitalSignature", by="root")
    assert "may not sign certificates" in workshop.problems(leaf + unfit)
    middle = workshop.make("middle", CA, by="root")
    root = workshop.make("root", "basicConstraints=critical,CA:TRUE,pathlen:0")
    assert "allows 0 CAs below it, there are 1" in workshop.problems(leaf + middle + root)
    short = workshop.make("middle", CA, by="root", days=1)
    assert "its issuer /CN=middle expired" in workshop.problems(leaf + short, now=NOW + timedelta(days=2))


def test_what_is_signed_by_itself_or_weakly_is_refused(workshop: Workshop) -> None:
    own = workshop.make("leaf", f"subjectAltName=DNS:relay.example.test\n{BOTH}")
    assert "signed by its own key" in workshop.problems(own)
    weak = workshop.leaf(options=("-sha1",))
    assert "/CN=leaf is signed with SHA1" in workshop.problems(weak + workshop.read("middle"))
    ca = workshop.make("leaf", f"{CA},digitalSignature\nsubjectAltName=DNS:relay.example.test", by="middle")
    assert workshop.problems(ca + workshop.read("middle")) == "the certificate is a CA's"


def test_files_of_certificates(workshop: Workshop, openssl: Callable[..., str], tmp_path: Path) -> None:
    assert len(parse_certificates(workshop.read("root", "middle"), where="x")) == 2
    openssl("x509", "-in", "root.pem", "-outform", "DER", "-out", "root.der")
    assert len(parse_certificates((tmp_path / "root.der").read_bytes(), where="x")) == 1
    with pytest.raises(CertificateRefused, match="private key"):
        parse_certificates(workshop.read("root") + (tmp_path / "root.key").read_bytes(), where="x")
    for garbage in (b"", b"garbage", b"-----BEGIN CERTIFICATE-----\n", workshop.read("root")[:-80]):
        with pytest.raises(CertificateRefused, match="no certificate"):
            parse_certificates(garbage, where="x")
