"""Profiles: what openssl and cryptography's verifiers say of what we make, and what we refuse to make."""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_private_key

from mailtls_nb.errors import BadParameter, CertificateRefused
from mailtls_nb.names import DistinguishedName
from mailtls_nb.pki.chain import verify_client, verify_server
from mailtls_nb.pki.profiles import (
    KEY_TYPES,
    KeyType,
    PrivateKey,
    Roles,
    ca_certificate,
    constraints_of,
    key_type,
    key_word,
    mail_server_certificate,
    valid_roles,
)

NOW = datetime(2026, 8, 1, 12, tzinfo=UTC)
KEY = ec.generate_private_key(ec.SECP256R1())
CA_KEY = ec.generate_private_key(ec.SECP256R1())


def make_ca(key: PrivateKey = CA_KEY, constraints: tuple[str, ...] = (), valid_days: int = 3650) -> x509.Certificate:
    name = DistinguishedName("Example Mail CA", "Example", "DE")
    return ca_certificate(name, key, serial=77, now=NOW, valid_days=valid_days, name_constraints=constraints)


def issue(
    ca: x509.Certificate,
    *names: str,
    roles: Roles = "both",
    key: PrivateKey = KEY,
    ca_key: PrivateKey = CA_KEY,
    now: datetime = NOW,
    valid_days: int = 365,
) -> x509.Certificate:
    return mail_server_certificate(
        key.public_key(),
        names or ("relay.example.test",),
        roles=roles,
        issuer=ca,
        issuer_key=ca_key,
        serial=78,
        now=now,
        valid_days=valid_days,
    )


def openssl_verify(tmp_path: Path, ca: x509.Certificate, leaf: x509.Certificate, *options: str) -> str:
    (tmp_path / "ca.pem").write_bytes(ca.public_bytes(Encoding.PEM))
    (tmp_path / "leaf.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
    argv = ["openssl", "verify", "-x509_strict", "-attime", str(int(NOW.timestamp()) + 60), *options]
    done = subprocess.run(
        [*argv, "-CAfile", "ca.pem", "leaf.pem"], cwd=tmp_path, capture_output=True, text=True, timeout=20, check=False
    )
    return "OK" if done.returncode == 0 else done.stdout + done.stderr


# rsa-4096 takes seconds and differs in one number only.
@pytest.mark.parametrize("kind", KEY_TYPES[:-1], ids=lambda kind: kind.word)
def test_genpkey_makes_the_key_that_the_word_names(kind: KeyType) -> None:
    argv = [*kind.genpkey_argv, "-outform", "PEM"]
    pem = subprocess.run(argv, capture_output=True, timeout=60, check=True).stdout
    key = load_pem_private_key(pem, None)
    assert key_word(key.public_key()) == kind.word  # type: ignore[arg-type]


@pytest.mark.parametrize("word", ["ec-p256", "ec-p384", "rsa-3072"])
def test_openssl_and_cryptography_accept_what_each_kind_of_ca_issues(word: str, tmp_path: Path) -> None:
    ca_key = key_type(word, use="ca").generate()
    ca = make_ca(ca_key)
    host_key = rsa.generate_private_key(65537, 2048)
    leaf = issue(ca, "relay.example.test", "mail.example.test", key=host_key, ca_key=ca_key)
    assert openssl_verify(tmp_path, ca, leaf, "-purpose", "sslserver", "-verify_hostname", "mail.example.test") == "OK"
    assert openssl_verify(tmp_path, ca, leaf, "-purpose", "sslclient") == "OK"
    verify_server(leaf, [], [ca], hostname="relay.example.test", now=NOW)
    verify_client(leaf, [], [ca], now=NOW)
    digest = ca.signature_hash_algorithm
    assert digest is not None
    assert digest.name == ("sha384" if word == "ec-p384" else "sha256")


def test_the_verifications_can_fail(tmp_path: Path) -> None:
    """Another name, another CA of the same name, and another time: each is refused by both instruments."""
    ca, leaf = make_ca(), issue(make_ca())
    stranger = make_ca(ec.generate_private_key(ec.SECP256R1()))
    assert "hostname mismatch" in openssl_verify(tmp_path, ca, leaf, "-verify_hostname", "partner.example.test")
    assert "error" in openssl_verify(tmp_path, stranger, leaf)
    later = str(int((NOW + timedelta(days=366)).timestamp()))
    assert "expired" in openssl_verify(tmp_path, ca, leaf, "-attime", later)
    for roots, name, now in (
        ([ca], "partner.example.test", NOW),
        ([stranger], "relay.example.test", NOW),
        ([ca], "relay.example.test", NOW + timedelta(days=366)),
        ([ca], "relay.example.test", NOW - timedelta(days=1)),
    ):
        with pytest.raises(CertificateRefused, match="does not verify"):
            verify_server(leaf, [], roots, hostname=name, now=now)
    with pytest.raises(CertificateRefused):
        verify_client(leaf, [], [stranger], now=NOW)


@pytest.mark.parametrize(("roles", "server", "client"), [("both", 1, 1), ("server", 1, 0), ("client", 0, 1)])
def test_roles_decide_what_a_certificate_is_good_for(roles: Roles, server: bool, client: bool, tmp_path: Path) -> None:
    ca, leaf = make_ca(), issue(make_ca(), roles=roles)
    assert (openssl_verify(tmp_path, ca, leaf, "-purpose", "sslserver") == "OK") == server
    assert (openssl_verify(tmp_path, ca, leaf, "-purpose", "sslclient") == "OK") == client
    assert valid_roles(roles) == roles


def test_the_ca_may_have_a_successor_cross_signed() -> None:
    """pathlen:1, and nothing beyond the profile."""
    ca = make_ca()
    extensions = {e.oid._name: (e.critical, e.value) for e in ca.extensions}
    assert set(extensions) == {"basicConstraints", "keyUsage", "subjectKeyIdentifier"}
    assert extensions["basicConstraints"] == (True, x509.BasicConstraints(ca=True, path_length=1))


def test_the_mail_server_profile() -> None:
    leaf = issue(make_ca(), "relay.example.test", "mail.example.test")
    critical = {e.oid._name: e.critical for e in leaf.extensions}
    assert critical == {
        "basicConstraints": True,
        "keyUsage": True,
        "extendedKeyUsage": False,
        "subjectAltName": False,
        "subjectKeyIdentifier": False,
        "authorityKeyIdentifier": False,
    }
    usage = leaf.extensions.get_extension_for_class(x509.KeyUsage).value
    assert (usage.digital_signature, usage.key_encipherment, usage.key_cert_sign) == (True, False, False)
    assert leaf.not_valid_before_utc == NOW - timedelta(minutes=5)
    assert leaf.not_valid_after_utc == NOW + timedelta(days=365)


def test_name_constraints_bind_us_and_every_verifier(tmp_path: Path) -> None:
    """We refuse the name; a certificate made for it all the same is refused by openssl and cryptography."""
    free, bound = make_ca(), make_ca(constraints=("example.test", "192.0.2.0/24"))
    assert constraints_of(bound) == ("example.test", "192.0.2.0/24")
    assert openssl_verify(tmp_path, bound, issue(bound)) == "OK"
    verify_server(issue(bound), [], [bound], hostname="relay.example.test", now=NOW)
    with pytest.raises(BadParameter, match=r"outside the names.*example\.test"):
        issue(bound, "relay.example.org")
    with pytest.raises(BadParameter, match="dns_names"):
        issue(bound, "relay.example.test", "notexample.test")
    smuggled = issue(free, "relay.example.org")
    assert "permitted subtree violation" in openssl_verify(tmp_path, bound, smuggled)
    with pytest.raises(CertificateRefused):
        verify_server(smuggled, [], [bound], hostname="relay.example.org", now=NOW)


@pytest.mark.parametrize("days", [0, -1, 3651, 10**9])
def test_a_certificate_never_outlives_its_ca(days: int) -> None:
    with pytest.raises(BadParameter, match="between 1 and 3650"):
        issue(make_ca(), valid_days=days)
    issue(make_ca(), valid_days=3650)


@pytest.mark.parametrize("days", [0, -1, 36_501, 10**9])
def test_the_days_of_a_ca_have_bounds(days: int) -> None:
    with pytest.raises(BadParameter, match="valid_days"):
        make_ca(valid_days=days)


def test_a_ca_at_its_end_or_before_its_start_issues_nothing() -> None:
    with pytest.raises(BadParameter, match="nothing can be issued any more"):
        issue(make_ca(), now=NOW + timedelta(days=3649, hours=1), valid_days=1)
    with pytest.raises(BadParameter, match="clock"):
        issue(make_ca(), now=NOW - timedelta(days=1))


def test_a_name_too_long_for_the_common_name_goes_into_dns_names() -> None:
    long = "a" * 60 + ".example.test"
    with pytest.raises(BadParameter, match="dns_names"):
        issue(make_ca(), long)
    issue(make_ca(), "relay.example.test", long)


@pytest.mark.parametrize("call", [lambda: key_type("rsa-2048", use="ca"), lambda: key_type("dsa", use="host")])
def test_key_types_that_are_not_offered(call: Callable[[], KeyType]) -> None:
    with pytest.raises(BadParameter, match=r"ec-p256.*rsa-4096"):
        call()
    with pytest.raises(BadParameter, match="roles"):
        valid_roles("none")
