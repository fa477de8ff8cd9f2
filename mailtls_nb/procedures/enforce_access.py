"""04-enforce-access: the procedure."""

from __future__ import annotations

from mailtls_nb.names import is_within, openssl_dn
from mailtls_nb.plan import Plan
from mailtls_nb.procedures.enforce.look import look
from mailtls_nb.procedures.enforce.observation import EnforceBefore
from mailtls_nb.procedures.enforce.plan import RUNBOOK, enforce_plan
from mailtls_nb.procedures.enforce.proof import oracle_claims
from mailtls_nb.procedures.enforce.put_into_force import put_into_force
from mailtls_nb.procedures.enforce.wish import EnforceWish, read_wish
from mailtls_nb.procedures.healing import heal_hosts
from mailtls_nb.procedures.procedure import Applied, Context, Facts, Observed, Procedure, Values
from mailtls_nb.sendmail.impact import Impact


class EnforceAccess(Procedure[EnforceWish, EnforceBefore]):
    """The procedure of 04-enforce-access."""

    runbook = RUNBOOK

    def wish(self, values: Values) -> EnforceWish:
        return read_wish(values)

    def target(self, values: Values) -> str:
        return str(values["partner"])

    def observe(self, context: Context, wish: EnforceWish) -> EnforceBefore:
        return look(context, wish)

    def observed(self, wish: EnforceWish, before: EnforceBefore) -> Observed:
        layout = before.layout
        return Observed(
            f"{wish.host} runs sendmail {layout.version_text}; its access map is {before.access.database.text}.",
            _facts(wish, before),
            {str(wish.host): layout.versions()},
            (*layout.remarks, *_remarks(wish, before)),
        )

    def plan(self, wish: EnforceWish, before: EnforceBefore) -> Plan:
        return enforce_plan(wish, before)

    def impact(self, wish: EnforceWish, before: EnforceBefore) -> Impact | None:  # noqa: ARG002
        return before.impact

    def heal(self, context: Context, wish: EnforceWish, before: EnforceBefore) -> tuple[str, ...]:
        return heal_hosts([(context.host(wish.host), before.layout)])

    def apply(self, context: Context, wish: EnforceWish, before: EnforceBefore, plan: Plan) -> Applied:
        before, claims, flushed = put_into_force(context, wish, before, plan)
        return Applied("changed", _summary(wish), claims, (*_rule_facts(wish, before), *flushed))

    def unchanged(self, context: Context, wish: EnforceWish, before: EnforceBefore) -> Applied:  # noqa: ARG002
        claims = oracle_claims(wish, before, before.live)
        return Applied("unchanged", f"{_summary(wish)} already", claims, _rule_facts(wish, before))


def _summary(wish: EnforceWish) -> str:
    who = "everyone" if wish.everyone else wish.partner
    match wish.requirement:
        case "none":
            return f"{wish.host} demands nothing of {who}"
        case "never":
            return f"{wish.host} sends to {who} without STARTTLS"
        case "encrypt":
            return f"{wish.host} demands TLS of {who}"
        case _:
            return f"{wish.host} demands verified TLS of {who}"


def _facts(wish: EnforceWish, before: EnforceBefore) -> Facts:
    partner, shown = before.partner, before.partner.presented
    names = ", ".join(
        f"{address} (reverse name {partner.reverse_names.get(address) or 'missing'})" for address in partner.addresses
    )
    if shown.chain:
        certificate = shown.chain[0]
        port = (
            f"shows {openssl_dn(certificate.subject)} by {openssl_dn(certificate.issuer)}, "
            + ("which verifies" if partner.verifies else f"which does not verify: {shown.verified}")
            + f" on {wish.host}"
        )
    else:
        port = f"shows no certificate ({partner.shows})"
    return (
        ("system", before.layout.system + ("" if before.layout.proved else " (profile not yet proved)")),
        ("partner's addresses", names or "none found"),
        ("partner's port 25", port),
        ("waiting in the queue for it", f"{before.waiting} messages" if before.waiting != 1 else "1 message"),
    )


def _remarks(wish: EnforceWish, before: EnforceBefore) -> tuple[str, ...]:
    found = []
    partner = before.partner
    others = [
        f"{address} ({name})" for address, name in partner.reverse_names.items() if not is_within(name, wish.partner)
    ]
    if wish.demands and "server" in wish.directions and others:
        found.append(
            f"Not named {wish.partner} by their reverse names: {', '.join(others)}. Only the rule by address holds "
            "them."
        )
    if wish.demands and wish.identity == "any" and wish.requirement == "verify":
        found.append("identity=any: a certificate of any trusted CA will do, for whatever name it is.")
    if wish.everyone and wish.demands and "server" in wish.directions:
        found.append(
            "everyone=yes: servers that take mail from the public must not demand TLS (RFC 3207, 4): it is refused."
        )
    if wish.demands and "client" in wish.directions and not wish.everyone:
        elsewhere = [name for name in before.servers if not is_within(name, wish.partner)]
        if elsewhere:
            found.append(
                f"DNS sends mail for {', '.join(wish.mail_domains)} to {', '.join(elsewhere)}, which a rule for "
                f"connections to {wish.partner} does not hold; the direction recipient does."
            )
    if wish.requirement == "verify" and before.extension is not None and before.extension.kind == "CI":
        found.append(
            "The issuer is compared by its name, which any other CA that this host trusts and that may certify CAs "
            "could take: trust none that you would not trust with it."
        )
    if wish.requirement == "verify" and "server" in wish.directions and not wish.everyone:
        found.append(
            "What the partner shows as a client may be another certificate than on port 25; see the impact below."
        )
    dropped = [case.label for case in before.cases if case.label.startswith("no longer held")]
    if dropped:
        found.append(f"The rules of the partner that are not asked for again go: {'; '.join(dropped)}.")
    still = [case.label for case in before.cases if not wish.demands and case.is_negative]
    if still:
        found.append(f"Other rules stay in force, by which these are refused: {'; '.join(still)}.")
    if before.waiting:
        found.append(
            f"To try what waits once more by hand: {before.layout.sendmail} -qR{wish.partner} (as root, on the host)."
        )
    if before.impact is not None:
        found += before.impact.remarks
    return tuple(found)


def _rule_facts(wish: EnforceWish, before: EnforceBefore) -> Facts:
    return (
        ("identity demanded", str(before.extension) if before.extension else "none"),
        ("addresses", ", ".join(before.address_names) if "server" in wish.directions else "no rule"),
    )
