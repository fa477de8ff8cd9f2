"""Signing requests made by openssl: what is taken over, what is ignored, what is refused."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from mailtls_nb.errors import CertificateRefused
from mailtls_nb.pki.profiles import key_word
from mailtls_nb.pki.requests import read_request

NAMES = ("relay.example.test", "mail.example.test")
P256 = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256")
Make = Callable[..., bytes]


@pytest.fixture
def make(openssl: Callable[..., str], tmp_path: Path) -> Make:
    def make(
        subject: str = "/CN=relay.example.test",
        *extensions: str,
        key: tuple[str, ...] = P256,
        options: tuple[str, ...] = (),
    ) -> bytes:
        added = [word for extension in extensions for word in ("-addext", extension)]
        openssl("req", "-new", *key, "-nodes", "-keyout", "key", "-subj", subject, *added, *options, "-out", "csr")
        return (tmp_path / "csr").read_bytes()

    return make


def refused(data: bytes) -> str:
    with pytest.raises(CertificateRefused) as caught:
        read_request(data, names=NAMES, where="partner.csr")
    assert "partner.csr" in str(caught.value)
    assert "no certificate was issued" in str(caught.value)
    return "\n".join(caught.value.problems)


@pytest.mark.parametrize(
    ("key", "word"),
    [
        (P256, "ec-p256"),
        (("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-384"), "ec-p384"),
        (("-newkey", "rsa:2048"), "rsa-2048"),
    ],
)
def test_a_good_request_is_reduced_to_its_key(make: Make, key: tuple[str, ...], word: str) -> None:
    request = read_request(make(key=key), names=NAMES, where="x.csr")
    assert key_word(request.public_key) == word
    assert request.ignored == ()


def test_der_and_upper_case_names_and_no_names_are_fine(make: Make) -> None:
    extension = "subjectAltName=DNS:MAIL.example.test,DNS:relay.example.test"
    read_request(make("/CN=Relay.Example.Test", extension), names=NAMES, where="x.csr")
    read_request(make("/CN=relay.example.test", options=("-outform", "DER")), names=NAMES, where="x.csr")
    read_request(make("/O=Example"), names=NAMES, where="x.csr")


def test_what_a_request_asks_for_beyond_names_is_reported_and_not_taken_over(make: Make) -> None:
    data = make(
        "/C=DE/O=Partner/CN=relay.example.test",
        "basicConstraints=critical,CA:TRUE",
        "keyUsage=keyCertSign",
        "extendedKeyUsage=codeSigning",
        "subjectAltName=DNS:mail.example.test,IP:192.0.2.1,email:root@example.test",
        "1.2.3.4=ASN1:NULL",
    )
    ignored = read_request(data, names=NAMES, where="x.csr").ignored
    assert len(ignored) == 8
    text = "\n".join(ignored)
    for word in ("C=DE", "O=Partner", "CA:TRUE", "key usage", "extended key usage", "192.0.2.1", "root@", "1.2.3.4"):
        assert word in text


def test_every_problem_is_named_at_once(make: Make) -> None:
    data = make(
        "/CN=stranger.example.test",
        "subjectAltName=DNS:*.example.test,DNS:relay.example.test,DNS:-bad.test",
        key=("-newkey", "rsa:1024"),
        options=("-sha1",),
    )
    problems = refused(data)
    for words in ("1024 bits", "SHA1", "asks for stranger.example.test", "wildcard", "dash"):
        assert words in problems
    assert len(problems.splitlines()) == 5


@pytest.mark.parametrize(
    ("key", "words"),
    [
        (("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-521"), "secp521r1"),
        (("-newkey", "ed25519"), "Ed25519"),
        (("-newkey", "rsa:2048", "-pkeyopt", "rsa_keygen_pubexp:3"), "exponent 3"),
    ],
)
def test_unusual_keys_are_refused(make: Make, key: tuple[str, ...], words: str) -> None:
    assert words in refused(make(key=key))


def test_a_request_that_was_changed_is_refused(make: Make) -> None:
    data = bytearray(make(options=("-outform", "DER")))
    position = data.index(b"relay.example.test")
    data[position : position + 5] = b"mail."[:5]
    assert "signature is not by its own key" in refused(bytes(data))


def test_what_is_no_single_request_is_refused(make: Make, tmp_path: Path) -> None:
    good = make()
    key = (tmp_path / "key").read_bytes()
    assert "private key" in refused(good + key)
    assert "2 requests" in refused(good + good)
    for garbage in (
        b"",
        b"garbage",
        b"\x30\x03\x02\x01",
        good[:-60],
        key.replace(b"PRIVATE KEY", b"CERTIFICATE REQUEST"),
    ):
        assert "no certificate signing request" in refused(garbage)
