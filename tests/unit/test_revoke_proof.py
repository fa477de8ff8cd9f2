"""What 05 takes from a host for its proof and its plan, with given certificates and CRLs."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import cast

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mailtls_nb.hosts.address import HostAddress
from mailtls_nb.hosts.base import Host
from mailtls_nb.names import DistinguishedName
from mailtls_nb.observe.certificate_files import FileStatus
from mailtls_nb.observe.own_certificate import OwnCertificate
from mailtls_nb.observe.trust_store import StoredFile, StoreDirectory, TrustStore
from mailtls_nb.pki.crl import crl_pem, sign_crl
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import row_for
from mailtls_nb.pki.profiles import Roles, ca_certificate, mail_server_certificate
from mailtls_nb.pki.survey import Survey
from mailtls_nb.plan import sha256
from mailtls_nb.procedures.host_look import HostLook
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.procedures.revoke.observation import CABefore, CrlHost, RevokeBefore
from mailtls_nb.procedures.revoke.plan import host_steps
from mailtls_nb.procedures.revoke.proof import good_client, revoked_client
from mailtls_nb.procedures.revoke.wish import RevokeWish
from mailtls_nb.procedures.signing_ca import SigningCA
from mailtls_nb.secret import SecretReference
from tests.unit.test_check_findings import LAYOUT

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
EARLIER = NOW - timedelta(hours=1)
KEY = ec.generate_private_key(ec.SECP256R1())
CA, OTHER_CA = (
    ca_certificate(DistinguishedName(name), KEY, serial=1, now=NOW - timedelta(days=400), valid_days=3650)
    for name in ("Example Mail CA", "Another CA")
)


def made(roles: Roles, *, issuer: x509.Certificate = CA, days: int = 30) -> x509.Certificate:
    return mail_server_certificate(
        KEY.public_key(),
        ("relay.example.test",),
        roles=roles,
        issuer=issuer,
        issuer_key=KEY,
        serial=x509.random_serial_number(),
        now=NOW + timedelta(days=days - 30),
        valid_days=30,
    )


def host(name: str, *own: tuple[str, x509.Certificate, str]) -> CrlHost:
    """With certificates in service: each with its file, and that of its key."""
    files = tuple(
        OwnCertificate(path, None, (certificate,), key_path, None, False, KEY.public_key())
        for path, certificate, key_path in own
    )
    return CrlHost(HostAddress("testbed", name), cast(HostLook, None), files)


def before(*hosts: CrlHost, asked: tuple[x509.Certificate, ...] = ()) -> RevokeBefore:
    survey = Survey(asked=[row_for(certificate) for certificate in asked])
    return RevokeBefore(NOW, CABefore(cast(CADirectory, cast(object, _Directory())), survey, None), hosts)


REFRESH = RevokeWish(
    "refresh",
    (),
    "",
    "unspecified",
    30,
    (),
    None,
    SigningCA("testbed", SecretReference.parse("ca_passphrase", "testbed")),
    shows_lost_key=False,
)


class _Directory:
    ca_certificate = CA


CONTEXT = Context(
    Path("/nowhere"),
    host=lambda address: cast(Host, str(address)),
    here=cast(Host, "here"),
    now=lambda: NOW,
    testbed=lambda: pytest.fail("no testbed is needed"),
    secret=lambda reference: pytest.fail(f"no secret is needed: {reference}"),
)


def test_of_separate_certificates_a_client_shows_the_clients() -> None:
    server, client = made("server"), made("client")
    relay = host("relay", ("/c/s.pem", server, "/c/s.pem"), ("/c/c.pem", client, "/c/c.pem"))
    assert relay.shown_by_clients(CA) == (("/c/c.pem", client),)
    shown = good_client(CONTEXT, before(relay), relay)
    assert shown is not None
    assert (shown.path, shown.certificate) == ("/c/c.pem", client)


@pytest.mark.parametrize(
    "own",
    [
        ("/c/a.pem", made("both"), "/c/key.pem"),
        ("/c/a.pem", made("both", issuer=OTHER_CA), "/c/a.pem"),
        ("/c/a.pem", made("server"), "/c/a.pem"),
        ("/c/a.pem", made("both", days=-1), "/c/a.pem"),
    ],
    ids=["key elsewhere", "another CA's", "for servers only", "ended"],
)
def test_what_no_client_can_show_proves_nothing(own: tuple[str, x509.Certificate, str]) -> None:
    relay, partner = host("relay", own), host("partner")
    assert good_client(CONTEXT, before(relay), partner) is None
    assert revoked_client(CONTEXT, before(relay, asked=(own[1],)), partner) is None


def crl(number: int, *, at: datetime = NOW) -> x509.CertificateRevocationList:
    return sign_crl(CA, KEY, [], number=number, now=at, days=30)


def having(name: str, *crls: x509.CertificateRevocationList) -> CrlHost:
    """A host that reads these from the file of CRLFile."""
    file = StoredFile(
        "/c/our.crl", FileStatus(0o644, "root:root"), 0o644, sha256(b"".join(map(crl_pem, crls))), (), crls
    )
    store = TrustStore(StoreDirectory("/c"), None, None, file, (), ())
    look = HostLook(LAYOUT, b"", FileStatus(0o644, "root:root"), b"O CRLFile=/c/our.crl\n", store, b"", "")
    return replace(host(name), look=look)


@pytest.mark.parametrize(
    ("there", "reasons", "number"),
    [
        ((), (), 1),
        ((crl(4),), (), 5),
        ((crl(4), crl(7)), ("its number is 5, and testbed:h1 has one with number 7 already",), 8),
        (
            (crl(5, at=EARLIER),),
            ("its number is 5, and testbed:h0 has another with number 5 already",),
            6,
        ),
    ],
    ids=["none", "older", "newer", "another"],
)
def test_a_new_one_is_signed_with_a_number_higher_than_every_hosts(
    there: tuple[x509.CertificateRevocationList, ...], reasons: tuple[str, ...], number: int
) -> None:
    """A directory that came back from a backup, or was adopted without its crlnumber."""
    hosts = [having(f"h{position}", known) for position, known in enumerate(there)]
    seen = before(*hosts)
    seen = replace(seen, ca=replace(seen.ca, crl=crl(5)))
    assert seen.reasons_to_sign(REFRESH) == reasons
    assert seen.next_number == number


def test_a_host_with_the_newest_is_no_reason_to_sign() -> None:
    newest = crl(5)
    seen = before(having("relay", newest))
    assert replace(seen, ca=replace(seen.ca, crl=newest)).reasons_to_sign(REFRESH) == ()


def test_a_crl_that_came_by_hand_is_read_by_a_reload() -> None:
    """The very one that is to be there: sendmail goes on with the one before."""
    newest = crl(5)
    relay = having("relay", newest)
    assert host_steps(relay, CA, crl_pem(newest)) == []
    unread = host_steps(replace(relay, crl_file_is_unread=True), CA, crl_pem(newest))
    assert [step.action for step in unread] == ["reload"]


def test_a_revoked_one_is_shown_by_another_host_as_client() -> None:
    server, client = made("server"), made("client")
    relay = host("relay", ("/c/s.pem", server, "/c/s.pem"), ("/c/c.pem", client, "/c/c.pem"))
    partner = host("partner")
    seen = before(relay, partner, asked=(server, client))
    shown = revoked_client(CONTEXT, seen, partner)
    assert shown is not None
    assert shown.certificate == client
    assert revoked_client(CONTEXT, seen, relay) is None
    assert revoked_client(CONTEXT, replace(seen, hosts=(partner,)), partner) is None
