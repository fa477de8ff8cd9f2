"""01-create-ca: make the CA directory, prove it with OpenSSL, and write the pack for partners."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from mailtls_nb.errors import NotReady
from mailtls_nb.hosts.base import Host
from mailtls_nb.names import DistinguishedName, name_constraints
from mailtls_nb.observe.openssl_verify import ONLY_CAFILE
from mailtls_nb.parameters import whole_number
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.partner_pack import partner_pack
from mailtls_nb.pki.profiles import LONGEST_VALIDITY_DAYS, KeyType, key_type
from mailtls_nb.plan import Plan, Step
from mailtls_nb.procedures.procedure import Applied, Context, Facts, Observed, Procedure, Values, check_common
from mailtls_nb.procedures.signing_ca import SigningCA
from mailtls_nb.secret import Secret
from mailtls_nb.verdict import Claim

_TIMEOUT_S = 60
_LOCKED = "its private key does not open without the passphrase"
_CLOSED = "nobody but its owner can read the private key"


@dataclass(frozen=True)
class CreateWish:
    """The CA wished for."""

    name: DistinguishedName
    valid_days: int
    key_type: KeyType
    name_constraints: tuple[str, ...]
    ca: SigningCA

    @property
    def is_testbed(self) -> bool:
        return self.ca.is_testbed

    def as_data(self) -> dict[str, str | int]:
        """The wish as it goes into the plan and its digest."""
        return {
            "name": str(self.name),
            "valid_days": self.valid_days,
            "key_type": self.key_type.word,
            "name_constraints": ",".join(self.name_constraints),
            "ca_dir": self.ca.directory,
        }


@dataclass(frozen=True)
class CreateBefore:
    """What is at the path now: the very CA, or nothing."""

    path: Path
    there: CADirectory | None
    passphrase: Secret


class CreateCA(Procedure[CreateWish, CreateBefore]):
    """The procedure of 01-create-ca."""

    runbook = "01-create-ca"

    def wish(self, values: Values) -> CreateWish:
        texts = {name: str(value) for name, value in values.items()}
        check_common(values)
        return CreateWish(
            name=DistinguishedName(texts["common_name"], texts["organization"], texts["country"]),
            valid_days=whole_number("valid_days", int(values["valid_days"]), 1, LONGEST_VALIDITY_DAYS, "days"),
            key_type=key_type(texts["key_type"], use="ca"),
            name_constraints=name_constraints("name_constraints", texts["name_constraints"]),
            ca=SigningCA.parse(texts["ca_dir"], texts["ca_passphrase"]),
        )

    def target(self, values: Values) -> str:
        return str(values["common_name"])

    def observe(self, context: Context, wish: CreateWish) -> CreateBefore:
        _needs_openssl(context.here)
        path = wish.ca.named(context.testbed)
        there = CADirectory.existing(path, wish.name, wish.key_type, wish.name_constraints)
        return CreateBefore(path, there, context.secret(wish.ca.passphrase))

    def observed(self, wish: CreateWish, before: CreateBefore) -> Observed:
        if before.there is None:
            facts = (("CA directory", str(before.path)), ("holds", "nothing"))
            return Observed("There is no CA yet.", facts, remarks=wish.ca.remarks())
        return Observed(
            "The CA is there already.",
            (("CA directory", str(before.path)), *_facts(before.there)),
            {},
            (*before.there.remarks, *wish.ca.remarks()),
        )

    def plan(self, wish: CreateWish, before: CreateBefore) -> Plan:
        steps = () if before.there else (_create_step(wish),)
        return Plan(self.runbook, wish.as_data(), steps, {"ca": before.there.fingerprint if before.there else "absent"})

    def apply(self, context: Context, wish: CreateWish, before: CreateBefore, plan: Plan) -> Applied:  # noqa: ARG002
        directory = CADirectory.create(
            before.path,
            wish.name,
            wish.key_type,
            valid_days=wish.valid_days,
            name_constraints=wish.name_constraints,
            passphrase=before.passphrase,
            now=context.now(),
        )
        claims = _claims(context.here, directory, before.passphrase)
        return Applied("changed", f"the CA {directory.name} was made", claims, *_given_out(context, directory))

    def unchanged(self, context: Context, wish: CreateWish, before: CreateBefore) -> Applied:
        if before.there is None:
            raise NotReady(f"{before.path} holds no CA")
        claims = _claims(context.here, before.there, before.passphrase)
        # How the keeper of an adopted CA guards its key is remarked on, not judged.
        kept = tuple(claim for claim in claims if claim.holds or claim.claim not in (_LOCKED, _CLOSED))
        return Applied("unchanged", f"the CA {wish.name} is there", kept, *_given_out(context, before.there))


def _create_step(wish: CreateWish) -> Step:
    limits = f", held to {', '.join(wish.name_constraints)}" if wish.name_constraints else ""
    return Step(
        "create-ca",
        "here",
        wish.ca.directory,
        f"Make the CA {wish.name} with a key of type {wish.key_type.word}, valid for {wish.valid_days} days{limits}.",
        before="absent",
        settings=wish.as_data(),
    )


def _needs_openssl(here: Host) -> None:
    if here.run(("openssl", "version"), timeout_s=_TIMEOUT_S).status != 0:
        raise NotReady(
            "this machine has no openssl command, and the CA is judged with it",
            left="nothing was touched",
            do="install the package openssl",
        )


def _given_out(context: Context, directory: CADirectory) -> tuple[Facts, dict[str, str]]:
    """The facts of the CA, and the pack for partners, written into the run's folder."""
    pack = partner_pack(directory.ca_certificate)
    folder = context.folder / "partner-pack"
    folder.mkdir(mode=0o755, exist_ok=True)
    for name, content in pack.items():
        (folder / name).write_bytes(content)
    return _facts(directory), {f"partner-pack/{name}": "for partners" for name in pack}


def _facts(directory: CADirectory) -> tuple[tuple[str, str], ...]:
    certificate = directory.ca_certificate
    return (
        ("CA", directory.name),
        ("SHA-256 fingerprint", directory.fingerprint),
        ("valid from", f"{certificate.not_valid_before_utc:%Y-%m-%d %H:%M:%S} UTC"),
        ("valid to", f"{certificate.not_valid_after_utc:%Y-%m-%d %H:%M:%S} UTC"),
    )


def _claims(here: Host, directory: CADirectory, passphrase: Secret) -> tuple[Claim, ...]:
    layout = directory.layout
    certificate, key = str(layout.certificate), str(layout.private_key)
    verify = here.run(
        (*ONLY_CAFILE, "openssl", "verify", "-x509_strict", "-check_ss_sig", "-CAfile", certificate, certificate),
        timeout_s=_TIMEOUT_S,
    )
    text = here.run(("openssl", "x509", "-in", certificate, "-noout", "-purpose"), timeout_s=_TIMEOUT_S)
    public_key = directory.ca_certificate.public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    opens = "openssl pkey with the passphrase on standard input"
    return (
        Claim(
            "the CA certificate is sound",
            "OK",
            "OK" if verify.status == 0 else _last_line(verify.stderr),
            "inspection",
            "openssl verify -x509_strict",
        ),
        Claim(
            "it may sign certificates",
            "yes",
            "yes" if b"SSL client CA : Yes" in text.stdout and b"SSL server CA : Yes" in text.stdout else "no",
            "inspection",
            "openssl x509 -purpose",
        ),
        Claim(
            "its private key opens with the passphrase and belongs to it",
            "yes",
            "yes" if _opened(here, key, passphrase.reveal()) == public_key else "no",
            "inspection",
            opens,
        ),
        Claim(
            _LOCKED,
            "refused",
            "opened" if _opened(here, key, b"\n") else "refused",
            "inspection",
            opens,
            negative=True,
            fails_when="with the right passphrase the same command opened it",
        ),
        Claim(
            _CLOSED,
            "0600 in 0700",
            f"{_mode(layout.private_key)} in {_mode(layout.private_key.parent)}",
            "inspection",
            "the file system",
        ),
    )


def _opened(here: Host, key: str, passphrase: bytes) -> bytes:
    """The public half as PEM, empty when the key did not open. The private half is never printed."""
    argv = ("openssl", "pkey", "-in", key, "-passin", "stdin", "-pubout")
    completed = here.run(argv, stdin=passphrase.rstrip(b"\n") + b"\n", timeout_s=_TIMEOUT_S)
    return completed.stdout if completed.status == 0 else b""


def _mode(path: Path) -> str:
    return f"{path.stat().st_mode & 0o777:04o}"


def _last_line(stderr: bytes) -> str:
    lines = stderr.decode("utf-8", "replace").strip().splitlines()
    return lines[-1] if lines else "not OK"
