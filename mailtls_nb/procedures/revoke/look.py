"""Looking at the CA directory and at the hosts for 05; changes nothing there."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from datetime import datetime

from mailtls_nb.errors import CertificateRefused, NotReady
from mailtls_nb.hosts.address import HostAddress
from mailtls_nb.observe.clock import check_clocks
from mailtls_nb.observe.daemon_age import newer_than_daemon
from mailtls_nb.observe.own_certificate import observe_own_certificates
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import serial_text
from mailtls_nb.pki.inspection import directories_in_use
from mailtls_nb.pki.revoking import checked_crl, newest_crl
from mailtls_nb.pki.succession import signing_directory
from mailtls_nb.pki.survey import Survey, survey
from mailtls_nb.procedures.host_look import look_at_host
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.procedures.revoke.observation import CABefore, CrlHost, OtherCA, RevokeBefore
from mailtls_nb.procedures.revoke.wish import RevokeWish
from mailtls_nb.procedures.signing_ca import open_ready_ca
from mailtls_nb.testbed.shown_certificates import lost_key

_UNTOUCHED = "nothing was touched"
_MOST_NAMED = 5


def look(context: Context, wish: RevokeWish) -> RevokeBefore:
    """Everything that the plan and its proof need to know. Raises NotReady and what the transports raise."""
    directory = open_ca(context, wish)
    check_clocks((context.host(address) for address in wish.crl_hosts), context.now)
    lost = lost_key(context.testbed(), directory) if wish.shows_lost_key else None
    ca = _look_at_ca(context, wish, directory)
    hosts = tuple(look_at_crl_host(context, address, directory) for address in wish.crl_hosts)
    return RevokeBefore(context.now(), ca, hosts, lost)


def open_ca(context: Context, wish: RevokeWish) -> CADirectory:
    """The CA, with a passphrase that opens its key; raises NotReady, BadParameter, CADirectoryError."""
    path = wish.ca.named(context.testbed)
    if path.is_dir():
        # As long as hosts trust the old CA it needs a CRL; once it is withdrawn its successor does.
        path = signing_directory(path, once="withdrawn")
    do = "give the directory of the CA in ca_dir"
    directory = open_ready_ca(context, wish.ca, path, do=do, revokes=wish.revokes)
    end = directory.ca_certificate.not_valid_after_utc
    if context.now() > end:
        raise NotReady(
            f"the CA {directory.name} ended on {end:%Y-%m-%d %H:%M:%S} UTC: nobody verifies its certificates any more, "
            "and no CRL of it changes that",
            left=_UNTOUCHED,
            do="check this machine's clock; if it is right, replace the CA (09-replace-ca)",
        )
    return directory


def _look_at_ca(context: Context, wish: RevokeWish, directory: CADirectory) -> CABefore:
    now = context.now()
    found = survey(directory, serials=wish.serials, hostname=wish.hostname if wish.revokes else "", now=now)
    others = _look_at_others(wish, directory, found, now)
    _refuse_unknown(wish, directory, found, others)
    _refuse_in_service_elsewhere(wish, directory, others, now)
    problem = ""
    try:
        checked_crl(directory, now=now)
    except CertificateRefused as error:
        problem = "; ".join(error.problems)
    return CABefore(directory, found, newest_crl(directory), problem, others)


def _look_at_others(wish: RevokeWish, directory: CADirectory, found: Survey, now: datetime) -> tuple[OtherCA, ...]:
    """The other CAs, where one of them may have issued what is asked for: what is revoked here says nothing of it."""
    missing = _missing(wish, found)
    if not wish.revokes or not (wish.hostname or missing):
        return ()
    paths = directories_in_use(directory.path)
    signs = signing_directory(paths[0])
    others = (CADirectory.open(path) for path in paths if path != directory.path)
    return tuple(
        OtherCA(other, survey(other, serials=missing, hostname=wish.hostname, now=now), signs=other.path == signs)
        for other in others
    )


def _missing(wish: RevokeWish, found: Survey) -> list[int]:
    there = {row.serial for row in found.asked}
    return [serial for serial in wish.serials if serial not in there]


def _refuse_unknown(wish: RevokeWish, directory: CADirectory, found: Survey, others: Sequence[OtherCA]) -> None:
    nor = "".join(f", nor has {other.directory.name}, in {other.directory.path}" for other in others)
    elsewhere = next((other.directory for other in others if other.found.asked), None)
    instead = f"{elsewhere.name} has: run this with ca_dir {elsewhere.path}" if elsewhere else ""
    if missing := [serial_text(serial) for serial in _missing(wish, found)]:
        raise NotReady(
            f"{directory.name} has issued no certificate with the serial {', '.join(missing)} (as {directory.path} "
            f"tells){'' if elsewhere else nor}",
            left=_UNTOUCHED,
            do=instead
            or "compare with `openssl x509 -noout -serial -issuer` of the certificate: another CA's is revoked there",
        )
    if wish.revokes and wish.hostname and not found.asked:
        names = {row.subject.rpartition("/CN=")[2].partition("/")[0].lower() for row in directory.rows()}
        alike = difflib.get_close_matches(wish.hostname, names, n=1)
        raise NotReady(
            f"{directory.name} has issued no certificate that names {wish.hostname}{'' if elsewhere else nor}",
            left=_UNTOUCHED,
            do=instead or (f"did you mean {alike[0]}?" if alike else "see the names in the index.txt of ca_dir"),
        )


def _refuse_in_service_elsewhere(
    wish: RevokeWish, directory: CADirectory, others: Sequence[OtherCA], now: datetime
) -> None:
    """Raise NotReady where the host has valid certificates of the CA that signs now: one of these is in service."""
    for other in others:
        if other.signs and (rows := other.valid(now)):
            serials = ", ".join(serial_text(row.serial) for row in rows[:_MOST_NAMED])
            raise NotReady(
                f"{other.directory.name} signs now, and {wish.hostname} has valid certificates of it ({serials}): to "
                f"revoke those of {directory.name} would leave it as trusted as before",
                left=_UNTOUCHED,
                do=f"run this with ca_dir {other.directory.path} first, then again with {directory.path}; to revoke "
                f"nothing but what {directory.name} has issued, give the serials",
            )


def look_at_crl_host(context: Context, address: HostAddress, directory: CADirectory) -> CrlHost:
    """One host that is to have the CRL; raises NotReady where it would be of no use there."""
    host = context.host(address)
    found = look_at_host(host, (directory.ca_certificate,))
    if not found.layout.interrupted and directory.ca_certificate not in found.trusted:
        raise NotReady(
            f"sendmail on {address} does not trust the CA {directory.name}, so it would ignore its CRL, and verifies "
            "none of its certificates anyway",
            left=_UNTOUCHED,
            do="take it out of crl_hosts, or have it trust the CA first (02-issue-certificate, 03-trust-partner)",
        )
    own = {own.path: own for own in observe_own_certificates(host, found.options).values()}
    crl_file = found.options.get("CRLFile", "")
    is_unread = bool(crl_file) and newer_than_daemon(host, found.layout, crl_file)
    return CrlHost(address, found, tuple(own.values()), is_unread)
