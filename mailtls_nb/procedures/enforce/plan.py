"""The steps of 04 from what is there to what is wished, and where it refuses to plan at all."""

from __future__ import annotations

from mailtls_nb.errors import NotReady
from mailtls_nb.plan import Plan, Step, sha256, unified_diff
from mailtls_nb.procedures.enforce.cases import answer
from mailtls_nb.procedures.enforce.observation import EnforceBefore
from mailtls_nb.procedures.enforce.wish import EnforceWish
from mailtls_nb.sendmail.access.block import managed_block

RUNBOOK = "04-enforce-access"
_UNTOUCHED = "nothing was touched"


def enforce_plan(wish: EnforceWish, before: EnforceBefore) -> Plan:
    """The plan of 04; empty when the rules wished for are in force. Raises NotReady where they would do harm."""
    host, access = str(wish.host), before.access
    if before.layout.interrupted:
        sentence = "Undo what an interrupted run left, then look at everything anew."
        return Plan(RUNBOOK, wish.as_data(), (Step("heal", host, "mailtls-nb", sentence),), _rests_on(before))
    _refuse_a_stale_database(wish, before)
    if wish.demands and not wish.everyone:
        # Also where nothing is to be done: a rule that can no longer be met has stopped mail.
        _refuse_what_stops_the_partner(wish, before)
    _refuse_what_differs(wish, before)
    if before.wanted == access.text:
        return Plan(RUNBOOK, wish.as_data(), (), _rests_on(before))
    text, database = access.database.text, access.database.database
    old, new = (
        managed_block(content, name=text).decode("utf-8", "replace") for content in (access.text, before.wanted)
    )
    steps = [
        Step(
            "write",
            host,
            text,
            ("Write the rules into" if wish.demands or wish.requirement == "never" else "Take the rules out of")
            + " their own block in the access map; every other line stays.",
            diff=unified_diff(text, old, new),
            before=sha256(access.text),
            content=before.wanted,
            settings={"mode": f"{access.text_status.mode:04o}", "owner": access.text_status.owner},
        ),
        Step(
            "map",
            host,
            database,
            "Make the database from it with makemap, beside its place, and move it there; sendmail looks there at its "
            "next question and is not restarted.",
            before=access.in_service,
            settings={"kind": access.database.kind},
        ),
    ]
    if not wish.demands:
        steps.append(
            Step(
                "flush",
                host,
                wish.partner,
                "Try what waits in the queue for the partner once more.",
                settings={"recipients": wish.partner},
            )
        )
    impact = before.impact.as_data() if before.impact else {}
    return Plan(RUNBOOK, wish.as_data(), tuple(steps), _rests_on(before), _outlook(before), impact)


def _outlook(before: EnforceBefore) -> tuple[tuple[str, str], ...]:
    """What the host's own rulesets will decide, case by case."""
    return tuple(
        (case.label, f"{answer(now)} now, then {answer(then)}" if answer(now) != answer(then) else f"{answer(then)}")
        for case, now, then in zip(before.cases, before.live, before.candidate, strict=True)
    )


def _refuse_a_stale_database(wish: EnforceWish, before: EnforceBefore) -> None:
    access = before.access
    if access.database_status is None or access.is_current:
        return
    raise NotReady(
        f"{wish.host}: {access.database.text} was changed and its database was not made anew, so making it now would "
        "bring in more than what is asked for here",
        left=_UNTOUCHED,
        do=f"look at what was changed, then make the database: makemap {access.database.kind} "
        f"{access.database.text} <{access.database.text}",
    )


def _refuse_what_differs(wish: EnforceWish, before: EnforceBefore) -> None:
    """The rulesets must decide every case as meant, before anything is touched; another entry may be in the way."""
    wrong = [
        f"{case.label}: {answer(decision)}, and should be {case.expected}"
        for case, decision in zip(before.cases, before.candidate, strict=True)
        if answer(decision) != case.expected
    ]
    if wrong:
        raise NotReady(
            f"with these rules sendmail on {wish.host} would not decide as asked for:"
            + "".join(f"\n  - {line}" for line in wrong),
            left=_UNTOUCHED,
            do=f"look in {before.access.database.text} for entries that stand before these (a longer name, an address, "
            "a tag of its own), for instance with 07-check-host",
        )


def _refuse_what_stops_the_partner(wish: EnforceWish, before: EnforceBefore) -> None:
    """Raise NotReady where the partner's server could not meet the requirement as it is now: mail to it would stop.

    A partner that only sends need not have a server: of what it shows as a client nothing is seen from here.
    """
    partner = before.partner
    if not {"client", "recipient"} & set(wish.directions) or not partner.presented.connected:
        return
    if not partner.presented.chain:
        raise NotReady(
            f"{wish.partner} shows no certificate on port 25 ({partner.shows}): mail to it would stop",
            left=_UNTOUCHED,
            do="have it speak STARTTLS first, or leave client and recipient out of directions",
        )
    if wish.requirement == "verify" and not partner.verifies:
        raise NotReady(
            f"the certificate of {wish.partner} does not verify on {wish.host} (openssl: "
            f"{partner.presented.verified}): mail to it would stop, or has stopped where the rule is in force",
            left=_UNTOUCHED,
            do="trust its CA first, with the runbook 03-trust-partner",
        )


def _rests_on(before: EnforceBefore) -> dict[str, str]:
    return {
        "sendmail": before.layout.version_text,
        **{case.label: case.expected for case in before.cases},
    }
