"""Revoking, CRLs and their numbers, with `openssl` as judge before and after each step, and taking turns with it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mailtls_nb.errors import BadParameter, CADirectoryError, CertificateRefused, NotReady
from mailtls_nb.pki import revoking
from mailtls_nb.pki.crl import check_own_crl, crl_number, crl_pem, tells_of
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import serial_text
from mailtls_nb.pki.index_changes import IndexChange
from mailtls_nb.pki.profiles import PublicKey
from mailtls_nb.pki.revocation import Reason, Revocation, revocation_reason
from mailtls_nb.secret import Secret

Openssl = Callable[..., str]


def new_key() -> PublicKey:
    return ec.generate_private_key(ec.SECP256R1()).public_key()


@pytest.fixture
def issue(passphrase: Secret, now: datetime) -> Callable[..., x509.Certificate]:
    def issue(ca: CADirectory, name: str = "relay.example.test", key: PublicKey | None = None) -> x509.Certificate:
        settings = {"roles": "both", "valid_days": 30, "passphrase": passphrase, "now": now}
        return ca.issue(key or new_key(), (name,), **settings)  # type: ignore[arg-type]

    return issue


class Judge:
    """What openssl makes of a directory."""

    def __init__(self, path: Path, openssl: Openssl) -> None:
        self.path, self.openssl = path, openssl

    def status(self, certificate: x509.Certificate) -> str:
        serial = serial_text(certificate.serial_number)
        printed = self.openssl("ca", "-config", self.path / "openssl.cnf", "-status", serial, status=None)
        return printed.rpartition(f"{serial}=")[2].strip()

    def by_crl(self, certificate: x509.Certificate) -> str:
        """OK, or why not, by the CRL in the directory, whose signature is checked too."""
        crl = self.path / "crl.pem"
        assert "verify OK" in self.openssl("crl", "-in", crl, "-CAfile", self.path / "cacert.pem", "-noout")
        file = self.path / "newcerts" / f"{serial_text(certificate.serial_number)}.pem"
        argv = ("verify", "-crl_check", "-CRLfile", crl, "-CAfile", self.path / "cacert.pem", file)
        printed = self.openssl(*argv, status=None)
        return "OK" if printed.strip().endswith(": OK") else printed.partition("lookup: ")[2].splitlines()[0]

    def number(self) -> int:
        printed = self.openssl("crl", "-in", self.path / "crl.pem", "-noout", "-crlnumber")
        return int(printed.strip().rpartition("=")[2], 16)

    def by_openssl(self, *what: str | Path) -> None:
        self.openssl("ca", "-config", self.path / "openssl.cnf", "-passin", "env:PASS", *what)


@pytest.mark.parametrize("reason", ["unspecified", "keyCompromise", "superseded", "certificateHold"])
def test_openssl_agrees_before_and_after(
    reason: Reason,
    ca: CADirectory,
    passphrase: Secret,
    now: datetime,
    openssl: Openssl,
    issue: Callable[..., x509.Certificate],
) -> None:
    judge = Judge(ca.path, openssl)
    lost, good = issue(ca), issue(ca)
    revoking.sign_new_crl(ca, days=30, passphrase=passphrase, now=now)
    assert (judge.status(lost), judge.by_crl(lost), judge.number()) == ("Valid (V)", "OK", 1)

    change = IndexChange(revoke={lost.serial_number: Revocation.of(now, reason)})
    crl = revoking.sign_new_crl(ca, days=30, passphrase=passphrase, now=now, change=change)
    assert (judge.status(lost), judge.by_crl(lost)) == ("Revoked (R)", "certificate revoked")
    assert (judge.status(good), judge.by_crl(good), judge.number()) == ("Valid (V)", "OK", 2)
    assert tells_of(crl, revoking.revoked_rows(ca))
    said = openssl("crl", "-in", ca.path / "crl.pem", "-noout", "-text")
    assert ("X509v3 CRL Reason Code" in said) == (reason != "unspecified")


def test_taking_turns_with_openssl(
    ca: CADirectory,
    passphrase: Secret,
    now: datetime,
    openssl: Openssl,
    issue: Callable[..., x509.Certificate],
) -> None:
    """Whoever revokes and whoever signs: both know what the other did, and numbers go up."""
    judge = Judge(ca.path, openssl)
    ours, theirs, timed, good = issue(ca), issue(ca), issue(ca), issue(ca)

    def file(certificate: x509.Certificate) -> Path:
        return ca.path / "newcerts" / f"{serial_text(certificate.serial_number)}.pem"

    revoking.revoke(ca, [ours.serial_number], "superseded", now=now)
    judge.by_openssl("-gencrl", "-out", ca.path / "crl.pem")
    assert [judge.by_crl(c) for c in (ours, theirs, good)] == ["certificate revoked", "OK", "OK"]
    first = judge.number()
    judge.by_openssl("-revoke", file(theirs), "-crl_reason", "cessationOfOperation")
    judge.by_openssl("-revoke", file(timed), "-crl_compromise", "20260101000000Z")
    crl = revoking.sign_new_crl(ca, days=7, passphrase=passphrase, now=datetime.now(UTC))
    assert [judge.by_crl(c) for c in (ours, theirs, good)] == ["certificate revoked", "certificate revoked", "OK"]
    second = judge.number()
    since = crl.get_revoked_certificate_by_serial_number(timed.serial_number)
    assert since is not None
    assert since.extensions.get_extension_for_class(x509.InvalidityDate).value.invalidity_date_utc.year == 2026
    judge.by_openssl("-gencrl", "-out", ca.path / "crl.pem")
    theirs_crl = x509.load_pem_x509_crl((ca.path / "crl.pem").read_bytes())
    assert tells_of(theirs_crl, revoking.revoked_rows(ca))
    assert [judge.number(), second, first] == [3, 2, 1]
    revoking.sign_new_crl(ca, days=7, passphrase=passphrase, now=datetime.now(UTC))
    assert judge.number() == 4


def test_a_number_is_never_given_twice(ca: CADirectory, passphrase: Secret, now: datetime, openssl: Openssl) -> None:
    """Also where crlnumber was lost, or put back from an old copy."""
    judge = Judge(ca.path, openssl)
    for lost in ("01\n", "", None):
        for _ in range(2):
            revoking.sign_new_crl(ca, days=7, passphrase=passphrase, now=now)
        before = judge.number()
        if lost is None:
            (ca.path / "crlnumber").unlink()
        else:
            (ca.path / "crlnumber").write_text(lost)
        revoking.sign_new_crl(ca, days=7, passphrase=passphrase, now=now)
        assert judge.number() == before + 1


def test_a_number_that_a_mail_server_has_is_passed_over(
    ca: CADirectory, passphrase: Secret, now: datetime, openssl: Openssl
) -> None:
    judge, settings = Judge(ca.path, openssl), {"days": 7, "passphrase": passphrase, "now": now}
    for at_least, number in ((41, 41), (3, 42), (1, 43)):
        revoking.sign_new_crl(ca, at_least=at_least, **settings)  # type: ignore[arg-type]
        assert judge.number() == number


def test_a_serial_that_is_not_there_changes_nothing(
    ca: CADirectory, passphrase: Secret, now: datetime, issue: Callable[..., x509.Certificate]
) -> None:
    there = issue(ca)
    before = (ca.path / "index.txt").read_bytes()
    with pytest.raises(CADirectoryError, match="has no row for the serial 0A"):
        revoking.revoke(ca, [there.serial_number, 10], "unspecified", now=now)
    assert (ca.path / "index.txt").read_bytes() == before
    assert sorted(p.name for p in ca.path.iterdir() if p.name.startswith(".")) == [".mailtls-nb.lock"]


def test_an_index_that_stays_is_not_written(
    ca: CADirectory, now: datetime, issue: Callable[..., x509.Certificate]
) -> None:
    lost = issue(ca)
    assert len(revoking.revoke(ca, [lost.serial_number], "superseded", now=now)) == 1
    inode = (ca.path / "index.txt").stat().st_ino
    assert revoking.revoke(ca, [lost.serial_number], "superseded", now=now + timedelta(days=1)) == ()
    assert revoking.update_index(ca, now=now) == ()
    assert (ca.path / "index.txt").stat().st_ino == inode


def test_a_reason_is_made_graver_and_never_milder(
    ca: CADirectory, now: datetime, issue: Callable[..., x509.Certificate]
) -> None:
    lost = issue(ca)
    told: list[tuple[str, bool]] = []
    for days, reason in enumerate(("certificateHold", "superseded", "unspecified", "keyCompromise", "superseded")):
        revoking.revoke(ca, [lost.serial_number], reason, now=now + timedelta(days=days))  # type: ignore[arg-type]
        (row,) = ca.rows()
        assert row.revoked is not None
        told.append((row.revoked.reason, row.revoked.at == now))
    assert [reason for reason, _ in told] == [
        "certificateHold",
        "superseded",
        "superseded",
        "keyCompromise",
        "keyCompromise",
    ]
    # Refused since the first of them.
    assert all(at_first for _, at_first in told)


def test_expired_ones_are_marked_as_openssl_marks_them(
    ca: CADirectory, now: datetime, openssl: Openssl, issue: Callable[..., x509.Certificate]
) -> None:
    issue(ca)
    old = (ca.path / "index.txt").read_text()
    ended = old.split("\t")
    ended[1], ended[3] = "200101000000Z", "0A"
    (ca.path / "index.txt").write_text(old + "\t".join(ended))
    both = (ca.path / "index.txt").read_bytes()
    assert [row.serial for row in revoking.update_index(ca, now=now)] == [10]
    ours = (ca.path / "index.txt").read_bytes()
    (ca.path / "index.txt").write_bytes(both)
    Judge(ca.path, openssl).by_openssl("-updatedb")
    assert (ca.path / "index.txt").read_bytes() == ours != both


@pytest.mark.parametrize("how", ["ours", "keyCompromise", "CACompromise", "crl_compromise", "crl_CA_compromise"])
def test_a_compromised_key_is_never_certified_again(
    how: str,
    ca: CADirectory,
    now: datetime,
    passphrase: Secret,
    openssl: Openssl,
    issue: Callable[..., x509.Certificate],
) -> None:
    key = new_key()
    lost = issue(ca, key=key)
    issue(ca, key=key)  # while it is not known
    file = ca.path / "newcerts" / f"{serial_text(lost.serial_number)}.pem"
    if how == "ours":
        revoking.revoke(ca, [lost.serial_number], "keyCompromise", now=now)
    elif how.startswith("crl_"):
        Judge(ca.path, openssl).by_openssl("-revoke", file, f"-{how}", "20260101000000Z")
    else:
        Judge(ca.path, openssl).by_openssl("-revoke", file, "-crl_reason", how)
    before = (ca.path / "index.txt").read_bytes()
    for name in ("relay.example.test", "other.example.test"):
        with pytest.raises(NotReady, match="never certified again"):
            issue(ca, name=name, key=key)
    assert (ca.path / "index.txt").read_bytes() == before
    issue(ca)


def test_a_ca_that_has_ended_signs_no_crl(ca: CADirectory, passphrase: Secret, now: datetime) -> None:
    with pytest.raises(NotReady, match="ended on"):
        revoking.sign_new_crl(ca, days=7, passphrase=passphrase, now=now + timedelta(days=3651))
    assert not (ca.path / "crl.pem").exists()


@pytest.mark.parametrize("days", [0, -1, 3651])
def test_a_lifetime_out_of_bounds_is_refused(days: int, ca: CADirectory, passphrase: Secret, now: datetime) -> None:
    with pytest.raises(BadParameter, match="crl_days"):
        revoking.sign_new_crl(ca, days=days, passphrase=passphrase, now=now)


class TestBeforeItIsInstalled:
    """What a mail server must not be given, with what sendmail would make of it."""

    @pytest.fixture
    def good(self, ca: CADirectory, passphrase: Secret, now: datetime) -> bytes:
        return crl_pem(revoking.sign_new_crl(ca, days=7, passphrase=passphrase, now=now))

    def test_a_good_one_passes(self, good: bytes, ca: CADirectory, now: datetime) -> None:
        assert crl_number(check_own_crl(good, ca.ca_certificate, now=now, where="crl.pem", at_least=1)) == 1

    @pytest.mark.parametrize(
        ("days", "said"), [(8, "it ended on .*refuse every"), (-1, "not valid before .*refuse every")]
    )
    def test_one_out_of_date(self, days: int, said: str, good: bytes, ca: CADirectory, now: datetime) -> None:
        with pytest.raises(CertificateRefused, match=said):
            check_own_crl(good, ca.ca_certificate, now=now + timedelta(days=days), where="crl.pem")

    def test_garbage(self, ca: CADirectory, now: datetime) -> None:
        for data in (b"", b"garbage", b"-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n"):
            with pytest.raises(CertificateRefused, match="ignore it with one line in its log"):
                check_own_crl(data, ca.ca_certificate, now=now, where="crl.pem")

    def test_several_in_one_file(self, good: bytes, ca: CADirectory, now: datetime) -> None:
        with pytest.raises(CertificateRefused, match="read the first and ignore the others"):
            check_own_crl(good + good, ca.ca_certificate, now=now, where="crl.pem")

    def test_one_of_another_ca(
        self, good: bytes, create: Callable[..., CADirectory], now: datetime, tmp_path: Path
    ) -> None:
        other = create(tmp_path / "other", name="Other CA")
        with pytest.raises(CertificateRefused, match="of another CA, /CN=Example Mail CA: sendmail would ignore"):
            check_own_crl(good, other.ca_certificate, now=now, where="crl.pem")
        twin = create(tmp_path / "twin")
        with pytest.raises(CertificateRefused, match="its signature is not that of"):
            check_own_crl(good, twin.ca_certificate, now=now, where="crl.pem")

    def test_an_older_one(self, good: bytes, ca: CADirectory, now: datetime) -> None:
        with pytest.raises(CertificateRefused, match="its number is 1, and 2 was given out"):
            check_own_crl(good, ca.ca_certificate, now=now, where="crl.pem", at_least=2)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("keycompromise", "did you mean keyCompromise"),
        ("key_compromise", "did you mean keyCompromise"),
        ("removeFromCRL", "belongs to delta CRLs"),
        ("lost", "give one of unspecified, "),
        ("", "is not a reason"),
    ],
)
def test_other_words_for_reasons_are_refused(text: str, said: str) -> None:
    with pytest.raises(BadParameter, match=said):
        revocation_reason(text)


def test_what_openssl_writes_of_a_revocation_is_read() -> None:
    at = datetime(2026, 11, 28, 12, 0, 0, tzinfo=UTC)
    for text, reason in [
        ("261128120000Z", "unspecified"),
        ("261128120000Z,unspecified", "unspecified"),
        ("261128120000Z,CACompromise", "CACompromise"),
        ("261128120000Z,holdInstruction,holdInstructionReject", "certificateHold"),
        ("261128120000Z,CAkeyTime,20260101000000Z", "CACompromise"),
    ]:
        read = Revocation.parse(text)
        assert (read.at, read.reason, read.text) == (at, reason, text)
    for text in ("", "x", "261128120000Z,lost", "261128120000Z,keyTime"):
        with pytest.raises(ValueError, match="is not"):
            Revocation.parse(text)
