"""What 06 makes of a certificate, with given times: due or not, for how long, and what it refuses."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding

from mailtls_nb.errors import BadParameter, NotReady
from mailtls_nb.names import DistinguishedName
from mailtls_nb.observe.certificate_files import CertificateFiles, FileStatus
from mailtls_nb.observe.own_certificate import OwnCertificate
from mailtls_nb.observe.port25 import Presented
from mailtls_nb.pki.profiles import Roles, ca_certificate, mail_server_certificate
from mailtls_nb.procedures.issue.observation import HostBefore, SignerBefore, is_made_for, reasons_to_issue
from mailtls_nb.procedures.issue.plan import install_plan
from mailtls_nb.procedures.issue.wish import IssueWish
from mailtls_nb.procedures.renew.due import is_superseded, issue_wish, reason_to_renew
from mailtls_nb.procedures.renew.observation import files_in_service
from mailtls_nb.procedures.renew.wish import RenewWish, read_wish
from tests.unit.test_check_findings import LAYOUT

NOW = datetime(2026, 5, 1, 12, tzinfo=UTC)
CA_KEY = ec.generate_private_key(ec.SECP256R1())
CA = ca_certificate(
    DistinguishedName("Example Mail CA"), CA_KEY, serial=1, now=NOW - timedelta(days=400), valid_days=3650
)
PUBLIC_KEY = ec.generate_private_key(ec.SECP256R1()).public_key()
NAME = "relay.example.test"
PATH = f"/etc/mail/certs/{NAME}.pem"
WISH = read_wish(
    {
        "hostname": NAME,
        "renew_before_days": 30,
        "key": "new",
        "revoke_old": "no",
        "host": "local",
        "probe_from": "here",
        "ca_dir": "testbed",
        "ca_passphrase": "testbed",
        "approve": "",
        "audit_dir": "",
    }
)


def made(
    days_ago: float = 0,
    *,
    valid_days: int = 365,
    names: tuple[str, ...] = (NAME,),
    roles: Roles = "both",
    key: CertificatePublicKeyTypes = PUBLIC_KEY,
) -> x509.Certificate:
    """A certificate that was made so many days ago."""
    return mail_server_certificate(
        key,
        names,
        roles=roles,
        issuer=CA,
        issuer_key=CA_KEY,
        serial=x509.random_serial_number(),
        now=NOW - timedelta(days=days_ago),
        valid_days=valid_days,
    )


def installed(certificate: x509.Certificate, path: str = PATH, key_path: str = "") -> OwnCertificate:
    return OwnCertificate(path, None, (certificate,), key_path or path, None, False, None)


def wanted(
    certificate: x509.Certificate,
    *,
    wish: RenewWish = WISH,
    own: OwnCertificate | None = None,
    roles: Roles = "both",
    reason: str = "it ends",
    ca: x509.Certificate = CA,
) -> IssueWish:
    return issue_wish(wish, own or installed(certificate), roles, reason, ca_certificate=ca, now=NOW)


@pytest.mark.parametrize(
    ("days_ago", "status", "reason"),
    [
        (0, "V", ""),
        (334.9, "V", ""),
        (335, "V", "it ends on 2026-05-31"),
        (364.9, "V", "it ends on 2026-05-01"),
        (365, "V", "it ended on 2026-05-01"),
        (390, "E", "it ended on 2026-04-06"),
        (0, "R", "the CA has revoked it"),
        (0, "", ""),
    ],
)
def test_when_a_certificate_is_due(days_ago: float, status: str, reason: str) -> None:
    assert reason_to_renew(WISH, made(days_ago), status, NOW) == reason


def test_the_new_one_is_like_the_old_one() -> None:
    old = made(340, valid_days=370, names=(NAME, "mx.example.test"))
    new = wanted(old)
    assert (new.names, new.roles, new.key_type.word, new.valid_days) == (
        (NAME, "mx.example.test"),
        "both",
        "ec-p256",
        370,
    )
    assert (new.cert_dir, new.certificate_path) == ("/etc/mail/certs", PATH)
    assert new.renewal is not None
    assert new.renewal.replaces == old
    assert wanted(old, reason="").renewal is None


def test_the_new_one_ends_with_its_ca_at_the_latest() -> None:
    ends_soon = ca_certificate(
        DistinguishedName("Example Mail CA"), CA_KEY, serial=1, now=NOW - timedelta(days=100), valid_days=200
    )
    new = wanted(made(340), ca=ends_soon)
    assert (new.valid_days, new.ca_end) == (365, ends_soon.not_valid_after_utc)
    assert [new.days_from(NOW + timedelta(days=days)) for days in (0, 0.5, 1, 99, 99.5)] == [100, 99, 99, 1, 0]
    assert wanted(made(340)).ca_end is None
    with pytest.raises(NotReady, match="would be due again at once") as refused:
        wanted(made(260), ca=ends_soon, wish=replace(WISH, renew_before_days=100))
    assert "09-replace-ca" in refused.value.do
    # What is not due stays.
    assert wanted(made(260), ca=ends_soon, wish=replace(WISH, renew_before_days=100), reason="").renewal is None


def test_a_plan_is_the_same_on_each_day_that_the_certificate_is_due() -> None:
    """An approval by its digest holds, though the CA has a day less, and then less than a lifetime."""
    for left_of_ca in (360, 366, 380, 100):
        issuer = ca_certificate(DistinguishedName("Example Mail CA"), CA_KEY, serial=1, now=NOW, valid_days=left_of_ca)
        old = made(340)
        plans = []
        for days in (0, 1, 7, 20):
            now = NOW + timedelta(days=days)
            wish = issue_wish(WISH, installed(old), "both", "it ends", ca_certificate=issuer, now=now)
            assert 1 <= wish.days_from(now) <= left_of_ca - days
            plans.append(install_plan(wish, host_before(old, issuer, now)))
        assert len({plan.digest for plan in plans}) == 1
        (sign,) = [step for step in plans[0].steps if step.action == "sign"]
        assert sign.settings["valid_days"] == 365
        assert sign.sentence == (
            f"Sign the request of local for {NAME}, valid for 365 days, at most until the CA ends on "
            f"{issuer.not_valid_after_utc:%Y-%m-%d}."
        )


def test_what_ends_with_its_ca_has_the_lifetime_wished_for() -> None:
    ends_soon = ca_certificate(
        DistinguishedName("Example Mail CA"), CA_KEY, serial=1, now=NOW - timedelta(days=100), valid_days=200
    )
    wish = wanted(made(340), ca=ends_soon)
    for days_ago, valid_days, has_it in ((0, 100, True), (10, 110, True), (10.5, 110, True), (3, 90, False)):
        assert is_made_for(wish, made(days_ago, valid_days=valid_days)) is has_it
    assert is_made_for(wish, made(340))
    # One that was put into service like this is what it is to be: the next run finds nothing to do.
    new = made(7, valid_days=107)
    assert reasons_to_issue(wanted(new, reason="", ca=ends_soon), host_before(new, CA, NOW)) == ()
    assert not is_made_for(wanted(made(340)), new)


def test_what_would_be_renewed_at_each_run_is_refused() -> None:
    with pytest.raises(BadParameter, match="not less than the 30 days"):
        wanted(made(10, valid_days=30))
    assert wanted(made(10, valid_days=31)).valid_days == 31


def test_another_layout_is_refused_and_02_is_named() -> None:
    for certificate, own, roles, problem in (
        (made(), installed(made(), key_path="/etc/mail/certs/key.pem"), "both", "its key lies apart from it"),
        (made(), installed(made(), "/etc/mail/certs/sendmail.pem"), "both", f"02 would write {PATH}"),
        (made(), installed(made()), "server", "it is for server and client, and sendmail uses it as server only"),
        (made(roles="server"), installed(made(roles="server")), "both", "it is for server only"),
    ):
        with pytest.raises(NotReady, match=problem) as refused:
            wanted(certificate, own=own, roles=roles)  # type: ignore[arg-type]
        assert "run 02-issue-certificate" in refused.value.do
        assert refused.value.left == "nothing was touched"
    other_key = made(key=ed25519.Ed25519PrivateKey.generate().public_key())
    with pytest.raises(NotReady, match="its key is of the type ed25519"):
        wanted(other_key)


def test_a_further_name_is_refused_and_the_first_is_named() -> None:
    certificate = made(names=("mx.example.test", NAME))
    with pytest.raises(BadParameter, match=r"give the name that it was issued for: mx\.example\.test"):
        wanted(certificate, own=installed(certificate, "/etc/mail/certs/mx.example.test.pem"))


def host_before(own: x509.Certificate, issuer: x509.Certificate, now: datetime) -> HostBefore:
    """A host that serves this certificate, as 02 sees it."""
    closed = FileStatus(0o600, "root:smmsp")
    trusted = issuer.public_bytes(Encoding.PEM)
    return HostBefore(
        at=now,
        layout=LAYOUT,
        files=CertificateFiles(
            FileStatus(0o700, "root:smmsp"), (), closed, own, own.public_key(), closed, trusted, None
        ),
        mc=b"",
        mc_status=closed,
        cf=b"",
        trusted_elsewhere=b"",
        presented=Presented(True, True, (own,), "", "", "", ""),
        logged=True,
        signer=SignerBefore((issuer,), "V"),
    )


def test_what_is_superseded() -> None:
    """Exactly its names and roles, and older; where it is replaced all that there are."""
    now_in_service = made(10)
    stays = wanted(now_in_service, reason="")
    assert is_superseded(made(20), stays, now_in_service)
    assert not is_superseded(made(5), stays, now_in_service)
    assert not is_superseded(now_in_service, stays, now_in_service)
    assert not is_superseded(made(20, roles="server"), stays, now_in_service)
    assert not is_superseded(made(20, names=(NAME, "mx.example.test")), stays, now_in_service)
    other_key = ec.generate_private_key(ec.SECP256R1()).public_key()
    for keeps_key in (True, False):
        replaced = wanted(now_in_service, wish=replace(WISH, keeps_key=keeps_key))
        assert is_superseded(now_in_service, replaced, now_in_service)
        assert is_superseded(made(5, key=other_key), replaced, now_in_service)
        # An interrupted run had signed it: it is the one to come.
        assert is_superseded(made(5), replaced, now_in_service) is not keeps_key


def test_a_certificate_that_was_signed_before_the_old_one_is_not_the_new_one() -> None:
    """With the same key the CA has several for it: the one that is due, and those before it."""
    renewal = wanted(made(340), wish=replace(WISH, keeps_key=True)).renewal
    assert renewal is not None
    assert not renewal.is_met_by(made(350), NOW)
    assert not renewal.is_met_by(renewal.replaces, NOW)
    assert not renewal.is_met_by(made(336), NOW)
    assert renewal.is_met_by(made(1), NOW)


def test_which_files_are_in_service() -> None:
    both = {"ServerCertFile": "/a", "ServerKeyFile": "/a", "ClientCertFile": "/a", "ClientKeyFile": "/a"}
    assert files_in_service(both) == {("/a", "/a"): "both"}
    assert files_in_service({**both, "ClientKeyFile": "/b"}) == {("/a", "/a"): "server", ("/a", "/b"): "client"}
    assert files_in_service({"ServerCertFile": "/a"}) == {("/a", ""): "server"}
    assert files_in_service({}) == {}
