"""Looking at the host, its access map and the partner for 04; changes nothing."""

from __future__ import annotations

from mailtls_nb.errors import NotReady
from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.access_map import AccessMap, observe_access_map
from mailtls_nb.observe.layout import observe_layout
from mailtls_nb.observe.mail_history import observe_impact
from mailtls_nb.observe.names import addresses_of, reverse_names
from mailtls_nb.observe.port25 import presented_on_port25
from mailtls_nb.observe.queue import waiting_messages
from mailtls_nb.observe.rulesets import ask_rulesets
from mailtls_nb.procedures.enforce.cases import expected_cases, identified, settled
from mailtls_nb.procedures.enforce.observation import EnforceBefore, PartnerBefore, identity, wished_entries
from mailtls_nb.procedures.enforce.wish import EnforceWish
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.sendmail.access.block import with_partner
from mailtls_nb.sendmail.access.case import Case, Decision
from mailtls_nb.sendmail.access.entries import access_entries, address_names
from mailtls_nb.sendmail.access.model import decide
from mailtls_nb.sendmail.access.requirement import Extension
from mailtls_nb.sendmail.cf import access_database, options
from mailtls_nb.sendmail.impact import Impact
from mailtls_nb.sendmail.layout import Layout
from mailtls_nb.sendmail.tally import FittingCertificate, Tally

_UNTOUCHED = "nothing was touched"


def look(context: Context, wish: EnforceWish) -> EnforceBefore:
    """Observe the host, its access map, the partner as the host sees it, and what the map wished for would decide."""
    host = context.host(wish.host)
    layout = observe_layout(host)
    cf = host.read(layout.cf)
    if cf is None:
        raise NotReady(f"{host.name}: there is no {layout.cf}", left=_UNTOUCHED)
    access = _access(host, layout, cf)
    partner = _partner(host, wish, cf)
    extension = identity(wish, partner.presented, layout)
    names = wish.addresses or address_names(",".join(map(str, partner.addresses)))
    entries = wished_entries(wish, names, extension)
    wanted = with_partner(access.text, wish.group, entries, name=access.database.text)
    cases = expected_cases(wish, names, extension)
    asked = [case.case for case in cases]
    live = ask_rulesets(host, layout, asked, access=None, cf=cf)
    candidate = ask_rulesets(host, layout, asked, access=wanted, cf=cf)
    return EnforceBefore(
        at=context.now(),
        layout=layout,
        access=access,
        partner=partner,
        address_names=names,
        extension=extension,
        wanted=wanted,
        cases=tuple(settled(wish, *decided) for decided in zip(cases, live, candidate, strict=True)),
        live=live,
        candidate=candidate,
        impact=_impact(context, wish, layout, wanted, extension) if wish.demands and wanted != access.text else None,
        waiting=waiting_messages(host, layout.sendmail, wish.partner),
    )


def _access(host: Host, layout: Layout, cf: bytes) -> AccessMap:
    database = access_database(cf)
    if database is None or not database.made_by_makemap:
        raise NotReady(
            f"{host.name}: {layout.cf} has no access map that makemap makes, so no rule could be in force",
            left=_UNTOUCHED,
            do=f"put FEATURE(`access_db') into {layout.mc}, rebuild and restart sendmail, then run this again",
        )
    return observe_access_map(host, database)


def _partner(host: Host, wish: EnforceWish, cf: bytes) -> PartnerBefore:
    addresses = addresses_of(host, wish.partner)
    trusted = options(cf)
    return PartnerBefore(
        addresses=addresses,
        reverse_names=reverse_names(host, addresses) if addresses else {},
        presented=presented_on_port25(
            host,
            wish.partner,
            trusted_file=trusted.get("CACertFile", ""),
            trusted_path=trusted.get("CACertPath", ""),
        ),
    )


def _impact(context: Context, wish: EnforceWish, layout: Layout, wanted: bytes, extension: Extension | None) -> Impact:
    host = context.host(wish.host)
    entries = access_entries(wanted)

    def decision(case: Case) -> Decision:
        return decide(entries, case, release=layout.version)

    good = identified(Case("server", wish.partner, "", "OK"), extension)
    fitting = FittingCertificate(good.cn_subject, good.cert_subject, good.cert_issuer)
    tally = Tally(decision, directions=wish.directions, fitting=fitting, bits=wish.bits)
    return observe_impact(host, layout.log, tally, now=context.now())
