"""Looking at the host, its access map and the partner for 04; changes nothing."""

from __future__ import annotations

from mailtls_nb.errors import NotReady
from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.access_map import AccessMap, observe_access_map
from mailtls_nb.observe.daemon_age import newer_than_daemon
from mailtls_nb.observe.layout import observe_layout
from mailtls_nb.observe.mail_history import observe_impact
from mailtls_nb.observe.names import addresses_of, mail_servers, reverse_names
from mailtls_nb.observe.needed_file import needed_file
from mailtls_nb.observe.port25 import presented_on_port25
from mailtls_nb.observe.queue import waiting_messages
from mailtls_nb.observe.rulesets import ask_rulesets
from mailtls_nb.procedures.enforce.cases import expected_cases, identified, settled
from mailtls_nb.procedures.enforce.observation import (
    EnforceBefore,
    PartnerBefore,
    identity,
    known_peers,
    refuse_no_tls,
    shown_certificate,
    wished_entries,
)
from mailtls_nb.procedures.enforce.wish import EnforceWish
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.sendmail.access.block import managed_groups, with_partner
from mailtls_nb.sendmail.access.case import Case, Decision
from mailtls_nb.sendmail.access.entries import access_entries, address_names
from mailtls_nb.sendmail.access.model import TAG_OF, decide
from mailtls_nb.sendmail.access.requirement import Extension
from mailtls_nb.sendmail.cf import access_database, options
from mailtls_nb.sendmail.impact import Impact
from mailtls_nb.sendmail.layout import Layout
from mailtls_nb.sendmail.tally import FittingCertificate, Tally

_UNTOUCHED = "nothing was touched"


def look(context: Context, wish: EnforceWish, *, judge_past: bool = True) -> EnforceBefore:
    """Observe the host, its access map, the partner as the host sees it, and what the map wished for would decide.

    ``judge_past``: the mail log is read as well, which can take a minute.
    """
    host = context.host(wish.host)
    layout = observe_layout(host)
    cf = needed_file(host, layout.cf)
    access = _access(host, layout, cf)
    _refuse_another_configuration(host, layout)
    partner = _partner(host, wish, cf)
    _refuse_an_unknown_name(wish, partner)
    extension = identity(wish, partner, layout)
    names = wish.addresses or address_names(",".join(map(str, partner.addresses)))
    entries = wished_entries(wish, names, extension)
    wanted = with_partner(access.text, wish.group, entries, name=access.database.text)
    refuse_no_tls(wish, access_entries(wanted), access.database.text)
    held = managed_groups(access.text, name=access.database.text).get(wish.group, ())
    cases = expected_cases(
        wish,
        names,
        extension,
        shown=shown_certificate(partner, layout),
        known=known_peers(wish, partner, names, access_entries(wanted)),
        held_now=tuple(direction for direction, tag in TAG_OF.items() if any(entry.tag == tag for entry in held)),
    )
    asked = [case.case for case in cases]
    live = ask_rulesets(host, layout, asked, access=None, cf=cf)
    demands_more = wish.demands and wanted != access.text
    in_force = wanted == access.text and access.is_current
    candidate = live if in_force else ask_rulesets(host, layout, asked, access=wanted, cf=cf)
    return EnforceBefore(
        at=context.now(),
        layout=layout,
        cf=cf,
        access=access,
        partner=partner,
        address_names=names,
        extension=extension,
        wanted=wanted,
        cases=tuple(settled(*decided) for decided in zip(cases, live, candidate, strict=True)),
        live=live,
        candidate=candidate,
        impact=_impact(context, wish, layout, wanted, extension) if judge_past and demands_more else None,
        waiting=sum(waiting_messages(host, layout.sendmail, domain) for domain in wish.mail_domains),
        servers=mail_servers(host, layout.sendmail, wish.mail_domains),
    )


def _access(host: Host, layout: Layout, cf: bytes) -> AccessMap:
    database = access_database(cf)
    if database is None or not database.made_by_makemap:
        raise NotReady(
            f"{host.name}: {layout.cf} has no access map that makemap makes, so no rule could be in force",
            left=_UNTOUCHED,
            do=f"put FEATURE(`access_db') into {layout.mc}, rebuild and restart sendmail, then run this again",
        )
    access = observe_access_map(host, database)
    if access.text_status.is_link:
        raise NotReady(
            f"{host.name}: {database.text} is a symbolic link: replacing it would part it from what it names",
            left=_UNTOUCHED,
            do="put the file itself in its place",
        )
    if access.database_status is None and not database.optional:
        raise NotReady(
            f"{host.name}: there is no {database.database}, without which sendmail answers nothing",
            left=_UNTOUCHED,
            do=f"make it: makemap {database.kind} {database.text} <{database.text}",
        )
    _refuse_short_addresses(host, layout, cf)
    return access


def _refuse_an_unknown_name(wish: EnforceWish, partner: PartnerBefore) -> None:
    if not partner.addresses and not wish.addresses and wish.demands and not wish.everyone:
        raise NotReady(
            f"DNS has no address for {wish.partner}, as {wish.host} sees it",
            left=_UNTOUCHED,
            do="check the spelling: a rule for a name that does not exist protects nobody. If it is right, give the "
            "addresses that the partner sends from in addresses",
        )


def _refuse_short_addresses(host: Host, layout: Layout, cf: bytes) -> None:
    """Raise NotReady where sendmail looks IPv6 addresses up in their short form (op.me, UseCompressedIPv6Addresses)."""
    short = options(cf).get("UseCompressedIPv6Addresses", "").lower()[:1]
    if short in ("t", "y") or (not short and "IPV6_FULL" not in layout.compiled_with):
        raise NotReady(
            f"{host.name}: its sendmail looks IPv6 addresses up in their short form; rules are written in the full one",
            left=_UNTOUCHED,
            do="set UseCompressedIPv6Addresses to false (define(`confUSE_COMPRESSED_IPV6_ADDRESSES', `False')), as "
            "most builds have it, rebuild and restart",
        )


def _refuse_another_configuration(host: Host, layout: Layout) -> None:
    """Raise NotReady where the daemon may run by another cf than the one that is looked at."""
    if newer_than_daemon(host, layout, layout.cf):
        raise NotReady(
            f"{host.name}: {layout.cf} is newer than the running daemon, which may have another access map or none",
            left=_UNTOUCHED,
            do="have the daemon read it first: reload sendmail",
        )
    if any(word.startswith("-C") for word in layout.daemon_argv):
        raise NotReady(
            f"{host.name}: the daemon runs by another configuration file: {' '.join(layout.daemon_argv)}",
            left=_UNTOUCHED,
            do="start it without -C",
        )


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
