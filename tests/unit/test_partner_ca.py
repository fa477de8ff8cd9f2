"""A partner's CA: read in every form, held against the fingerprint, refused for each reason."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import dsa, ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from mailtls_nb.errors import BadParameter, CertificateRefused
from mailtls_nb.pki.certificates import fingerprint
from mailtls_nb.pki.partner_ca import (
    LONGEST_FILE,
    check_beside,
    check_fingerprints,
    check_partner_ca,
    read_fingerprints,
    read_partner_ca,
)
from mailtls_nb.pki.partner_crl import check_crls, check_not_older

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
WHERE = "/srv/partner.pem"


@dataclass(frozen=True, eq=False)
class CA:
    """A CA made with cryptography alone, wrong where it is told to be."""

    common_name: str = "Partner CA"
    key: Any = field(default_factory=lambda: ec.generate_private_key(ec.SECP256R1()))
    issuer: CA | None = None
    digest: hashes.SHA256 | hashes.SHA512 = field(default_factory=hashes.SHA256)
    begins: datetime = NOW - timedelta(days=1)
    ends: datetime = NOW + timedelta(days=100)
    is_ca: bool = True
    signs: bool = True
    serial: int = field(default_factory=x509.random_serial_number)

    @property
    def name(self) -> x509.Name:
        return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.common_name)])

    @cached_property
    def certificate(self) -> x509.Certificate:
        issuer = self.issuer or self
        usage = dict.fromkeys(("content_commitment", "data_encipherment", "key_agreement", "encipher_only"), False)
        usage |= {"decipher_only": False, "key_encipherment": False, "digital_signature": not self.signs}
        return (
            x509.CertificateBuilder(issuer.name, self.name, self.key.public_key(), self.serial, self.begins, self.ends)
            .add_extension(x509.BasicConstraints(self.is_ca, None), critical=True)
            .add_extension(x509.KeyUsage(key_cert_sign=self.signs, crl_sign=self.signs, **usage), critical=True)
            .sign(issuer.key, self.digest)
        )

    def crl(
        self,
        *revoked: int,
        begins: datetime = NOW - timedelta(days=1),
        ends: datetime = NOW + timedelta(days=9),
    ) -> x509.CertificateRevocationList:
        builder = x509.CertificateRevocationListBuilder(self.name, begins, ends)
        for serial in revoked:
            builder = builder.add_revoked_certificate(x509.RevokedCertificateBuilder(serial, begins).build())
        return builder.sign(self.key, hashes.SHA256())


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def problems_of(check: Callable[[], object]) -> str:
    with pytest.raises(CertificateRefused) as refused:
        check()
    assert refused.value.what.startswith(f"{WHERE} is refused")
    assert refused.value.left == "nothing was touched"
    assert refused.value.do
    return "\n".join(refused.value.problems)


# -- fingerprints

DIGEST = bytes(range(32))
SPELLINGS = [
    DIGEST.hex(),
    DIGEST.hex().upper(),
    DIGEST.hex(":"),
    DIGEST.hex(":").upper(),
    DIGEST.hex(" "),
    DIGEST.hex("-"),
    f"sha256:{DIGEST.hex()}",
    f"SHA256 Fingerprint={DIGEST.hex(':').upper()}",
    f"sha256 Fingerprint={DIGEST.hex(':').upper()}",
    f"SHA-256 {DIGEST.hex(' ', 4)}",
    f"  {DIGEST.hex()}  ",
]


@pytest.mark.parametrize("spelling", SPELLINGS)
def test_a_fingerprint_is_read_in_every_usual_spelling(spelling: str) -> None:
    assert read_fingerprints("f", spelling) == (DIGEST.hex(),)


@given(st.binary(min_size=32, max_size=32), st.sampled_from(["", ":", " ", "-"]), st.booleans())
def test_a_fingerprint_is_read_whatever_its_digits(digest: bytes, separator: str, upper: bool) -> None:
    text = digest.hex(separator) if separator else digest.hex()
    assert read_fingerprints("f", text.upper() if upper else text) == (digest.hex(),)


def test_several_fingerprints_are_separated_by_commas() -> None:
    other = DIGEST[::-1].hex(":")
    assert read_fingerprints("f", f"{DIGEST.hex()}, {other},{DIGEST.hex(':')}") == (DIGEST.hex(), DIGEST[::-1].hex())
    assert read_fingerprints("f", " ") == ()


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (DIGEST[:20].hex(":"), "as of SHA-1"),
        (DIGEST[:16].hex(), "as of MD5"),
        (DIGEST.hex()[:-1], "63 characters"),
        (f"{DIGEST.hex()},", "0 characters"),
        (DIGEST.hex()[:-1] + "g", "not a SHA-256 fingerprint"),
        (DIGEST.hex()[:-1] + "٣", "not a SHA-256 fingerprint"),  # an Arabic digit
        (f"md5:{DIGEST.hex()}", "not a SHA-256 fingerprint"),
        ("*", "not a SHA-256 fingerprint"),
    ],
)
def test_anything_else_is_no_fingerprint(text: str, problem: str) -> None:
    with pytest.raises(BadParameter, match=problem):
        read_fingerprints("f", text)


# -- reading, and which certificate a fingerprint vouches for

ROOT = CA("Root CA")
INTERMEDIATE = CA("Intermediate CA", issuer=ROOT)
LOWER = CA("Lower CA", issuer=INTERMEDIATE)
OTHER = CA("Other CA")


def test_pem_der_and_a_bundle_with_text_around_it_are_read() -> None:
    root, other = ROOT.certificate, OTHER.certificate
    assert read_partner_ca(pem(root), where=WHERE) == (root,)
    assert read_partner_ca(root.public_bytes(Encoding.DER), where=WHERE) == (root,)
    bundle = b"Root:\r\n" + pem(root).replace(b"\n", b"\r\n") + b"\n# Other\n" + pem(other, root)
    assert read_partner_ca(bundle, where=WHERE) == (root, other)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (b"", "no certificate that can be read"),
        (b"\0" * 100, "no certificate that can be read"),
        (b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n", "no certificate that can be read"),
        (b"x" * (LONGEST_FILE + 1), "bytes, as no CA's file has"),
        (pem(*(CA(f"CA {n}").certificate for n in range(21))), "21 certificates, more than 20"),
        (
            pem(ROOT.certificate) + ROOT.key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()),
            "holds a private key",
        ),
    ],
)
def test_what_is_no_ca_file_is_refused(data: bytes, problem: str) -> None:
    assert problem in problems_of(lambda: read_partner_ca(data, where=WHERE))


@given(st.binary(max_size=300))
def test_junk_never_crashes(data: bytes) -> None:
    for check in (lambda: read_partner_ca(data, where=WHERE), lambda: check_crls(data, (), now=NOW, where=WHERE)):
        with pytest.raises(CertificateRefused):
            check()


@pytest.mark.parametrize(
    ("chosen", "vouched"),
    [
        ((ROOT,), (ROOT,)),
        ((ROOT, INTERMEDIATE, LOWER), (ROOT,)),  # each signed by one that counts
        ((LOWER, INTERMEDIATE, ROOT), (ROOT,)),  # in any order
        ((INTERMEDIATE,), (INTERMEDIATE,)),
        ((ROOT, OTHER), (ROOT, OTHER)),
    ],
)
def test_a_fingerprint_vouches_for_what_its_certificate_signed(chosen: tuple[CA, ...], vouched: tuple[CA, ...]) -> None:
    given = [fingerprint(ca.certificate) for ca in vouched]
    check_fingerprints([ca.certificate for ca in chosen], given, where=WHERE)


@pytest.mark.parametrize(
    ("chosen", "vouched", "problem"),
    [
        ((ROOT,), (), "no fingerprint was given"),
        ((ROOT,), (OTHER,), "no certificate in it has the fingerprint"),
        ((ROOT, OTHER), (ROOT,), "/CN=Other CA has the fingerprint .* which was not given"),
        # Whoever signed an intermediate may sign another: its own fingerprint says nothing of the root.
        ((ROOT, INTERMEDIATE), (INTERMEDIATE,), "/CN=Root CA has the fingerprint .* which was not given"),
        ((ROOT, LOWER), (ROOT,), "/CN=Lower CA has the fingerprint"),
        ((ROOT,), (ROOT, OTHER), "no certificate in it has the fingerprint"),
    ],
)
def test_what_no_fingerprint_vouches_for_is_refused(
    chosen: tuple[CA, ...], vouched: tuple[CA, ...], problem: str
) -> None:
    offered = [ca.certificate for ca in chosen]
    given = [fingerprint(ca.certificate) for ca in vouched]
    assert re.search(problem, problems_of(lambda: check_fingerprints(offered, given, where=WHERE)))


def test_a_name_alone_vouches_for_nothing() -> None:
    """A certificate that only says to be issued by the root."""
    forged = CA("Intermediate CA", issuer=CA("Root CA")).certificate
    root = ROOT.certificate
    assert "Intermediate CA" in problems_of(
        lambda: check_fingerprints((root, forged), (fingerprint(root),), where=WHERE)
    )


# -- what may be trusted


@pytest.mark.parametrize(
    "ca", [ROOT, INTERMEDIATE, CA(key=rsa.generate_private_key(65537, 2048)), CA(digest=hashes.SHA512())]
)
def test_a_sound_ca_is_taken(ca: CA) -> None:
    assert check_partner_ca((ca.certificate,), now=NOW, where=WHERE) == ()


@pytest.mark.parametrize(
    ("ca", "problem"),
    [
        (CA(is_ca=False), "no CA certificate"),
        (CA(signs=False), "may not sign certificates"),
        (CA(ends=NOW - timedelta(seconds=1)), "expired on 2026-11-22 11:59:59 UTC"),
        (CA(begins=NOW + timedelta(hours=1)), "not valid before 2026-11-22 13:00:00 UTC"),
        (CA(key=rsa.generate_private_key(65537, 1024)), "RSA with 1024 bits"),
        (CA(key=ec.generate_private_key(ec.SECP192R1())), "elliptic curve of 192 bits"),
        (CA(key=dsa.generate_private_key(2048)), "its key is weak: DSA"),
    ],
)
def test_an_unsound_ca_is_refused(ca: CA, problem: str) -> None:
    def check() -> None:
        check_partner_ca((OTHER.certificate, ca.certificate), now=NOW, where=WHERE)

    assert problem in problems_of(check)
    assert "Other CA" not in problems_of(check)


def test_every_reason_is_named_at_once() -> None:
    wrong = CA(is_ca=False, ends=NOW - timedelta(days=1), key=rsa.generate_private_key(65537, 1024))
    assert len(problems_of(lambda: check_partner_ca((wrong.certificate,), now=NOW, where=WHERE)).splitlines()) == 3


@pytest.fixture(scope="module")
def by_openssl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A root and an intermediate signed with SHA-1, and a CRL: this library makes none of them."""
    script = """
    printf '%s\\n' '[ca]' database=index crlnumber=number default_md=sha1 default_crl_days=9 >cnf
    : >index; echo 01 >number
    ca="-addext basicConstraints=critical,CA:TRUE -nodes -newkey rsa:2048 -sha1"
    openssl req -x509 $ca -days 9 -subj "/CN=Old Root" -keyout root.key -out root.pem
    openssl req -new $ca -subj "/CN=Old Intermediate" -keyout key -out request
    signed="-CA root.pem -CAkey root.key -set_serial 2 -copy_extensions copyall"
    openssl x509 -req -sha1 -in request $signed -out below.pem
    openssl ca -config cnf -name ca -gencrl -cert root.pem -keyfile root.key -out crl.pem
    """
    directory = tmp_path_factory.mktemp("sha1")
    subprocess.run(["sh", "-ec", script], cwd=directory, check=True, capture_output=True)
    return directory


def test_sha1_is_refused_where_somebody_relies_on_the_signature(by_openssl: Path) -> None:
    now = datetime.now(UTC)
    below, root = (read_partner_ca((by_openssl / f"{n}.pem").read_bytes(), where=WHERE)[0] for n in ("below", "root"))
    assert "signed with SHA1, which can be forged" in problems_of(
        lambda: check_partner_ca((below,), now=now, where=WHERE)
    )
    assert "signed with SHA1" in problems_of(
        lambda: check_crls((by_openssl / "crl.pem").read_bytes(), (root,), now=now, where=WHERE)
    )
    (remark,) = check_partner_ca((root,), now=now, where=WHERE)
    assert "is signed with SHA1 by itself" in remark


def test_a_name_that_is_trusted_with_another_key_is_refused() -> None:
    """OpenSSL compares names without regard to case and spaces."""
    namesake = CA("partner  ca").certificate

    def check() -> None:
        check_beside((CA().certificate,), trusted=(OTHER.certificate, namesake), own=(), where=WHERE)

    assert "AuthorityKeyIdentifier" in problems_of(check)


def test_the_same_key_again_is_no_namesake() -> None:
    """A CA that prolonged its certificate."""
    ca = CA()
    longer = CA(key=ca.key, ends=NOW + timedelta(days=999))
    check_beside((longer.certificate,), trusted=(ca.certificate,), own=(), where=WHERE)


def test_our_own_ca_is_no_partners() -> None:
    ours = CA("Relay", issuer=ROOT, is_ca=False).certificate

    def check() -> None:
        check_beside((ROOT.certificate,), trusted=(ROOT.certificate,), own=(ours,), where=WHERE)

    assert "our own CA" in problems_of(check)


@pytest.mark.parametrize("trusted", [(), (OTHER,), (INTERMEDIATE,)])
def test_an_intermediate_without_its_root_is_refused(trusted: tuple[CA, ...]) -> None:
    def check() -> None:
        check_beside((LOWER.certificate,), trusted=[ca.certificate for ca in trusted], own=(), where=WHERE)

    assert "without its root" in problems_of(check)


@pytest.mark.parametrize(
    ("offered", "trusted"), [((LOWER, INTERMEDIATE, ROOT), ()), ((LOWER,), (ROOT, INTERMEDIATE)), ((ROOT,), ())]
)
def test_an_intermediate_with_its_root_is_taken(offered: tuple[CA, ...], trusted: tuple[CA, ...]) -> None:
    certificates = [[ca.certificate for ca in cas] for cas in (offered, trusted)]
    check_beside(certificates[0], trusted=certificates[1], own=(), where=WHERE)


# -- CRLs


def crl_pem(*crls: x509.CertificateRevocationList) -> bytes:
    return b"".join(crl.public_bytes(Encoding.PEM) for crl in crls)


def test_crls_are_read_in_pem_and_der_each_with_its_ca() -> None:
    root, other = ROOT.certificate, OTHER.certificate
    of_root, of_other = ROOT.crl(5), OTHER.crl()
    found = check_crls(crl_pem(of_other, of_root), (root, other), now=NOW, where=WHERE)
    assert found == ((other, of_other), (root, of_root))
    der = of_root.public_bytes(Encoding.DER)
    assert check_crls(der, (root,), now=NOW, where=WHERE) == ((root, of_root),)


@pytest.mark.parametrize(
    ("data", "problem"),
    [
        (crl_pem(OTHER.crl()), "none of the CAs offered has issued it"),
        (crl_pem(CA("Root CA").crl()), "its signature is not that of the CA offered"),
        (crl_pem(ROOT.crl(ends=NOW)), "it ended on 2026-11-22 12:00:00 UTC: with it, every certificate"),
        (crl_pem(ROOT.crl(begins=NOW + timedelta(hours=1))), "not valid before"),
        (crl_pem(ROOT.crl(), ROOT.crl(7)), "another one of the same CA"),
        (pem(ROOT.certificate), "no certificate revocation list that can be read"),
        (b"", "no certificate revocation list that can be read"),
    ],
)
def test_a_crl_that_would_not_serve_is_refused(data: bytes, problem: str) -> None:
    assert problem in problems_of(lambda: check_crls(data, (ROOT.certificate,), now=NOW, where=WHERE))


def test_a_ca_that_may_not_sign_crls_is_noticed() -> None:
    mute = CA(signs=False)
    assert "may not sign CRLs" in problems_of(
        lambda: check_crls(crl_pem(mute.crl()), (mute.certificate,), now=NOW, where=WHERE)
    )


def test_a_crl_older_than_the_one_installed_is_refused() -> None:
    old, new = ROOT.crl(begins=NOW - timedelta(days=2)), ROOT.crl(7)
    check_not_older(old, new, where=WHERE)
    assert "is newer" in problems_of(lambda: check_not_older(new, old, where=WHERE))
