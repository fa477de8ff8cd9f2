"""Which certificates a host's name stands for, in a directory that was adopted too."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.x509.oid import NameOID

from mailtls_nb.pki import revoking
from mailtls_nb.pki.certificates import certificate_pem, names_of
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import Row, row_for, serial_text
from mailtls_nb.pki.survey import survey

NAME = "relay.example.test"
DAY = timedelta(days=1)
Adopt = Callable[..., Row]


def made(now: datetime, *subject: tuple[x509.ObjectIdentifier, str], dns: tuple[str, ...] = ()) -> x509.Certificate:
    """Signed by nobody that counts: a survey does not ask who signed."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(oid, value) for oid, value in subject])
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - DAY).not_valid_after(now + 30 * DAY)
    if dns:
        builder = builder.add_extension(x509.SubjectAlternativeName(list(map(x509.DNSName, dns))), critical=False)
    return builder.sign(key, SHA256())


@pytest.fixture
def adopt(ca: CADirectory) -> Adopt:
    def adopt(certificate: x509.Certificate, *, with_file: bool = True) -> Row:
        row = row_for(certificate)
        with ca.layout.database.open("ab") as index:
            index.write(row.line())
        if with_file:
            path = ca.layout.new_certificates / f"{serial_text(row.serial)}.pem"
            path.write_bytes(certificate_pem([certificate]))
        return row

    return adopt


CN, MAIL, ORGANISATION = NameOID.COMMON_NAME, NameOID.EMAIL_ADDRESS, NameOID.ORGANIZATION_NAME
OURS = [
    (((CN, NAME),), ()),
    (((CN, NAME.upper()),), ()),
    (((CN, "A host"),), (NAME.upper(),)),
    (((CN, NAME), (MAIL, "postmaster@example.test")), ()),
    (((CN, NAME),), ("alias.example.test",)),
]
OTHERS = [
    (((CN, f"{NAME}.invalid"),), ()),
    (((CN, f"my{NAME}"),), ()),
    (((ORGANISATION, f"a/CN={NAME}"), (CN, "b.example.test")), ()),
]


@pytest.mark.parametrize("with_file", [True, False])
@pytest.mark.parametrize(("subject", "dns"), OURS)
def test_every_way_to_name_a_host_is_found(
    subject: tuple[tuple[x509.ObjectIdentifier, str], ...],
    dns: tuple[str, ...],
    with_file: bool,
    ca: CADirectory,
    now: datetime,
    adopt: Adopt,
) -> None:
    """Without its file by its common name only."""
    row = adopt(made(now, *subject, dns=dns), with_file=with_file)
    is_named = with_file or NAME in row.subject.lower()
    assert survey(ca, hostname=NAME, now=now).asked == ([row] if is_named else [])
    assert [c.serial_number for c in ca.valid_for(NAME, now=now)] == ([row.serial] if with_file else [])


@pytest.mark.parametrize("with_file", [True, False])
@pytest.mark.parametrize(("subject", "dns"), OTHERS)
def test_no_other_host_is_found(
    subject: tuple[tuple[x509.ObjectIdentifier, str], ...],
    dns: tuple[str, ...],
    with_file: bool,
    ca: CADirectory,
    now: datetime,
    adopt: Adopt,
) -> None:
    adopt(made(now, *subject, dns=dns), with_file=with_file)
    assert survey(ca, hostname=NAME, now=now).asked == []


def test_one_that_is_revoked_is_found_by_its_common_name(ca: CADirectory, now: datetime, adopt: Adopt) -> None:
    row = adopt(made(now, (CN, NAME.upper()), (MAIL, "postmaster@example.test")))
    revoking.revoke(ca, [row.serial], "superseded", now=now)
    (found,) = survey(ca, hostname=NAME, now=now).asked
    assert (found.serial, found.status) == (row.serial, "R")


def test_a_name_of_a_person_is_no_host_name(now: datetime) -> None:
    names = "c.test", "a.test", "b.test"
    assert names_of(made(now, (CN, "Jo Doe"), (CN, "-x.test"), (CN, "localhost"))) == ()
    assert names_of(made(now, (CN, "A.Test"), (CN, "b.test"), dns=("C.test", "a.test"))) == names
