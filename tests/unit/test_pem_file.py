"""CACertFile's content: certificates in, certificates out, and nothing else touched."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailtls_nb.names import DistinguishedName
from mailtls_nb.pki.pem_file import beginning_with, without
from mailtls_nb.pki.profiles import ca_certificate, key_type

NOW = datetime(2026, 11, 28, tzinfo=UTC)


@pytest.fixture(scope="module")
def cas() -> list[x509.Certificate]:
    key = key_type("ec-p256", use="ca").generate()
    names = [DistinguishedName(name) for name in ("Old CA", "New CA", "Other CA")]
    return [ca_certificate(n, key, serial=s, now=NOW, valid_days=9) for s, n in enumerate(names, start=5)]


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def test_one_goes_and_every_other_byte_stays(cas: list[x509.Certificate]) -> None:
    old, new, other = cas
    text = b"# ours\n" + pem(old) + b"\n# theirs\n" + pem(other).rstrip(b"\n")
    assert without(text, [old]) == b"# ours\n\n# theirs\n" + pem(other).rstrip(b"\n")
    assert without(text, [new]) == text
    assert without(text.replace(b"\n", b"\r\n"), [old, other]) == b"# ours\r\n\r\n# theirs\r\n"


def test_what_cannot_be_read_stays(cas: list[x509.Certificate]) -> None:
    broken = b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"
    assert without(broken + pem(cas[0]), [cas[0]]) == broken


def test_those_that_are_to_be_first_are_first_and_once(cas: list[x509.Certificate]) -> None:
    old, new, other = cas
    assert beginning_with(pem(old, other), [new, old]) == pem(new, old, other)
    assert beginning_with(pem(new, old, other), [new, old]) == pem(new, old, other)
    assert beginning_with(b"", [new]) == pem(new)
