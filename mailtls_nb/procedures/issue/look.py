"""Looking at the host, its port 25 and the CA for 02; changes nothing."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from mailtls_nb.errors import BadParameter, CertificateRefused, NotReady
from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.certificate_files import CertificateFiles, file_status, observe_certificate_files
from mailtls_nb.observe.clock import check_clocks
from mailtls_nb.observe.layout import observe_layout
from mailtls_nb.observe.maillog import mark_log
from mailtls_nb.observe.needed_file import needed_file
from mailtls_nb.observe.port25 import Presented, greeting_on_port25, presented_on_port25
from mailtls_nb.pki.chain import CertificateChain, check_external
from mailtls_nb.pki.cross_signing import transition
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.profiles import check_names, check_valid_days
from mailtls_nb.pki.recovery import rows_of_serial
from mailtls_nb.procedures.issue.cure import look_for_cures
from mailtls_nb.procedures.issue.observation import HostBefore, SignerBefore
from mailtls_nb.procedures.issue.wish import IssueWish
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.procedures.signing_ca import open_signing_ca, refuse_clock_behind_ca
from mailtls_nb.sendmail.cf import options
from mailtls_nb.sendmail.layout import Layout

_LOG_WAIT_S = 5.0
_CERTIFICATE_BLOCKS = "/-----BEGIN [A-Z0-9 ]*CERTIFICATE-----/,/-----END [A-Z0-9 ]*CERTIFICATE-----/p"


def open_ca(context: Context, wish: IssueWish) -> CADirectory:
    """The CA that signs, checked to be able to sign what is wished; raises BadParameter, NotReady, CADirectoryError."""
    if wish.ca is None:
        raise NotReady("this way of the runbook signs nothing", left="nothing was touched")
    directory = open_signing_ca(context, wish.ca)
    refuse_clock_behind_ca(context, directory)
    check_names(wish.names, directory.ca_certificate)
    now = context.now()
    _refuse_ca_at_its_end(wish, directory, now)
    check_valid_days(wish.days_from(now), now=now, issuer=directory.ca_certificate)
    # A wrong passphrase is found now, not after the host was touched.
    directory.signing_key(context.secret(wish.ca.passphrase))
    return directory


def _refuse_ca_at_its_end(wish: IssueWish, directory: CADirectory, now: datetime) -> None:
    """Raise NotReady where what is to end with the CA would not last a day: no parameter is to blame for that."""
    if wish.ca_end is not None and wish.days_from(now) < 1:
        raise NotReady(
            f"the CA {directory.name} ends on {wish.ca_end:%Y-%m-%d %H:%M:%S} UTC: nothing can be issued any more",
            left="nothing was signed",
            do="replace the CA (09-replace-ca)",
        )


def look(context: Context, wish: IssueWish) -> HostBefore:
    """Observe the host, its port 25 from the probe, and who signs."""
    directory = open_ca(context, wish) if wish.ca else None
    host = context.host(wish.host)
    layout = observe_layout(host)
    if wish.way == "install":
        check_clocks((host, context.probe(wish.probe_from)) if wish.probe_from else (host,), context.now)
    files = observe_certificate_files(host, wish.cert_dir, wish.certificate_path, wish.new_key_path)
    mc, cf = needed_file(host, layout.mc), needed_file(host, layout.cf)
    mc_status = file_status(host, layout.mc)
    if mc_status is None:
        raise NotReady(f"{host.name}: {layout.mc} cannot be looked at", left="nothing was touched")
    chain = _sent_back(context, wish, files) if wish.way == "external" else None
    presented, logged = _probe(context, wish, host, layout, cf)
    return HostBefore(
        at=context.now(),
        layout=layout,
        files=files,
        mc=mc,
        mc_status=mc_status,
        cf=cf,
        trusted_elsewhere=_trusted_elsewhere(host, wish, options(cf).get("CACertFile", "")),
        presented=presented,
        logged=logged,
        signer=_signer(context, wish, directory, chain, files),
        wanted=chain.certificate if chain else None,
    )


def _probe(context: Context, wish: IssueWish, host: Host, layout: Layout, cf: bytes) -> tuple[Presented, bool]:
    """What port 25 shows, and whether the host's log tells of that connection: both are what the proof will rest on."""
    probe = context.probe(wish.probe_from)
    if layout.interrupted or wish.way == "request":
        return presented_on_port25(probe, wish.hostname), True
    mark = mark_log(host, layout.log)
    presented = presented_on_port25(probe, wish.hostname)
    if not presented.connected:
        return presented, False
    if not presented.starttls_offered and "ServerCertFile" in options(cf):
        _refuse_if_turned_away(wish, greeting_on_port25(probe, wish.hostname))
    return presented, mark.wait_for(lambda lines: "logged" if lines else "", wait_s=_LOG_WAIT_S) == "logged"


def _refuse_if_turned_away(wish: IssueWish, greeting: str) -> None:
    """Raise NotReady where the server speaks no TLS with the probe because it does not speak with it at all."""
    if greeting.startswith(("4", "5")):
        raise NotReady(
            f"{wish.hostname} turns {wish.probe_from or 'this machine'} away: {greeting}",
            left="nothing was touched",
            do="wait until its connection limits allow it again, exempt the probe in its access map "
            "(ClientRate:ADDRESS 0, ClientConn:ADDRESS 0), or name another host in probe_from",
        )


def _trusted_elsewhere(host: Host, wish: IssueWish, ca_file: str) -> bytes:
    if ca_file in ("", wish.ca_certificate_path):
        return b""
    # Only the certificates: such a file may hold a key as well, and that stays where it is.
    return host.run(("sed", "-n", _CERTIFICATE_BLOCKS, ca_file), timeout_s=30).stdout


def _signer(
    context: Context,
    wish: IssueWish,
    directory: CADirectory | None,
    chain: CertificateChain | None,
    files: CertificateFiles,
) -> SignerBefore:
    if chain is not None:
        return SignerBefore(chain.issuers, "")
    if directory is None or wish.ca is None:
        return SignerBefore((), "")
    status = ""
    if files.certificate is not None:
        serial = files.certificate.serial_number
        status = next((row.status for row in rows_of_serial(directory.layout, serial)), "")
    cures, problems = look_for_cures(context, wish, directory)
    remarks = (*directory.remarks, *problems, *wish.ca.remarks())
    change = transition(directory, now=context.now())
    return SignerBefore((directory.ca_certificate,), status, remarks, cures, change)


def _sent_back(context: Context, wish: IssueWish, files: CertificateFiles) -> CertificateChain:
    try:
        data = Path(wish.external_certificate).read_bytes()
    except OSError as error:
        raise BadParameter(
            "external_certificate",
            f"{wish.external_certificate}: {error.strerror}",
            do="name a file that can be read here",
        ) from error

    def checked(public_key: CertificatePublicKeyTypes) -> CertificateChain:
        return check_external(
            data,
            public_key=public_key,
            names=wish.names,
            roles=wish.roles,
            now=context.now(),
            where=wish.external_certificate,
        )

    if files.new_public_key is not None:
        return checked(_certifiable(files.new_public_key))
    if files.certificate is None:
        raise NotReady(
            f"no key waits at {wish.new_key_path} on {wish.host}",
            left="nothing was touched",
            do="run with external_certificate=request first: it makes the key and the request for the other CA",
        )
    try:
        return checked(files.certificate.public_key())
    except CertificateRefused as error:
        raise CertificateRefused(
            error.what,
            (f"no other key waits at {wish.new_key_path} on {wish.host}",),
            left="nothing was touched",
            do="run with external_certificate=request first, and have its request signed",
        ) from error


def _certifiable(key: object) -> CertificatePublicKeyTypes:
    # Every kind of key that openssl prints can be certified, except key agreement keys, which no request can carry.
    return key  # type: ignore[return-value]
