"""02-issue-certificate: the procedure in its four ways."""

from __future__ import annotations

from pathlib import Path

from cryptography import x509

from mailtls_nb.errors import NotReady
from mailtls_nb.pki.certificates import certificate_pem
from mailtls_nb.plan import Plan
from mailtls_nb.procedures.healing import heal_hosts
from mailtls_nb.procedures.issue.facts import certificate_facts, in_words
from mailtls_nb.procedures.issue.look import look
from mailtls_nb.procedures.issue.observation import HostBefore
from mailtls_nb.procedures.issue.plan import RUNBOOK, install_plan, request_plan, sign_plan
from mailtls_nb.procedures.issue.proof import standing_claims
from mailtls_nb.procedures.issue.put_into_service import make_request, put_into_service
from mailtls_nb.procedures.issue.sign import SignBefore, look_at_request, request_facts, sign_request
from mailtls_nb.procedures.issue.signed_claims import signed_claims
from mailtls_nb.procedures.issue.wish import IssueWish, read_wish
from mailtls_nb.procedures.procedure import Applied, Context, Facts, Observed, Procedure, Values
from mailtls_nb.sendmail.mc import remarks as mc_remarks

_SOON_DAYS = 30

IssueBefore = HostBefore | SignBefore


class IssueCertificate(Procedure[IssueWish, IssueBefore]):
    """The procedure of 02-issue-certificate."""

    runbook = RUNBOOK

    def wish(self, values: Values) -> IssueWish:
        return read_wish(values)

    def target(self, values: Values) -> str:
        return str(values["hostname"])

    def observe(self, context: Context, wish: IssueWish) -> IssueBefore:
        return look_at_request(context, wish) if wish.way == "sign" else look(context, wish)

    def observed(self, wish: IssueWish, before: IssueBefore) -> Observed:
        if isinstance(before, SignBefore):
            return Observed(
                f"The request in {wish.csr} may be signed.",
                request_facts(before),
                remarks=(*before.remarks, *before.request.ignored),
            )
        layout = before.layout
        return Observed(
            f"{wish.host} runs sendmail {layout.version_text}.",
            _host_facts(before),
            {str(wish.host): layout.versions()},
            (*layout.remarks, *before.signer.remarks, *_expiry_remarks(before), *_trust_remarks(wish, before)),
        )

    def plan(self, wish: IssueWish, before: IssueBefore) -> Plan:
        if isinstance(before, SignBefore):
            return sign_plan(wish, before)
        return request_plan(wish, before) if wish.way == "request" else install_plan(wish, before)

    def heal(self, context: Context, wish: IssueWish, before: IssueBefore) -> tuple[str, ...]:
        return heal_hosts([(context.host(wish.host), before.layout)] if isinstance(before, HostBefore) else [])

    def apply(self, context: Context, wish: IssueWish, before: IssueBefore, plan: Plan) -> Applied:
        if isinstance(before, SignBefore):
            certificate = sign_request(context, wish, before)
            return _given_out("changed", context, wish, before, certificate)
        if wish.way == "request":
            (context.folder / "request.csr").write_bytes(make_request(context, wish, before, plan))
            return Applied(
                "planned",
                f"a key waits at {wish.new_key_path} on {wish.host}; have request.csr signed, then run again with "
                "external_certificate",
                (),
                artifacts={"request.csr": "the request for the CA elsewhere"},
            )
        certificate, claims = put_into_service(context, wish, before, plan)
        summary = f"{wish.hostname} uses the certificate on {wish.host}"
        return Applied("changed", summary, claims, certificate_facts(certificate), _artifacts(context.folder))

    def unchanged(self, context: Context, wish: IssueWish, before: IssueBefore) -> Applied:
        if isinstance(before, SignBefore):
            return _given_out("unchanged", context, wish, before, _there(before.signed))
        certificate = _there(before.files.certificate)
        claims = standing_claims(context, wish, before)
        summary = f"{wish.hostname} uses the certificate on {wish.host} already"
        return Applied("unchanged", summary, claims, certificate_facts(certificate), _artifacts(context.folder))


def _given_out(
    outcome: str, context: Context, wish: IssueWish, before: SignBefore, certificate: x509.Certificate
) -> Applied:
    certificate_file, ca_file = "certificate.pem", "cacert.pem"
    (context.folder / certificate_file).write_bytes(certificate_pem((certificate,)))
    (context.folder / ca_file).write_bytes(certificate_pem((before.directory.ca_certificate,)))
    return Applied(
        "changed" if outcome == "changed" else "unchanged",
        f"the request for {wish.hostname} " + ("was signed" if outcome == "changed" else "was signed before"),
        signed_claims(context, wish, before, certificate),
        certificate_facts(certificate),
        {certificate_file: f"the certificate for {wish.hostname}", ca_file: "the CA certificate that belongs to it"},
    )


def _artifacts(folder: Path) -> dict[str, str]:
    sentences = {"presented.pem": "the chain as port 25 showed it", "trusted.pem": "the CA it was verified by"}
    return {name: sentence for name, sentence in sentences.items() if (folder / name).exists()}


def _expiry_remarks(before: HostBefore) -> tuple[str, ...]:
    if before.files.certificate is None:
        return ()
    days = (before.files.certificate.not_valid_after_utc - before.at).days
    return (f"The certificate on the host ends in {days} days.",) if days < _SOON_DAYS else ()


def _trust_remarks(wish: IssueWish, before: HostBefore) -> tuple[str, ...]:
    settings = before.wished_settings(wish)
    overruled = mc_remarks(before.mc, settings, name=before.layout.mc)
    path = settings["confCACERT_PATH"]
    kept = () if path == wish.cert_dir else (f"CACertPath stays {path}: the CAs linked there are trusted as before.",)
    return (*overruled, *kept)


def _host_facts(before: HostBefore) -> Facts:
    layout, seen = before.layout, before.presented
    offered = (
        f"offered; shows serial {seen.serial:X}"
        if seen.serial
        else "offered"
        if seen.starttls_offered
        else "not offered"
    )
    return (
        ("system", layout.system + ("" if layout.proved else " (profile not yet proved)")),
        ("configuration", f"{layout.mc}, built into {layout.cf}"),
        ("service", f"{layout.service.kind} {layout.service.name}"),
        ("certificate", in_words(before.files.certificate)),
        ("STARTTLS on port 25", offered if seen.connected else f"no connection ({seen.problem})"),
    )


def _there(certificate: x509.Certificate | None) -> x509.Certificate:
    if certificate is None:
        raise NotReady("there is no certificate")
    return certificate
