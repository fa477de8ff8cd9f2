"""06-renew-certificate: the procedure."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from cryptography import x509

from mailtls_nb.errors import ChangeFailed, MailTLSError
from mailtls_nb.pki.index import serial_text
from mailtls_nb.plan import Plan
from mailtls_nb.procedures.healing import heal_hosts
from mailtls_nb.procedures.issue.facts import certificate_facts, in_words
from mailtls_nb.procedures.issue.observation import lifetime_days
from mailtls_nb.procedures.issue.plan import install_plan
from mailtls_nb.procedures.issue.proof import standing_claims
from mailtls_nb.procedures.issue.put_into_service import put_into_service
from mailtls_nb.procedures.procedure import Applied, Context, Facts, Observed, Procedure, Values
from mailtls_nb.procedures.renew.look import look
from mailtls_nb.procedures.renew.observation import InService, RenewBefore
from mailtls_nb.procedures.renew.plan import RUNBOOK, renew_plan
from mailtls_nb.procedures.renew.revoke_old import revoke_old
from mailtls_nb.procedures.renew.wish import RenewWish, read_wish
from mailtls_nb.verdict import Claim

_IN_USE = {"both": "as server and client", "server": "as server", "client": "as client"}
_SHOWN = {"presented.pem": "the chain as port 25 showed it", "trusted.pem": "the CA it was verified by"}


class RenewCertificate(Procedure[RenewWish, RenewBefore]):
    """The procedure of 06-renew-certificate."""

    runbook = RUNBOOK

    def wish(self, values: Values) -> RenewWish:
        return read_wish(values)

    def target(self, values: Values) -> str:
        return str(values["hostname"])

    def observe(self, context: Context, wish: RenewWish) -> RenewBefore:
        return look(context, wish)

    def observed(self, wish: RenewWish, before: RenewBefore) -> Observed:
        layout = before.layout
        facts = [fact for serving in before.in_service for fact in _facts(wish, serving, before.at)]
        return Observed(
            _title(wish, before),
            (("system", layout.system + ("" if layout.proved else " (profile not yet proved)")), *facts),
            {str(wish.host): layout.versions()},
            (*layout.remarks, *before.signer.remarks, *wish.ca.remarks(), *before.left_alone, *_remarks(wish, before)),
        )

    def plan(self, wish: RenewWish, before: RenewBefore) -> Plan:
        return renew_plan(wish, before)

    def heal(self, context: Context, wish: RenewWish, before: RenewBefore) -> tuple[str, ...]:
        return heal_hosts([(context.host(wish.host), before.layout)])

    def apply(self, context: Context, wish: RenewWish, before: RenewBefore, plan: Plan) -> Applied:  # noqa: ARG002
        certificates: list[x509.Certificate] = []
        claims: tuple[Claim, ...] = ()
        renewed: list[str] = []
        with _said_what_stays(renewed):
            for serving in before.in_service:
                if serving.is_due:
                    issue_plan = install_plan(serving.wish, serving.before)
                    certificate, seen = put_into_service(context, serving.wish, serving.before, issue_plan)
                    renewed.append(serving.wish.certificate_path)
                    claims += (*seen, _key_claim(serving, certificate))
                else:
                    certificate = serving.certificate
                    claims += standing_claims(context, serving.wish, serving.before)
                certificates.append(certificate)
            claims += revoke_old(context, wish, before, tuple(certificates))
        facts = tuple(fact for certificate in certificates for fact in certificate_facts(certificate))
        return Applied("changed", _done(wish, before), claims, facts, _artifacts(context))

    def unchanged(self, context: Context, wish: RenewWish, before: RenewBefore) -> Applied:
        claims = tuple(c for s in before.in_service for c in standing_claims(context, s.wish, s.before))
        facts = tuple(fact for serving in before.in_service for fact in certificate_facts(serving.certificate))
        summary = f"the certificate of {wish.hostname} on {wish.host} is not due"
        return Applied("unchanged", summary, claims, facts, _artifacts(context))


@contextmanager
def _said_what_stays(renewed: list[str]) -> Iterator[None]:
    """An error says what was renewed before it, and stays in service."""
    try:
        yield
    except MailTLSError as error:
        if not renewed:
            raise
        left = f"the certificate in {', '.join(renewed)} was renewed and stays in service"
        raise ChangeFailed(error.what, left=f"{left}; {error.left}" if error.left else left, do=error.do) from error


def _key_claim(serving: InService, certificate: x509.Certificate) -> Claim:
    kept = certificate.public_key() == serving.certificate.public_key()
    keeps = serving.wish.renewal is not None and serving.wish.renewal.keeps_key
    return Claim(
        f"the key in {serving.wish.certificate_path} is " + ("the one from before" if keeps else "a new one"),
        "yes",
        "yes" if kept is keeps else "no",
        "inspection",
        "comparison of the old and the new certificate",
    )


def _done(wish: RenewWish, before: RenewBefore) -> str:
    renewed = "uses a new certificate" if before.due else "uses its certificate"
    done = f"{wish.hostname} {renewed} on {wish.host}"
    if not before.superseded:
        return done
    return f"{done}; the old one is revoked, which mail servers learn by 05-revoke-certificate with action refresh"


def _artifacts(context: Context) -> dict[str, str]:
    return {name: sentence for name, sentence in _SHOWN.items() if (context.folder / name).exists()}


def _title(wish: RenewWish, before: RenewBefore) -> str:
    if before.layout.interrupted:
        return f"An interrupted run left something half done on {wish.host}."
    due = "is to be renewed" if before.due else "is not due"
    return f"The certificate of {wish.hostname} on {wish.host} {due}."


def _facts(wish: RenewWish, serving: InService, now: datetime) -> Facts:
    left = serving.left(now)
    days = f"{left.days} days" if left.days >= 0 else "none: it has ended"
    later = f"when {wish.renew_before_days} days are left"
    return (
        (f"in service {_IN_USE[serving.wish.roles]}", in_words(serving.certificate)),
        ("its file", serving.wish.certificate_path),
        ("its CA", serving.issuer.name),
        ("made for", f"{lifetime_days(serving.certificate)} days, {serving.wish.key_type.word}"),
        ("left", days),
        ("to be renewed", f"now: {serving.reason}" if serving.is_due else later),
    )


def _remarks(wish: RenewWish, before: RenewBefore) -> list[str]:
    found = [
        f"The new certificate is for {days} days only: then the CA itself ends (09-replace-ca)."
        for serving in before.due
        if (days := serving.wish.days_from(before.at)) < serving.wish.valid_days
    ]
    in_service = {serving.certificate.serial_number for serving in before.in_service}
    if others := [serial_text(s) for part in before.superseded for s in part.serials if s not in in_service]:
        found.append(
            f"Older certificates for these names and roles are still valid, and to be revoked: {', '.join(others)}. If "
            f"one of them is in service on another host than {wish.host}, run with revoke_old no."
        )
    return found
