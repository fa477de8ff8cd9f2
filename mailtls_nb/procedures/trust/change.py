"""Carrying out the plan of 03 on the host, in one transaction."""

from __future__ import annotations

from dataclasses import replace

from mailtls_nb.apply.transaction import Transaction
from mailtls_nb.approval import check_still
from mailtls_nb.plan import Plan
from mailtls_nb.procedures import store_steps
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.procedures.trust.look import look_at_host, see
from mailtls_nb.procedures.trust.observation import TrustBefore
from mailtls_nb.procedures.trust.plan import trust_plan, wished_settings
from mailtls_nb.procedures.trust.proof import trust_claims
from mailtls_nb.procedures.trust.wish import TrustWish
from mailtls_nb.sendmail.mc import cf_options
from mailtls_nb.verdict import Claim, judge


def change_trust(context: Context, wish: TrustWish, before: TrustBefore, plan: Plan) -> tuple[Claim, ...]:
    """Apply the plan; on any failure the host is as before and ChangeFailed is raised. All claims returned hold."""
    with Transaction(context.host(wish.host), before.host.layout) as change:
        before = _still(context, wish, before, plan)
        for step in plan.steps:
            match step.action:
                case "build":
                    change.build(cf_options(wished_settings(wish, before)))
                case "reload":
                    change.reload()
                case _:
                    store_steps.carry_out(change, step)
        changed = look_at_host(context, wish, before.offered)
        after = see(context, wish, before.offered, changed, with_mail=True)
        claims = trust_claims(context, wish, before, after, earlier=before.seen)
        judge(claims)
    return claims


def _still(context: Context, wish: TrustWish, before: TrustBefore, plan: Plan) -> TrustBefore:
    """Look again, now that nobody else may change the host; raises StaleApproval when the plan would be another one."""
    now = replace(before, host=look_at_host(context, wish, before.offered))
    check_still(plan, trust_plan(wish, now), str(wish.host))
    return now
