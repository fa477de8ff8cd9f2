"""Carrying out the plan of 05: the CA directory first, then one host after the other, each in a transaction."""

from __future__ import annotations

from cryptography import x509

from mailtls_nb.apply.transaction import Transaction
from mailtls_nb.approval import check_still
from mailtls_nb.errors import ChangeFailed, MailTLSError, sentence_of
from mailtls_nb.observe.clock import time_there
from mailtls_nb.pki.crl import check_own_crl, crl_number, crl_pem
from mailtls_nb.pki.index_changes import IndexChange
from mailtls_nb.pki.revocation import Revocation
from mailtls_nb.pki.revoking import sign_new_crl
from mailtls_nb.plan import Plan
from mailtls_nb.procedures import store_steps
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.procedures.revoke.look import look_at_crl_host
from mailtls_nb.procedures.revoke.observation import CrlHost, RevokeBefore
from mailtls_nb.procedures.revoke.plan import host_plan, wished_settings
from mailtls_nb.procedures.revoke.proof import claims, see
from mailtls_nb.procedures.revoke.wish import RevokeWish
from mailtls_nb.sendmail.mc import cf_options
from mailtls_nb.verdict import Claim, judge


def revoke_and_distribute(
    context: Context, wish: RevokeWish, before: RevokeBefore, plan: Plan
) -> tuple[x509.CertificateRevocationList, tuple[Claim, ...]]:
    """Apply the plan; returns the CRL in force and the claims, all of which hold.

    Raises ChangeFailed where a host fails: it is as before then, and the error says how far the others are.
    """
    crl = _in_the_directory(context, wish, before, plan)
    content = crl_pem(crl)
    planned = None if any(step.action == "sign-crl" for step in plan.steps) else content
    found: tuple[Claim, ...] = ()
    for position, host in enumerate(before.hosts):
        part = host_plan(wish, host, before.ca.certificate, planned)
        try:
            found += _on_the_host(context, wish, before, host, part, crl)
        except (MailTLSError, OSError) as error:
            raise ChangeFailed(
                f"the CRL could not be put into force on {host.where}: {sentence_of(error)}",
                left=_how_far(wish, before, position, crl, error),
                do="cure that, then run this again: it goes on where this stopped",
            ) from error
    return crl, found


def _in_the_directory(
    context: Context, wish: RevokeWish, before: RevokeBefore, plan: Plan
) -> x509.CertificateRevocationList:
    directory = before.ca.directory
    if before.ca.crl is not None and not any(step.action == "sign-crl" for step in plan.steps):
        return before.ca.crl
    now = context.now()
    revocation = Revocation.of(now, wish.reason)
    serials = [row.serial for row in before.to_revoke(wish)]
    return sign_new_crl(
        directory,
        days=wish.crl_days,
        passphrase=context.secret(wish.ca.passphrase),
        now=now,
        at_least=before.next_number,
        change=IndexChange(revoke=dict.fromkeys(serials, revocation)) if serials else None,
    )


def _on_the_host(
    context: Context,
    wish: RevokeWish,
    before: RevokeBefore,
    host: CrlHost,
    part: Plan,
    crl: x509.CertificateRevocationList,
) -> tuple[Claim, ...]:
    ca, content = before.ca.certificate, crl_pem(crl)
    if part.is_empty:
        found = tuple(claims(before, host, crl, see(context, wish, before, host), None))
        judge(found)
        return found
    with Transaction(context.host(host.address), host.look.layout) as change:
        now = look_at_crl_host(context, host.address, before.ca.directory)
        planned = None if any(step.action == "write" and step.content is None for step in part.steps) else content
        check_still(part, host_plan(wish, now, ca, planned), host.where)
        given_out = max((crl_number(crl) or 0 for crl in now.installed(ca)), default=0)
        # By the host's own clock: a CRL that is not yet valid there would have it refuse everyone.
        there = time_there(change.host, context.now)
        check_own_crl(content, ca, now=there, where=f"for {host.where}: the CRL", at_least=given_out)
        earlier = see(context, wish, before, now)
        for step in part.steps:
            match step.action:
                case "build":
                    change.build(cf_options(wished_settings(now, ca)))
                case "reload":
                    change.reload()
                case _:
                    store_steps.carry_out(change, step, made=content)
        changed = look_at_crl_host(context, host.address, before.ca.directory)
        found = tuple(claims(before, now, crl, see(context, wish, before, changed), earlier))
        judge(found)
    return found


def _how_far(
    wish: RevokeWish, before: RevokeBefore, position: int, crl: x509.CertificateRevocationList, error: BaseException
) -> str:
    revoked = f"{wish.what} is revoked in the index, and " if wish.revokes and before.to_revoke(wish) else ""
    done = ", ".join(host.where for host in before.hosts[:position]) or "no host"
    waiting = ", ".join(host.where for host in before.hosts[position:])
    own = f"; {error.left}" if isinstance(error, MailTLSError) and error.left else ""
    return (
        f"{revoked}CRL number {crl_number(crl)} is signed; in force on {done}, not on {waiting}: there what is revoked "
        f"since the last one is still accepted{own}"
    )
