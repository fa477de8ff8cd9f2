"""What must be so before a stage of 09 may begin: each would stop mail otherwise. Pure."""

from __future__ import annotations

from mailtls_nb.errors import NotReady
from mailtls_nb.procedures.replace.observation import ReplaceBefore
from mailtls_nb.procedures.replace.wish import ReplaceWish
from mailtls_nb.procedures.trust.demanded import rules_that_name

_UNTOUCHED = "nothing was touched"


def refuse_too_early(wish: ReplaceWish, before: ReplaceBefore) -> None:
    """Raise NotReady where the stage cannot begin, or can no longer be taken back."""
    if before.stage == "withdraw" and wish.stage != "withdraw":
        raise NotReady(
            f"{before.old.name} is withdrawn: its successor in {before.new_path} is the CA now",
            left=_UNTOUCHED,
            do="to replace that one in its turn, give another name as new_common_name",
        )
    match wish.stage:
        case "both":
            _refuse_ended(before)
        case "reissue":
            _refuse_untrusted(before)
            if before.cross is None:
                # Nothing leads from the new CA to the old one: who has not added it refuses us.
                _refuse_unconfirmed(wish, before)
            _refuse_rules(before, "reissue")
        case "withdraw":
            _refuse_untrusted(before)
            _refuse_shown(before)
            _refuse_still_old(before)
            _refuse_unconfirmed(wish, before)
            _refuse_rules(before, "withdraw")
        case "cancel":
            _refuse_new_in_service(before)


def _refuse_ended(before: ReplaceBefore) -> None:
    end = before.old.ca_certificate.not_valid_after_utc
    if before.at > end:
        raise NotReady(
            f"{before.old.name} ended on {end:%Y-%m-%d %H:%M:%S} UTC: nobody verifies its certificates any more, and "
            "no change from it can keep mail verified",
            left=_UNTOUCHED,
            do="check this machine's clock; if it is right, make a new CA with 01-create-ca, issue certificates with "
            "02, and send every partner the new pack",
        )


def _refuse_untrusted(before: ReplaceBefore) -> None:
    new = before.new.ca_certificate if before.new else None
    without = [host.where for host in before.hosts if new is None or not host.trusts(new)]
    if without:
        raise NotReady(
            f"{', '.join(without)} does not trust the new CA yet: what it certifies would be refused there",
            left=_UNTOUCHED,
            do="run the stage both first, with all hosts",
        )


def _refuse_rules(before: ReplaceBefore, stage: str) -> None:
    """A rule that asks for certificates of the old CA by its name refuses those of the new one."""
    for host in before.hosts:
        rules = rules_that_name([before.old.ca_certificate], host.look.access)
        if rules:
            lines = "; ".join(f"line {entry.line}: {entry.written_key}" for entry in rules)
            raise NotReady(
                f"rules on {host.where} ask for certificates of {before.old.name} by its name "
                f"({host.look.access_name}, {lines}): with the stage {stage} all that they are for would be refused",
                left=_UNTOUCHED,
                do="run 04-enforce-access for that partner with identity any, and again with identity issuer when the "
                "change is over (an entry outside the managed block is to be changed by hand)",
            )


def _refuse_shown(before: ReplaceBefore) -> None:
    showing = [host.where for host in before.hosts if host.shows_one_of(before.old.ca_certificate)]
    if showing or before.stage not in ("reissue", "withdraw"):
        raise NotReady(
            f"{', '.join(showing) or 'every host'} still shows a certificate of {before.old.name}",
            left=_UNTOUCHED,
            do="run the stage reissue first, with all hosts",
        )


def _refuse_still_old(before: ReplaceBefore) -> None:
    if before.still_old:
        raise NotReady(
            f"valid certificates of {before.old.name} are for names that the new CA has certified none for: "
            f"{', '.join(before.still_old)}. Our hosts would refuse them",
            left=_UNTOUCHED,
            do="reissue them (add their hosts to hosts, or sign their requests with 02), or revoke what is not used "
            "any more with 05-revoke-certificate",
        )


def _refuse_unconfirmed(wish: ReplaceWish, before: ReplaceBefore) -> None:
    missing = [partner for partner in before.partners if partner not in wish.partners_confirmed]
    if missing:
        raise NotReady(
            f"these partners are not in partners_confirmed: {', '.join(missing)}. No log of ours can show which CA "
            "a partner trusts, and one that does not trust the new CA refuses our mail from now on",
            left=_UNTOUCHED,
            do="ask each whether it has installed the new CA and its rules no longer name the old one, then list all "
            "of them in partners_confirmed",
        )


def _refuse_new_in_service(before: ReplaceBefore) -> None:
    new = before.new.ca_certificate if before.new else None
    showing = [host.where for host in before.hosts if new is not None and host.shows_one_of(new)]
    if showing or before.stage == "reissue":
        raise NotReady(
            f"{', '.join(showing) or 'the new CA signs now, and perhaps a host'} shows certificates of the new CA",
            left=_UNTOUCHED,
            do="run the stage both first: it goes back to certificates of the old CA",
        )
