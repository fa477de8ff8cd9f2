"""The steps of 09 from what is there to what is wished: in the CA directories, then host by host."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509

from mailtls_nb.errors import NotReady
from mailtls_nb.names import openssl_dn
from mailtls_nb.pki.certificates import fingerprint
from mailtls_nb.pki.pem_file import beginning_with, without
from mailtls_nb.plan import Plan, Step
from mailtls_nb.procedures import store_steps
from mailtls_nb.procedures.healing import heal_step
from mailtls_nb.procedures.issue.plan import install_plan
from mailtls_nb.procedures.replace.names import new_key_type, new_name
from mailtls_nb.procedures.replace.observation import OurHost, ReplaceBefore
from mailtls_nb.procedures.replace.preconditions import refuse_too_early
from mailtls_nb.procedures.replace.wish import ReplaceWish
from mailtls_nb.procedures.revoke.observation import crl_file_name

RUNBOOK = "09-replace-ca"
# What 05 makes by default; it signs the next one.
CRL_DAYS = 30
_PERMISSIONS = 0o777


def replace_plan(wish: ReplaceWish, before: ReplaceBefore) -> Plan:
    """The plan of the stage; empty where all of it is done. Raises NotReady where its time has not come."""
    interrupted = [host for host in before.hosts if host.look.layout.interrupted]
    if interrupted:
        return Plan(RUNBOOK, wish.as_data(), tuple(heal_step(host.where) for host in interrupted), _rests_on(before))
    refuse_too_early(wish, before)
    steps = [*_ca_steps(wish, before)]
    for host in before.hosts:
        steps += trust_steps(wish, before, host)
        steps += [step for shown in host.to_reissue for step in install_plan(shown.wish, shown.before).steps]
    steps += _last_steps(wish, before)
    return Plan(RUNBOOK, wish.as_data(), tuple(steps), _rests_on(before), outlook=_outlook(wish, before))


def host_plan(wish: ReplaceWish, before: ReplaceBefore, host: OurHost) -> Plan:
    """The part that changes whom one host trusts: what must still be so when its turn comes."""
    rests_on = {"sendmail": host.look.layout.version_text}
    return Plan(RUNBOOK, wish.as_data(), tuple(trust_steps(wish, before, host)), rests_on)


def trusted_content(wish: ReplaceWish, before: ReplaceBefore, there: bytes) -> bytes | None:
    """What CACertFile is to hold at this stage; None while the new CA is still to be made.

    The cross-signed certificate stands first: OpenSSL then sends it along, and who trusts only the old CA verifies the
    new certificates as well.
    """
    if before.new is None:
        return None
    old, new = before.old.ca_certificate, before.new.ca_certificate
    crosses = _cross_certificates(there, old, new)
    match wish.stage:
        case "withdraw":
            return beginning_with(without(there, [old, *crosses]), [new])
        case "cancel":
            return without(there, [new, *crosses])
        case "both" if before.cross is None and _may_certify_a_ca(old):
            return None
        case _:
            first = [before.cross] if before.cross is not None else []
            return beginning_with(without(there, crosses), [*first, new])


def trust_steps(wish: ReplaceWish, before: ReplaceBefore, host: OurHost) -> list[Step]:
    """The steps by which one host trusts whom it is to trust at this stage; empty where it does."""
    found = host.look.store.ca_file
    if found is None or (wish.stage == "cancel" and before.new is None):
        return []
    there = host.ca_file_content
    wanted = trusted_content(wish, before, there)
    steps: list[Step] = []
    if wanted != there:
        steps.append(
            Step(
                "write",
                host.where,
                found.path,
                _trust_sentence(wish),
                diff=_diff(there, wanted, before, wish),
                before=found.sha256,
                content=wanted,
                settings={"mode": f"{found.status.mode & _PERMISSIONS:04o}", "owner": found.status.owner},
            )
        )
    if wish.stage == "withdraw":
        steps += _links_away(before, host)
        steps += _crl_away(before, host)
    if steps:
        service = host.look.layout.service
        sentence = "Reload the daemon, which reads these files when it starts; then prove it there."
        steps.append(Step("reload", host.where, service.name, sentence, settings={"how": service.reload}))
    return steps


def _outlook(wish: ReplaceWish, before: ReplaceBefore) -> tuple[tuple[str, str], ...]:
    """What a reissue means for each partner that has not confirmed."""
    if wish.stage != "reissue":
        return ()
    return tuple(
        (
            partner,
            "verifies us as long as it trusts either CA; refuses our mail if a rule of its names the old one (CI:)",
        )
        for partner in before.partners
        if partner not in wish.partners_confirmed
    )


def _ca_steps(wish: ReplaceWish, before: ReplaceBefore) -> Iterator[Step]:
    if wish.stage == "both":
        yield from _making(wish, before)
    if wish.stage == "withdraw" and any(_has_crl_of_old(before, host) for host in before.hosts):
        sentence = "Sign a CRL of the new CA, to take the place of the old one's on the hosts that have it."
        if not before.new_crl_is_good and before.new is not None:
            target = str(before.new.layout.crl)
            yield Step("sign-crl", "here", target, sentence, settings={"crl_days": CRL_DAYS})
    if wish.stage in ("both", "reissue") and before.stage != wish.stage:
        yield _succession(wish, before)


def _making(wish: ReplaceWish, before: ReplaceBefore) -> Iterator[Step]:
    name = new_name(wish, before.old.ca_certificate)
    kind = new_key_type(wish, before.old.ca_certificate).word
    if before.new is None:
        yield Step(
            "create-ca",
            "here",
            str(before.new_path),
            f"Make the CA {name} with a key of type {kind}, valid for {wish.valid_days} days; its key has the same "
            "passphrase as the old one's.",
            before="absent",
            settings={"name": str(name), "key_type": kind, "valid_days": wish.valid_days},
        )
    if before.cross is None and _may_certify_a_ca(before.old.ca_certificate):
        yield Step(
            "cross-sign",
            "here",
            str(before.old.path),
            f"Have {before.old.name} certify {name} too, for partners that cannot add a CA in time.",
        )


def _succession(wish: ReplaceWish, before: ReplaceBefore) -> Step:
    if wish.stage == "reissue":
        sentence = (
            f"Have the CA in {before.new_path} sign from now on, for whoever names {before.old.path} as ca_dir too."
        )
    elif before.stage == "reissue":
        sentence = f"Have the CA in {before.old.path} sign again."
    else:
        sentence = f"Note in {before.old.path} which CA follows. It signs on until the stage reissue."
    return Step(
        "succession",
        "here",
        str(before.old.layout.successor),
        sentence,
        before=before.stage or "absent",
        settings={"stage": wish.stage, "directory": str(before.new_path)},
    )


def _last_steps(wish: ReplaceWish, before: ReplaceBefore) -> Iterator[Step]:
    target = str(before.old.layout.successor)
    if wish.stage == "withdraw" and before.stage != "withdraw":
        sentence = "Note that the old CA is withdrawn: this is the end of the change, and there is no way back."
        yield Step("succession", "here", target, sentence, before=before.stage or "", settings={"stage": "withdrawn"})
    if wish.stage == "cancel" and before.stage is not None:
        sentence = f"Take the note away that another CA follows. What is in {before.new_path} stays."
        yield Step("succession", "here", target, sentence, before=before.stage, settings={"stage": "cancelled"})


def _links_away(before: ReplaceBefore, host: OurHost) -> Iterator[Step]:
    """The old CA may be trusted by a hash link as well."""
    old, directory = before.old.ca_certificate, host.look.store.ca_path
    drop = [entry.name for entry in host.look.entries_of(old)]
    if drop:
        store_steps.refuse_writable(host.where, directory)
        yield from store_steps.links(host.where, directory, host.look.hash_of(old), "ca", drop=drop)


def _crl_away(before: ReplaceBefore, host: OurHost) -> Iterator[Step]:
    """The new CA's CRL takes the place of the old one's: in the file of CRLFile, and in CRLPath with its link."""
    if not _has_crl_of_old(before, host) or before.new is None:
        return
    look, old, new = host.look, before.old.ca_certificate, before.new.ca_certificate
    found = look.store.crl_file
    if found is not None and any(crl.issuer == old.subject for crl in found.crls):
        if not all(crl.issuer in (old.subject, new.subject) for crl in found.crls):
            raise NotReady(
                f"{found.path} (CRLFile) on {host.where} holds CRLs of other CAs beside that of {before.old.name}",
                left="nothing was touched",
                do="take the old CA's CRL out of that file by hand and reload sendmail, then run this again",
            )
        yield Step(
            "write",
            host.where,
            found.path,
            "Put the new CA's CRL in the place of the old one's, which nobody would need any more.",
            before=found.sha256,
            settings={"mode": f"{found.status.mode & _PERMISSIONS:04o}", "owner": found.status.owner},
        )
    drop = [
        entry.name
        for entry in look.crl_directory.entries
        if entry.kind == "crl" and entry.crls and all(crl.issuer == old.subject for crl in entry.crls)
    ]
    if drop:
        where, directory, name = host.where, look.crl_directory, crl_file_name(new)
        owner = look.layout.cert_owner
        yield from store_steps.links(where, directory, look.hash_of(old), "crl", drop=drop)
        yield from store_steps.file(where, directory, name, None, f"the CRL of {before.new.name}", owner=owner)
        yield from store_steps.links(where, directory, look.hash_of(new), "crl", add=[name])


def _has_crl_of_old(before: ReplaceBefore, host: OurHost) -> bool:
    old = before.old.ca_certificate.subject
    in_file = host.look.store.crl_file.crls if host.look.store.crl_file else ()
    return any(crl.issuer == old for crl in (*in_file, *host.look.crl_directory.crls))


def _cross_certificates(there: bytes, old: x509.Certificate, new: x509.Certificate) -> list[x509.Certificate]:
    certificates = x509.load_pem_x509_certificates(there) if b"BEGIN CERTIFICATE" in there else []
    return [c for c in certificates if c.subject == new.subject and c.issuer == old.subject]


def _may_certify_a_ca(old: x509.Certificate) -> bool:
    return old.extensions.get_extension_for_class(x509.BasicConstraints).value.path_length != 0


def _trust_sentence(wish: ReplaceWish) -> str:
    match wish.stage:
        case "withdraw":
            return "Take the old CA out of the file of trusted CAs."
        case "cancel":
            return "Take the new CA out of the file of trusted CAs."
        case _:
            return "Put the new CA into the file of trusted CAs, beside the old one."


def _diff(there: bytes, wanted: bytes | None, before: ReplaceBefore, wish: ReplaceWish) -> str:
    """Whom the host trusts, by name and fingerprint: plus for a new one, minus for one that goes."""
    if wanted is None:
        return f"+ {new_name(wish, before.old.ca_certificate)}, still to be made\n"
    old, new = (x509.load_pem_x509_certificates(text) if b"BEGIN" in text else [] for text in (there, wanted))
    lines = [f"- {_word(c)}" for c in old if c not in new]
    lines += [f"{' ' if c in old else '+'} {_word(c)}" for c in new]
    return "".join(f"{line}\n" for line in lines)


def _word(certificate: x509.Certificate) -> str:
    by = "" if certificate.issuer == certificate.subject else f" by {openssl_dn(certificate.issuer)}"
    return f"{openssl_dn(certificate.subject)}{by} SHA-256 {fingerprint(certificate)}"


def _rests_on(before: ReplaceBefore) -> dict[str, str]:
    return {
        "old ca": fingerprint(before.old.ca_certificate),
        "new ca": fingerprint(before.new.ca_certificate) if before.new else "absent",
        "stage": before.stage or "none",
        **{f"sendmail on {host.where}": host.look.layout.version_text for host in before.hosts},
    }
