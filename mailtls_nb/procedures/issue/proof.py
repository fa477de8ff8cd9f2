"""Proving 02 from outside: new connections from the probe, and on the testbed mail across, as the servers log them."""

from __future__ import annotations

import secrets

from cryptography import x509

from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.layout import observe_layout
from mailtls_nb.observe.maillog import LogMark, mark_log
from mailtls_nb.observe.message import handshake_verdict, send_message, verified_by_receiver, verified_by_sender
from mailtls_nb.observe.port25 import Presented, presented_on_port25
from mailtls_nb.procedures.issue.look import certificate_pem, probe_host
from mailtls_nb.procedures.issue.observation import HostBefore
from mailtls_nb.procedures.issue.wish import IssueWish
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.sendmail.cf import smtp_listener
from mailtls_nb.testbed.witness import witness
from mailtls_nb.verdict import Claim

# RFC 2606: a name that is nobody's.
_WRONG_NAME = "another-name.invalid"
_TIMEOUT_S = 60


def prove(context: Context, wish: IssueWish, before: HostBefore, certificate: x509.Certificate) -> tuple[Claim, ...]:
    """What is seen after the change, as claims; they are judged by the caller."""
    claims: tuple[Claim, ...] = ()
    if wish.roles != "client":
        claims += _as_server(context, wish, before, certificate)
        if not all(claim.holds for claim in claims):
            return claims  # no mail to a server that is not what it should be
    if wish.on_testbed:
        return claims + _by_mail(context, wish, before)
    if wish.roles != "server":
        claims += (_as_client(context, wish, before),)
    return claims


def port_claims(
    context: Context, wish: IssueWish, before: HostBefore, seen: Presented, serial: int
) -> tuple[Claim, ...]:
    """STARTTLS is offered, the serial on the port is the one expected, and the chain verifies to the trusted CA."""
    probe = wish.probe_from or "here"
    instrument = f"openssl s_client from {probe}"
    was = "STARTTLS was not offered" if not before.presented.starttls_offered else "another certificate was shown"
    can_fail = f"before the change {was}" if before.presented.serial != serial else ""
    return (
        Claim(
            "STARTTLS is offered",
            "250-STARTTLS",
            "250-STARTTLS" if seen.starttls_offered else "not offered",
            "live",
            instrument,
            fails_when=can_fail,
        ),
        Claim(
            "the certificate on port 25 is the one installed",
            f"serial {serial:X}",
            f"serial {seen.serial:X}" if seen.serial else f"none ({seen.problem})",
            "live",
            instrument,
            fails_when=can_fail,
        ),
        *_chain_claims(context, wish, before, seen),
    )


def _as_server(
    context: Context, wish: IssueWish, before: HostBefore, certificate: x509.Certificate
) -> tuple[Claim, ...]:
    mark = mark_log(context.host(wish.host), before.layout.log)
    seen = presented_on_port25(probe_host(context, wish), wish.hostname, identify=True)
    logged = "no session to look for"
    if seen.seen_as:
        logged = mark.wait_for(lambda lines: handshake_verdict(lines, "server", seen.seen_as))
    return (
        *port_claims(context, wish, before, seen, certificate.serial_number),
        Claim(
            "a client without a certificate is not taken for verified",
            "verify=NO",
            logged,
            "live",
            f"the mail log of {wish.host}, for the connection of {seen.seen_as or 'the probe'}",
            negative=True,
            fails_when="a client with a certificate of this CA is logged verify=OK",
        ),
    )


def _chain_claims(context: Context, wish: IssueWish, before: HostBefore, seen: Presented) -> tuple[Claim, ...]:
    presented, trusted = context.folder / "presented.pem", context.folder / "trusted.pem"
    presented.write_bytes(certificate_pem(seen.chain))
    trusted.write_bytes(certificate_pem(before.signer.certificates))

    def verified_as(name: str) -> str:
        checks = ("-partial_chain", "-purpose", "sslserver", "-verify_hostname", name)
        argv = ("openssl", "verify", *checks, "-CAfile", str(trusted), "-untrusted", str(presented), str(presented))
        return "OK" if context.here.run(argv, timeout_s=_TIMEOUT_S).status == 0 else "refused"

    instrument = "openssl verify of the chain shown"
    return (
        Claim(
            f"the chain leads to the CA and is for {wish.hostname}",
            "OK",
            verified_as(wish.hostname),
            "live",
            instrument,
        ),
        Claim(
            "the same chain is refused for another name",
            "refused",
            verified_as(_WRONG_NAME),
            "live",
            instrument,
            negative=True,
            fails_when=f"for {wish.hostname} the same command says OK",
        ),
    )


def _by_mail(context: Context, wish: IssueWish, before: HostBefore) -> tuple[Claim, ...]:
    """Mail in both directions between the host and the probe, which verifies by our CA for as long as this lasts."""
    host, other = context.host(wish.host), probe_host(context, wish)
    other_layout = observe_layout(other)
    claims: tuple[Claim, ...] = ()
    with witness(other, certificate_pem(before.signer.certificates)):
        mark = mark_log(other, other_layout.log)
        if wish.roles != "server":
            claims += (_sent(host, before.layout.sendmail, other, other_layout.canonical_name, mark),)
        if wish.roles != "client":
            claims += (_received(other, other_layout.sendmail, wish, mark),)
    return claims


def _sent(host: Host, sendmail: str, other: Host, other_name: str, mark: LogMark) -> Claim:
    message = send_message(host, sendmail, recipient=f"root@{other_name}", token=secrets.token_hex(8))
    return Claim(
        f"a message from {host.name} arrives verified at {other.name}",
        "verify=OK",
        verified_by_receiver(mark, message),
        "live",
        f"the mail log of {other.name}, the receiving side",
        fails_when="a client without a certificate is logged verify=NO",
    )


def _received(other: Host, sendmail: str, wish: IssueWish, mark: LogMark) -> Claim:
    message = send_message(other, sendmail, recipient=f"root@{wish.hostname}", token=secrets.token_hex(8))
    return Claim(
        f"a message to {wish.hostname} leaves {other.name} over a verified connection",
        "verify=OK",
        verified_by_sender(mark, message),
        "live",
        f"the mail log of {other.name}, the sending side",
        fails_when="the chain is refused for another name",
    )


def client_claim(context: Context, wish: IssueWish) -> Claim:
    """The installed certificate verifies as a client's by the CA file beside it, as OpenSSL on the host sees it."""
    argv = ("openssl", "verify", "-partial_chain", "-purpose", "sslclient", "-CAfile", wish.ca_certificate_path)
    verified = context.host(wish.host).run((*argv, wish.certificate_path), timeout_s=_TIMEOUT_S)
    observed = "OK" if verified.status == 0 else "refused"
    return Claim("the certificate verifies as a client's", "OK", observed, "live", f"openssl verify on {wish.host}")


def _as_client(context: Context, wish: IssueWish, before: HostBefore) -> Claim:
    """On a real host nothing is delivered: the host shows its certificate to its own server, if that speaks TLS."""
    host = context.host(wish.host)
    if "confSERVER_CERT" not in before.wished_settings(wish):
        return client_claim(context, wish)
    listener = smtp_listener(before.cf)
    mark = mark_log(host, before.layout.log)
    seen = presented_on_port25(
        host, listener.address, port=listener.port, client_certificate=wish.certificate_path, identify=True
    )
    return Claim(
        "the certificate is accepted from a client that shows it",
        "verify=OK",
        mark.wait_for(lambda lines: handshake_verdict(lines, "server", seen.seen_as)),
        "live",
        f"the mail log of {wish.host}, for a connection from itself",
        fails_when="a client without a certificate is logged verify=NO",
    )
