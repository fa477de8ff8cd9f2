"""The partner pack: the CA certificate in two forms, its fingerprint as openssl prints it, instructions."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from cryptography import x509

from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.partner_pack import partner_pack


def test_the_files_of_the_pack(ca: CADirectory, openssl: Callable[..., str], tmp_path: Path) -> None:
    pack = partner_pack(ca.ca_certificate, ("relay.example.test", "mail.example.test"))
    assert sorted(pack) == ["README.md", "example-mail-ca.der", "example-mail-ca.pem", "fingerprint.txt"]
    assert x509.load_pem_x509_certificate(pack["example-mail-ca.pem"]) == ca.ca_certificate
    assert x509.load_der_x509_certificate(pack["example-mail-ca.der"]) == ca.ca_certificate
    (tmp_path / "ca.pem").write_bytes(pack["example-mail-ca.pem"])
    printed = openssl("x509", "-in", "ca.pem", "-noout", "-fingerprint", "-sha256").strip().partition("=")[2]
    assert printed == ca.fingerprint
    assert pack["fingerprint.txt"].decode() == f"SHA-256 {printed}\nSHA-256 {printed.replace(':', '').lower()}\n"
    readme = pack["README.md"].decode()
    assert printed in readme
    assert "TLS_Clt:mail.example.test\tPERM+VERIFY:112+CI:/CN=Example+20Mail+20CA" in readme
    assert "secure match=relay.example.test:mail.example.test tafile=/etc/postfix/example-mail-ca.pem" in readme
    assert partner_pack(ca.ca_certificate, ("relay.example.test", "mail.example.test")) == pack


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("Beispiel Stra\u00dfe & S\u00f6hne", "beispiel-strae-sohne-ca.pem"),
        ("\u90ae\u4ef6", "ca.pem"),
        ("../../etc/x CA", "etc-x-ca.pem"),
    ],
)
def test_any_name_gives_a_plain_file_name(
    name: str, file: str, create: Callable[..., CADirectory], tmp_path: Path
) -> None:
    assert file in partner_pack(create(tmp_path / "ca", name=name).ca_certificate)
