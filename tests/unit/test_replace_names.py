"""What the CA that follows an odd one is called, and the type of its key: it can always be replaced."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from mailtls_nb.errors import BadParameter
from mailtls_nb.library import find
from mailtls_nb.procedures.replace.names import new_key_type, new_name
from mailtls_nb.procedures.replace.wish import ReplaceWish, read_wish

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


def wish(**given: str | int) -> ReplaceWish:
    return read_wish({**{p.name: p.default for p in find("09").declared}, **given})


def old_ca(*, country: str = "", organization: str = "", common_name: str = "Old CA") -> x509.Certificate:
    """As somebody else made it: with attributes that we would refuse."""
    given = (
        (NameOID.COUNTRY_NAME, country),
        (NameOID.ORGANIZATION_NAME, organization),
        (NameOID.COMMON_NAME, common_name),
    )
    name = x509.Name([x509.NameAttribute(oid, value, _validate=False) for oid, value in given if value])
    now = datetime(2026, 1, 1, tzinfo=UTC)
    builder = x509.CertificateBuilder(name, name, KEY.public_key(), 7, now, now + timedelta(days=9))
    return builder.sign(KEY, hashes.SHA256())


@pytest.mark.parametrize(
    ("country", "organization", "expected"),
    [
        ("DE", "Example", "/C=DE/O=Example/CN=Example Mail CA 2"),
        ("de", "Example", "/C=DE/O=Example/CN=Example Mail CA 2"),
        ("", "x" * 65, "/CN=Example Mail CA 2"),
        ("DE", " Example ", "/C=DE/O=Example/CN=Example Mail CA 2"),
    ],
)
def test_an_odd_name_is_no_dead_end(country: str, organization: str, expected: str) -> None:
    assert str(new_name(wish(), old_ca(country=country, organization=organization))) == expected


def test_the_old_name_is_refused() -> None:
    with pytest.raises(BadParameter, match="is the name of the CA that is to be replaced"):
        new_name(wish(new_common_name="Old CA"), old_ca(organization="Other"))


def test_a_weak_key_is_not_made_again() -> None:
    """One of RSA with 2048 bits gets a successor with a key that a CA may have; a wish is a wish."""
    assert new_key_type(wish(), old_ca()).word == "ec-p256"
    assert new_key_type(wish(key_type="rsa-4096"), old_ca()).word == "rsa-4096"
