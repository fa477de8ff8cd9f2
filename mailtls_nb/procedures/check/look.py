"""Looking at a host for 07; changes nothing."""

from __future__ import annotations

import ipaddress

from mailtls_nb.errors import CommandTimedOut, NotReady
from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.access_map import observe_access_map
from mailtls_nb.observe.certificate_files import file_status
from mailtls_nb.observe.clock import observe_clock
from mailtls_nb.observe.layout import observe_layout
from mailtls_nb.observe.names import Address, addresses_of, reverse_names
from mailtls_nb.observe.needed_file import needed_file
from mailtls_nb.observe.own_certificate import observe_own_certificates
from mailtls_nb.observe.port25 import greeting_on_port25, presented_on_port25
from mailtls_nb.observe.trust_store import observe_trust_store
from mailtls_nb.procedures.check.ca_look import look_at_cas
from mailtls_nb.procedures.check.observation import AccessLook, CheckBefore
from mailtls_nb.procedures.check.wish import CheckWish
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.sendmail.access.entries import access_entries, address_names
from mailtls_nb.sendmail.access.lookup_names import never_looked_up
from mailtls_nb.sendmail.cf import access_database, options

# Each costs a look-up on the host, which takes seconds where a name server does not answer.
_MOST_NAMES = 100


def look(context: Context, wish: CheckWish) -> CheckBefore:
    """Observe the host, its port 25, the clocks, and the CA directory where one is named.

    Raises NotReady and what the transports raise.
    """
    cas = look_at_cas(context, wish, context.now())
    host = context.host(wish.host)
    layout = observe_layout(host)
    cf = needed_file(host, layout.cf)
    settings = options(cf)
    probe = context.probe(wish.probe_from)
    clocks = tuple(observe_clock(machine, context.now) for machine in ((host, probe) if wish.probe_from else (host,)))
    presented = presented_on_port25(probe, layout.canonical_name)
    turned_away = presented.connected and not presented.starttls_offered
    return CheckBefore(
        at=context.now(),
        layout=layout,
        options=settings,
        own=observe_own_certificates(host, settings),
        store=observe_trust_store(
            host,
            ca_path=settings.get("CACertPath", "").rstrip("/") or layout.cert_dir,
            ca_file=settings.get("CACertFile", ""),
            crl_path=settings.get("CRLPath", "").rstrip("/"),
            crl_file=settings.get("CRLFile", ""),
        ),
        presented=presented,
        greeting=greeting_on_port25(probe, layout.canonical_name) if turned_away else "",
        access=_access(host, cf),
        clocks=clocks,
        cas=cas,
    )


def _access(host: Host, cf: bytes) -> AccessLook | None:
    database = access_database(cf)
    if database is None or not database.made_by_makemap:
        return None
    text = host.read(database.text)
    in_service = file_status(host, database.database) is not None
    if text is None:
        return AccessLook(database, None, in_service=in_service)
    addresses, names = _names(host, text)
    try:
        is_current, problem = observe_access_map(host, database).is_current, ""
    except NotReady as error:
        is_current, problem = False, error.what
    return AccessLook(database, text, problem, in_service, is_current, addresses, names)


def _names(host: Host, text: bytes) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """The addresses of the names that have rules, and the reverse names of all addresses, as sendmail writes them."""
    every = (entry.name.lower() for entry in access_entries(text) if entry.tag == "TLS_Clt" and entry.name)
    rules = [name for name in dict.fromkeys(every) if not never_looked_up("TLS_Clt", name)]
    asked: set[Address] = {address for name in rules if (address := _address(name)) is not None}
    addresses: dict[str, tuple[str, ...]] = {}
    for name in [name for name in rules if _is_host_name(name)][:_MOST_NAMES]:
        try:
            found = addresses_of(host, name)
        except CommandTimedOut:
            continue
        asked |= set(found)
        addresses[name] = address_names(",".join(map(str, found)))
    try:
        reverse = reverse_names(host, tuple(sorted(asked, key=lambda a: (a.version, int(a))))) if asked else {}
    except CommandTimedOut:
        reverse = {}
    return addresses, {address_names(str(address))[0]: name for address, name in reverse.items()}


def _is_host_name(name: str) -> bool:
    # A rule for a.test is one for all hosts below it; what address that name itself has (its web server's, as a rule)
    # says nothing about them.
    return name.count(".") > 1 and name[0].isalnum() and not name.startswith("ipv6:") and not name[-1].isdigit()


def _address(name: str) -> Address | None:
    """A name in the access map as the address it is; None for a host's name or a prefix."""
    try:
        return ipaddress.ip_address(name.removeprefix("ipv6:"))
    except ValueError:
        return None
