"""05 while one CA replaces another: what the other one has certified is never taken for revoked."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec

from mailtls_nb.errors import NotReady
from mailtls_nb.hosts.local import LocalHost
from mailtls_nb.pki import revoking, succession
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import serial_text
from mailtls_nb.pki.succession import Stage, Succession
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.procedures.revoke.look import look
from mailtls_nb.procedures.revoke.observation import RevokeBefore
from mailtls_nb.procedures.revoke.wish import RevokeWish
from mailtls_nb.procedures.revoke_certificate import RevokeCertificate
from mailtls_nb.procedures.signing_ca import SigningCA
from mailtls_nb.secret import Secret, SecretReference

NAME = "relay.example.test"


class Succeeded:
    """An old CA and the new one, and 05 looking at them."""

    def __init__(self, old: CADirectory, new: CADirectory, passphrase: Secret, now: datetime) -> None:
        self.old, self.new, self.passphrase, self.now = old, new, passphrase, now
        self.stage("reissue")
        succession.write_predecessor(new.layout, old.path)

    def stage(self, stage: Stage) -> None:
        succession.write_successor(self.old.layout, Succession(self.new.path, stage))

    def issue(self, ca: CADirectory, name: str = NAME) -> x509.Certificate:
        key = ec.generate_private_key(ec.SECP256R1()).public_key()
        return ca.issue(key, (name,), roles="both", valid_days=30, passphrase=self.passphrase, now=self.now)

    def wish(self, ca: CADirectory, *, hostname: str = "", serials: tuple[int, ...] = ()) -> RevokeWish:
        reference = SigningCA(str(ca.path), SecretReference.parse("ca_passphrase", "env:PASS"))
        return RevokeWish("revoke", serials, hostname, "unspecified", 30, (), None, reference, shows_lost_key=False)

    def look(self, wish: RevokeWish) -> RevokeBefore:
        def never(_: object = None) -> object:
            pytest.fail("neither a host nor the testbed is needed")

        context = Context(
            Path("/nowhere"),
            host=never,  # type: ignore[arg-type]
            here=LocalHost(),
            now=lambda: self.now,
            testbed=never,  # type: ignore[arg-type]
            secret=lambda _: self.passphrase,
        )
        return look(context, wish)

    def refused(self, wish: RevokeWish) -> NotReady:
        indexes = [ca.layout.database.read_bytes() for ca in (self.old, self.new)]
        with pytest.raises(NotReady) as refused:
            self.look(wish)
        assert [ca.layout.database.read_bytes() for ca in (self.old, self.new)] == indexes
        assert refused.value.left == "nothing was touched"
        return refused.value

    def remarks(self, wish: RevokeWish) -> str:
        return "\n".join(RevokeCertificate().observed(wish, self.look(wish)).remarks)


@pytest.fixture
def both(create: Callable[..., CADirectory], tmp_path: Path, passphrase: Secret, now: datetime) -> Succeeded:
    return Succeeded(create(tmp_path / "old"), create(tmp_path / "new", name="Mail CA 2"), passphrase, now)


def test_by_name_the_one_in_service_comes_first(both: Succeeded) -> None:
    """By serial the operator has said which one is meant."""
    old, new = both.issue(both.old), both.issue(both.new)
    by_name = both.wish(both.old, hostname=NAME)
    refused = both.refused(by_name)
    assert serial_text(new.serial_number) in refused.what
    assert f"run this with ca_dir {both.new.path} first, then again with {both.old.path}" in refused.do
    by_serial = both.wish(both.old, serials=(old.serial_number,))
    assert [row.serial for row in both.look(by_serial).to_revoke(by_serial)] == [old.serial_number]
    # Also when nothing is left here: "it was revoked already" would be believed of the one in service.
    revoking.revoke(both.old, [old.serial_number], "superseded", now=both.now)
    both.refused(by_name)
    revoking.revoke(both.new, [new.serial_number], "superseded", now=both.now)
    assert both.look(by_name).to_revoke(by_name) == ()


def test_in_the_other_order_it_is_a_remark(both: Succeeded) -> None:
    both.issue(both.old)
    new = both.issue(both.new)
    wish = both.wish(both.new, hostname=NAME)
    assert [row.serial for row in both.look(wish).to_revoke(wish)] == [new.serial_number]
    said = f"/CN=Example Mail CA, in {both.old.path}, has issued valid certificates for {NAME} too"
    assert said in both.remarks(wish)
    both.stage("withdrawn")
    assert said not in both.remarks(wish)


def test_until_certificates_are_reissued_the_old_one_comes_first(both: Succeeded) -> None:
    both.stage("both")
    both.issue(both.old)
    both.issue(both.new)
    assert f"ca_dir {both.old.path} first" in both.refused(both.wish(both.new, hostname=NAME)).do
    assert f"in {both.new.path}, has issued valid" in both.remarks(both.wish(both.old, hostname=NAME))


@pytest.mark.parametrize("named", ["old", "new"])
def test_what_only_the_other_one_has_issued_is_found_there(named: str, both: Succeeded) -> None:
    here, there = (both.old, both.new) if named == "old" else (both.new, both.old)
    both.issue(here, "other.example.test")
    certificate = both.issue(there)
    for wish in (both.wish(here, hostname=NAME), both.wish(here, serials=(certificate.serial_number,))):
        assert both.refused(wish).do == f"{there.name} has: run this with ca_dir {there.path}"


def test_what_neither_has_issued(both: Succeeded) -> None:
    nor = f"nor has {both.new.name}, in {both.new.path}"
    wish = both.wish(both.old, serials=(0xABC,))
    assert nor in both.refused(wish).what
    assert nor in both.refused(replace(wish, serials=(), hostname=NAME)).what
