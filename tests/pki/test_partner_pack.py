"""The partner pack: the CA certificate in two forms, its fingerprint as openssl prints it, instructions."""

from __future__ import annotations

import re
import shlex
import subprocess
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
    assert partner_pack(ca.ca_certificate, ("relay.example.test", "mail.example.test")) == pack


def test_each_mail_server_is_told_to_require_our_ca_in_both_directions(ca: CADirectory) -> None:
    lines = _readme(ca, "relay.example.test", "mail.example.test").splitlines()
    for line in (
        "TLS_Clt:mail.example.test\tPERM+VERIFY:112+CI:/CN=Example+20Mail+20CA",
        "TLS_Srv:mail.example.test\tTEMP+VERIFY:112+CI:/CN=Example+20Mail+20CA",
        "TLS_Rcpt:example.test\tTEMP+VERIFY:112+CI:/CN=Example+20Mail+20CA",
        "mail.example.test    need_our_ca",
        "need_our_ca = permit_tls_all_clientcerts, reject",
        "example.test    secure match=relay.example.test:mail.example.test tafile=/etc/postfix/example-mail-ca.pem",
        "  hosts = +ignore_unknown : relay.example.test : mail.example.test",
        "  domains = example.test",
        "  transport = to_our_partner",
    ):
        assert lines.count(f"    {line}") == 1, line


def test_each_mail_server_has_the_steps_in_one_order(ca: CADirectory) -> None:
    fingerprint, *servers = _readme(ca, "relay.example.test").split("\n## ")[1:]
    assert fingerprint.startswith("1. Check the fingerprint")
    assert [server.split()[1] for server in servers] == ["sendmail", "Postfix", "Exim"]
    for server in servers:
        assert re.findall(r"^\*\*(.+?)\*\*", server, re.MULTILINE) == [
            "Install the CA.",
            "Require it for mail from us.",
            "Require it for mail to us.",
            "Reload.",
            "See that it works.",
        ]


def test_a_pack_without_hosts_says_first_that_it_is_not_ready(ca: CADirectory) -> None:
    readme = _readme(ca)
    assert "NOT READY TO SEND" in readme.split("\n")[2]
    assert "    TLS_Clt:MAIL.EXAMPLE.TEST\tPERM+VERIFY" in readme
    assert "example.test" not in readme


def test_the_command_in_the_note_replaces_every_placeholder(ca: CADirectory, tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text(_readme(ca))
    (command,) = re.findall("sed -i .*", _readme(ca))
    command = command.replace("HOST", "mx.nordwind.test").replace("DOMAIN", "nordwind.test")
    subprocess.run(shlex.split(command), cwd=tmp_path, check=True)
    without_note = re.sub("^>.*\n", "", (tmp_path / "README.md").read_text(), flags=re.MULTILINE)
    expected = _readme(ca, "mx.nordwind.test").splitlines()
    assert [line for line in without_note.splitlines() if line] == [line for line in expected if line]


def test_a_pack_with_hosts_holds_no_placeholder(ca: CADirectory) -> None:
    readme = _readme(ca, "mx.nordwind.test")
    assert "NOT READY" not in readme
    assert "EXAMPLE.TEST" not in readme.upper()


@pytest.mark.parametrize(
    ("hosts", "domains"),
    [
        (("nordwind.test",), "nordwind.test"),
        (("mx.nordwind.test", "mx2.nordwind.test"), "nordwind.test"),
        (("mx.nordwind.test", "mx.suedwind.test"), "nordwind.test : suedwind.test"),
    ],
)
def test_the_mail_domain_is_never_a_top_level_domain(ca: CADirectory, hosts: tuple[str, ...], domains: str) -> None:
    assert f"    domains = {domains}\n" in _readme(ca, *hosts)


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


def _readme(ca: CADirectory, *hosts: str) -> str:
    return partner_pack(ca.ca_certificate, hosts)["README.md"].decode()
