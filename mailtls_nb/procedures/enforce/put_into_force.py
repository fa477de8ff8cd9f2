"""Carrying out the plan of 04 on the host, in one transaction."""

from __future__ import annotations

from mailtls_nb.apply.transaction import Transaction
from mailtls_nb.approval import check_still
from mailtls_nb.errors import MailTLSError, NotReady
from mailtls_nb.observe.access_map import MAKEMAP_SAID
from mailtls_nb.observe.certificate_files import FileStatus
from mailtls_nb.observe.queue import flush_queue
from mailtls_nb.plan import Plan, sha256
from mailtls_nb.procedures.enforce.look import look
from mailtls_nb.procedures.enforce.observation import EnforceBefore
from mailtls_nb.procedures.enforce.plan import enforce_plan
from mailtls_nb.procedures.enforce.proof import proof
from mailtls_nb.procedures.enforce.wish import EnforceWish
from mailtls_nb.procedures.procedure import Context, Facts
from mailtls_nb.verdict import Claim, judge

# $1: kind, $2: the text, $3: the map made beside the live one, $4: the live one, $5: mode, $6: owner; the rest are the
# endings of the files that makemap makes. sendmail sees at its next question that the file is another one.
_MAKE = rf"""
PATH=/usr/sbin:/sbin:/usr/bin:/bin:/usr/lib:$PATH; export PATH
kind=$1 text=$2 made=$3 live=$4 mode=$5 owner=$6
shift 6
umask 077
for ending do rm -f "$made$ending"; done
makemap "$kind" "$made" <"$text" 2>"$made.said"
status=$?
{MAKEMAP_SAID} <"$made.said" >&2
rm -f "$made.said"
test $status -eq 0 || exit 1
for ending do chmod "$mode" "$made$ending" && chown "$owner" "$made$ending" || exit 1; done
for ending do mv -f "$made$ending" "$live$ending" || exit 1; done
"""


def put_into_force(
    context: Context, wish: EnforceWish, before: EnforceBefore, plan: Plan
) -> tuple[EnforceBefore, tuple[Claim, ...], Facts]:
    """Apply the plan; on any failure the host is as before and ChangeFailed is raised. All claims returned hold."""
    with Transaction(context.host(wish.host), before.layout) as change:
        before = _still(plan, context, wish)
        with proof(context, wish, before, change) as claims:
            for step in plan.steps:
                match step.action:
                    case "write" if step.content is not None:
                        mode, owner = int(str(step.settings["mode"]), 8), str(step.settings["owner"])
                        change.write(step.target, step.content, mode=mode, owner=owner, expected=step.before)
                    case "map":
                        _make_map(change, before)
                    case "flush":
                        pass  # once it counts: a message that has left cannot be put back
                    case _:
                        raise NotReady(f"this run cannot do the step {step.action} on {step.target}")
        judge(tuple(claims))
    if any(step.action == "flush" for step in plan.steps):
        return before, tuple(claims), _flushed(context, wish, before)
    return before, tuple(claims), ()


def _flushed(context: Context, wish: EnforceWish, before: EnforceBefore) -> Facts:
    """Try what waits once more; the change counts, whatever becomes of that."""
    try:
        for domain in wish.mail_domains:
            flush_queue(context.host(wish.host), before.layout.sendmail, domain)
    except MailTLSError as error:
        return (("waiting mail", f"was not tried again: {error.what}"),)
    return (("waiting mail", "was tried again"),)


def _still(plan: Plan, context: Context, wish: EnforceWish) -> EnforceBefore:
    """Look again, now that nobody else may change the host; raises StaleApproval when the plan would be another one."""
    now = look(context, wish, judge_past=False)
    check_still(plan, enforce_plan(wish, now), str(wish.host))
    return now


def _make_map(change: Transaction, before: EnforceBefore) -> None:
    access = before.access
    database = access.database
    # A database that was not there gets the mode and owner of its text, which may hold passwords like it.
    status: FileStatus = access.database_status or access.text_status
    made = f"{database.text}.mailtls-nb"
    argv = ("sh", "-c", _MAKE, "sh", database.kind, database.text, made, database.text, f"{status.mode:04o}")
    files = tuple(f"{path}{ending}" for path in (made, database.text) for ending in database.endings)
    files += (f"{made}.said",)
    # What somebody saves there meanwhile was not in the plan.
    expected = {database.text: sha256(before.wanted)}
    made_it = change.run((*argv, status.owner, *database.endings), changes=files, expected=expected)
    made_it.check(f"making {database.database}")
