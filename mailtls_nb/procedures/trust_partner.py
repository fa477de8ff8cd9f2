"""03-trust-partner: the procedure."""

from __future__ import annotations

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID

from mailtls_nb.names import openssl_dn
from mailtls_nb.pki.certificates import dns_names, extended_key_usage, fingerprint
from mailtls_nb.pki.profiles import key_word
from mailtls_nb.plan import Plan
from mailtls_nb.procedures.healing import heal_hosts
from mailtls_nb.procedures.procedure import Applied, Context, Facts, Observed, Procedure, Values
from mailtls_nb.procedures.trust.change import change_trust
from mailtls_nb.procedures.trust.look import look
from mailtls_nb.procedures.trust.observation import TrustBefore
from mailtls_nb.procedures.trust.offered import read_offered
from mailtls_nb.procedures.trust.plan import RUNBOOK, trust_plan
from mailtls_nb.procedures.trust.proof import trust_claims
from mailtls_nb.procedures.trust.wish import TrustWish, read_wish
from mailtls_nb.sendmail.mc import remarks as mc_remarks

_SOON_DAYS = 30


class TrustPartner(Procedure[TrustWish, TrustBefore]):
    """The procedure of 03-trust-partner."""

    runbook = RUNBOOK

    def wish(self, values: Values) -> TrustWish:
        return read_wish(values)

    def target(self, values: Values) -> str:
        return str(values["partner"])

    def observe(self, context: Context, wish: TrustWish) -> TrustBefore:
        return look(context, wish, read_offered(context, wish))

    def observed(self, wish: TrustWish, before: TrustBefore) -> Observed:
        layout = before.host.layout
        trusted = "does not trust" if before.host.missing(before.offered.certificates) else "trusts"
        return Observed(
            f"sendmail on {wish.host} {trusted} the CA offered for {wish.partner}.",
            (*_offered_facts(before), *_partner_facts(wish, before), *_host_facts(wish, before)),
            {str(wish.host): layout.versions()},
            (*layout.remarks, *before.offered.remarks, *_remarks(wish, before), *before.host.store.problems),
        )

    def plan(self, wish: TrustWish, before: TrustBefore) -> Plan:
        return trust_plan(wish, before)

    def heal(self, context: Context, wish: TrustWish, before: TrustBefore) -> tuple[str, ...]:
        return heal_hosts([(context.host(wish.host), before.host.layout)])

    def apply(self, context: Context, wish: TrustWish, before: TrustBefore, plan: Plan) -> Applied:
        claims = change_trust(context, wish, before, plan)
        done = "trusts" if wish.trusts else "no longer trusts"
        summary = f"sendmail on {wish.host} {done} the CA of {wish.partner}"
        return Applied("changed", summary, claims, _offered_facts(before), _artifacts(before))

    def unchanged(self, context: Context, wish: TrustWish, before: TrustBefore) -> Applied:
        claims = trust_claims(context, wish, before, before.seen, earlier=None)
        done = "trusts the CA of {} already" if wish.trusts else "does not trust the CA of {} anyway"
        summary = f"sendmail on {wish.host} " + done.format(wish.partner)
        return Applied("unchanged", summary, claims, _offered_facts(before), _artifacts(before))


def _artifacts(before: TrustBefore) -> dict[str, str]:
    if not before.seen.presented.chain:
        return {}
    return {"presented.pem": "the chain as the partner's port 25 showed it", "offered.pem": "the CA offered"}


def _offered_facts(before: TrustBefore) -> Facts:
    rows: Facts = ()
    for certificate in before.offered.certificates:
        rows += (
            ("CA offered", openssl_dn(certificate.subject)),
            ("its SHA-256 fingerprint", _colons(fingerprint(certificate))),
            ("its key", key_word(certificate.public_key())),
            ("valid", f"{certificate.not_valid_before_utc:%Y-%m-%d} to {certificate.not_valid_after_utc:%Y-%m-%d}"),
        )
    for _, crl in before.offered.crls:
        rows += (("CRL of", f"{openssl_dn(crl.issuer)}, until {crl.next_update_utc:%Y-%m-%d}"),)
    return rows


def _partner_facts(wish: TrustWish, before: TrustBefore) -> Facts:
    seen = before.seen.presented
    name = f"{wish.partner} on port 25"
    if not seen.connected:
        return ((name, f"no connection ({seen.problem})"),)
    if not seen.chain:
        return ((name, "shows no certificate: STARTTLS is not offered" if not seen.starttls_offered else seen.problem),)
    rows = tuple((name if n == 0 else "", _in_words(certificate)) for n, certificate in enumerate(seen.chain))
    leads = "yes" if before.leads == "OK" else f"no: {before.leads}"
    return (
        *rows,
        ("for the names", ", ".join(dns_names(seen.chain[0])) or "none (subjectAltName)"),
        ("this leads to the CA offered", leads),
    )


def _host_facts(wish: TrustWish, before: TrustBefore) -> Facts:
    look, seen = before.host, before.seen
    settings = look.options
    rows: Facts = (
        ("trusted by CACertFile", settings.get("CACertFile", "not set")),
        ("trusted by CACertPath", settings.get("CACertPath", "not set")),
        ("by these the partner is", "verified" if seen.verifies else f"not verified: {seen.presented.verified or '-'}"),
    )
    if seen.as_client:
        rows += ((f"{wish.host} logs for a message to it", seen.as_client),)
    if seen.as_server:
        rows += ((f"{wish.host} logs for a message from it", seen.as_server),)
    return rows


def _remarks(wish: TrustWish, before: TrustBefore) -> tuple[str, ...]:
    if not wish.trusts:
        return (
            "A CA is trusted for any name: whoever else shows certificates of this one is no longer verified either.",
        )
    found = [*_partner_remarks(wish, before), *_host_remarks(wish, before)]
    found += [
        f"{openssl_dn(certificate.subject)} ends in {days} days."
        for certificate in before.offered.certificates
        if (days := (certificate.not_valid_after_utc - before.at).days) < _SOON_DAYS
    ]
    return tuple(found)


def _partner_remarks(wish: TrustWish, before: TrustBefore) -> list[str]:
    shown, seen = before.shown_by_partner, before.seen
    if shown is None:
        return [f"{wish.partner} shows no certificate on port 25, so of itself nothing can be proved."]
    found = []
    if before.leads != "OK":
        found.append(
            f"What {wish.partner} shows now does not lead to the CA offered, so it stays as it is until the partner "
            "shows one of that CA. Good where the partner is about to change its CA; else ask it for the right file."
        )
    if wish.partner not in dns_names(shown):
        found.append(f"The certificate is not for {wish.partner}; sendmail does not compare names unless told to.")
    usage = extended_key_usage(shown)
    if usage is not None and ExtendedKeyUsageOID.CLIENT_AUTH not in usage:
        found.append("The certificate is for servers only (extendedKeyUsage): shown by a client it is not verified.")
    if seen.as_server == "verify=NO":
        found.append(f"{wish.partner} shows no certificate as a client, so its mail to us cannot be verified.")
    return found


def _host_remarks(wish: TrustWish, before: TrustBefore) -> list[str]:
    look = before.host
    found = (
        list(mc_remarks(look.mc, {"confCACERT_PATH": ""}, name=look.layout.mc))
        if "CACertPath" not in look.options
        else []
    )
    if not look.is_server:
        found.append(
            f"{wish.host} has no certificate as a server (02-issue-certificate): mail from the partner stays "
            "unverified."
        )
    in_file = look.store.ca_file.certificates if look.store.ca_file else ()
    if any(certificate not in in_file for certificate in before.offered.certificates):
        found.append(
            "The CA goes into CACertPath, whose CAs are not named to clients. A client that chooses its certificate by "
            "the names it is told, and so shows none (verify=NO), needs the CA in CACertFile (confCACERT) as well."
        )
    return found


def _in_words(certificate: x509.Certificate) -> str:
    return (
        f"{openssl_dn(certificate.subject)}, issued by {openssl_dn(certificate.issuer)}, "
        f"until {certificate.not_valid_after_utc:%Y-%m-%d}"
    )


def _colons(digits: str) -> str:
    return ":".join(digits[place : place + 2] for place in range(0, len(digits), 2)).upper()
