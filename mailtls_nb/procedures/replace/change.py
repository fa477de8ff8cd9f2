"""Carrying out a stage of 09: the CA directories, then one host after the other, each in a transaction."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

from mailtls_nb.apply.transaction import Transaction
from mailtls_nb.approval import check_still
from mailtls_nb.errors import ChangeFailed, MailTLSError, NotReady, sentence_of
from mailtls_nb.names import name_constraints
from mailtls_nb.observe.clock import time_there
from mailtls_nb.pki import revoking, succession
from mailtls_nb.pki.crl import check_own_crl, crl_pem
from mailtls_nb.pki.cross_signing import cross_sign
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.profiles import constraints_of
from mailtls_nb.pki.succession import Succession
from mailtls_nb.plan import Plan, Step
from mailtls_nb.procedures import store_steps
from mailtls_nb.procedures.issue.plan import install_plan
from mailtls_nb.procedures.issue.put_into_service import put_into_service
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.procedures.replace.look import look_at_our_host
from mailtls_nb.procedures.replace.names import new_key_type, new_name
from mailtls_nb.procedures.replace.observation import OurHost, ReplaceBefore
from mailtls_nb.procedures.replace.plan import CRL_DAYS, host_plan, trusted_content
from mailtls_nb.procedures.replace.proof import claims, cross_claims, see
from mailtls_nb.procedures.replace.wish import ReplaceWish
from mailtls_nb.verdict import Claim, judge


def replace_ca(
    context: Context, wish: ReplaceWish, planned: ReplaceBefore, plan: Plan
) -> tuple[ReplaceBefore, tuple[Claim, ...]]:
    """Apply the plan of the stage; returns both CAs as they are then, and the claims, all of which hold.

    Raises ChangeFailed where a host fails: it is as before then, and the error says how far the others are.
    """
    before = _before_the_hosts(context, wish, planned, plan)
    found: tuple[Claim, ...] = ()
    for position, host in enumerate(before.hosts):
        try:
            found += _on_the_host(context, wish, planned, before, host)
        except (MailTLSError, OSError) as error:
            raise ChangeFailed(
                f"the stage {wish.stage} failed on {host.where}: {sentence_of(error)}",
                left=_how_far(before, position, error),
                do="cure that, then run this stage again: it goes on where this stopped",
            ) from error
    if wish.stage in ("withdraw", "cancel"):
        _note(before, wish)
    return before, found


def all_claims(context: Context, wish: ReplaceWish, before: ReplaceBefore) -> tuple[Claim, ...]:
    """What a stage that is done rests on."""
    return tuple(claim for host in before.hosts for claim in _claims_of(context, wish, before, host))


def _before_the_hosts(context: Context, wish: ReplaceWish, planned: ReplaceBefore, plan: Plan) -> ReplaceBefore:
    """Make, certify, sign and note what the stage begins with."""
    before = planned
    for step in plan.steps:
        match step.action:
            case "create-ca":
                before = replace(before, new=_create(context, wish, before))
            case "cross-sign":
                passphrase = context.secret(wish.ca.passphrase)
                cross = cross_sign(before.old, _there(before.new), passphrase=passphrase, now=context.now())
                before = replace(before, cross=cross)
            case "sign-crl":
                passphrase = context.secret(wish.ca.passphrase)
                revoking.sign_new_crl(_there(before.new), days=CRL_DAYS, passphrase=passphrase, now=context.now())
            case "succession" if wish.stage in ("both", "reissue"):
                succession.write_predecessor(_there(before.new).layout, before.old.path)
                stage = Succession(before.new_path, "both" if wish.stage == "both" else "reissue")
                succession.write_successor(before.old.layout, stage)
                before = replace(before, succession=stage)
            case _:
                pass
    return before


def _create(context: Context, wish: ReplaceWish, before: ReplaceBefore) -> CADirectory:
    old = before.old.ca_certificate
    return CADirectory.create(
        before.new_path,
        new_name(wish, old),
        new_key_type(wish, old),
        valid_days=wish.valid_days,
        name_constraints=name_constraints("name_constraints", ",".join(constraints_of(old))),
        passphrase=context.secret(wish.ca.passphrase),
        now=context.now(),
    )


def _on_the_host(
    context: Context, wish: ReplaceWish, planned: ReplaceBefore, before: ReplaceBefore, host: OurHost
) -> tuple[Claim, ...]:
    found: tuple[Claim, ...] = ()
    part = host_plan(wish, planned, host)
    if not part.is_empty:
        found += _change_trust(context, wish, planned, before, host, part)
    for position, shown in enumerate(host.to_reissue, start=1):
        # Within the last change of the host, so that it is put back if one of them does not hold.
        last = position == len(host.to_reissue)
        _, seen = put_into_service(
            context,
            shown.wish,
            shown.before,
            install_plan(shown.wish, shown.before),
            also=partial(_as_it_is, context, wish, before, host) if last else tuple,
        )
        found += seen
    if part.is_empty and not host.to_reissue:
        found += _as_it_is(context, wish, before, host)
        judge(found)
    return found


def _as_it_is(context: Context, wish: ReplaceWish, before: ReplaceBefore, host: OurHost) -> tuple[Claim, ...]:
    """Claims over the host as it is now, whether a change of ours is under way there or not."""
    now = look_at_our_host(context, wish, before, host.address, within_change=True)
    return _claims_of(context, wish, before, now)


def _claims_of(context: Context, wish: ReplaceWish, before: ReplaceBefore, at: OurHost) -> tuple[Claim, ...]:
    found = tuple(claims(wish, before, at.where, see(context, wish, before, at), None))
    return found + (tuple(cross_claims(context, before, at, wish)) if wish.stage == "reissue" else ())


def _change_trust(
    context: Context, wish: ReplaceWish, planned: ReplaceBefore, before: ReplaceBefore, host: OurHost, part: Plan
) -> tuple[Claim, ...]:
    with Transaction(context.host(host.address), host.look.layout) as change:
        now = look_at_our_host(context, wish, planned, host.address, within_change=True)
        check_still(part, host_plan(wish, planned, now), host.where)
        earlier = see(context, wish, before, now, is_before=True)
        for step in part.steps:
            if step.action == "reload":
                change.reload()
            else:
                store_steps.carry_out(change, step, made=_made(context, wish, before, now, step))
        changed = look_at_our_host(context, wish, before, host.address, within_change=True)
        found = tuple(claims(wish, before, host.where, see(context, wish, before, changed), earlier))
        judge(found)
    return found


def _made(context: Context, wish: ReplaceWish, before: ReplaceBefore, host: OurHost, step: Step) -> bytes | None:
    """The content of a file that the plan could not know; raises CertificateRefused for a CRL that would do harm."""
    if step.action != "write" or step.content is not None:
        return None
    if step.target == host.look.ca_file:
        return trusted_content(wish, before, host.ca_file_content)
    new = _there(before.new)
    crl = revoking.newest_crl(new)
    if crl is None:
        return None
    there = time_there(context.host(host.address), context.now)
    check_own_crl(crl_pem(crl), new.ca_certificate, now=there, where=f"for {host.where}: {new.layout.crl}")
    return crl_pem(crl)


def _note(before: ReplaceBefore, wish: ReplaceWish) -> None:
    if wish.stage == "cancel":
        succession.remove_successor(before.old.layout)
    elif before.succession is None or before.succession.stage != "withdrawn":
        succession.write_successor(before.old.layout, Succession(before.new_path, "withdrawn"))


def _there(new: CADirectory | None) -> CADirectory:
    if new is None:
        raise NotReady("the new CA is not there", left="nothing was touched", do="run the stage both first")
    return new


def _how_far(before: ReplaceBefore, position: int, error: BaseException) -> str:
    done = ", ".join(host.where for host in before.hosts[:position]) or "no host"
    waiting = ", ".join(host.where for host in before.hosts[position:])
    own = f"; {error.left}" if isinstance(error, MailTLSError) and error.left else ""
    return f"the stage is done on {done}, not on {waiting}{own}"
