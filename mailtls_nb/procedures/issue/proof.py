"""Proving 02: new connections from outside and from the host itself, as OpenSSL and the mail server's log see them.

``fails_when`` of a claim is filled only from what this very run saw.
"""

from __future__ import annotations

from dataclasses import replace

from cryptography import x509

from mailtls_nb.errors import NotReady
from mailtls_nb.observe.certificate_files import observe_certificate_files
from mailtls_nb.observe.maillog import mark_log
from mailtls_nb.observe.message import logged_handshake
from mailtls_nb.observe.openssl_verify import WRONG_NAME, openssl_verify
from mailtls_nb.observe.port25 import Presented, presented_on_port25
from mailtls_nb.pki.certificates import certificate_pem
from mailtls_nb.procedures.issue.observation import HostBefore
from mailtls_nb.procedures.issue.proof_by_mail import prove_by_mail
from mailtls_nb.procedures.issue.wish import IssueWish
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.sendmail.cf import smtp_listener
from mailtls_nb.verdict import Claim


def prove(context: Context, wish: IssueWish, before: HostBefore, certificate: x509.Certificate) -> tuple[Claim, ...]:
    """What is seen after the change, as claims; they are judged by the caller."""
    claims: tuple[Claim, ...] = ()
    if wish.roles != "client":
        claims += _as_server(context, wish, before, certificate)
    if wish.roles != "server":
        claims += _as_client(context, wish, before)
    if all(claim.holds for claim in claims) and wish.on_testbed:
        # No mail to a server that is not what it should be.
        claims += prove_by_mail(context, wish, before)
    return _with_counterparts(claims)


def port_claims(
    context: Context, wish: IssueWish, before: HostBefore, seen: Presented, serial: int
) -> tuple[Claim, ...]:
    """STARTTLS is offered, the serial on the port is the one expected, and the chain verifies to the trusted CA."""
    instrument = f"openssl s_client from {wish.probe_from or 'here'}"
    earlier = before.presented
    return (
        Claim(
            "STARTTLS is offered",
            "250-STARTTLS",
            "250-STARTTLS" if seen.starttls_offered else "not offered",
            "live",
            instrument,
            fails_when="" if earlier.starttls_offered else "before the change it was not offered",
        ),
        Claim(
            "the certificate on port 25 is the one installed",
            f"serial {serial:X}",
            f"serial {seen.serial:X}" if seen.serial else f"none ({seen.problem})",
            "live",
            instrument,
            fails_when="" if earlier.serial == serial else "before the change another one was shown, or none",
        ),
        *_chain_claims(context, wish, before, seen),
    )


def standing_claims(context: Context, wish: IssueWish, before: HostBefore) -> tuple[Claim, ...]:
    """The certificate in the file is in service: claims over what was observed, where nothing is to be changed."""
    certificate = before.files.certificate
    if certificate is None:
        raise NotReady("there is no certificate")
    claims: tuple[Claim, ...] = ()
    if wish.roles != "client":
        claims = port_claims(context, wish, before, before.presented, certificate.serial_number)
    return claims if wish.roles == "server" else claims + file_claims(context, wish)


def file_claims(context: Context, wish: IssueWish) -> tuple[Claim, ...]:
    """The installed certificate can serve a client: it verifies by the CA file beside it, and the key is its own."""
    host = context.host(wish.host)
    verified = openssl_verify(host, wish.certificate_path, trusted=wish.ca_certificate_path, purpose="sslclient")
    files = observe_certificate_files(host, wish.cert_dir, wish.certificate_path, wish.new_key_path)
    instrument = f"openssl on {wish.host}"
    return (
        Claim("the certificate verifies as a client's", "OK", verified, "inspection", instrument),
        Claim("the key beside it is its own", "yes", "yes" if files.key_matches else "no", "inspection", instrument),
    )


def _as_server(
    context: Context, wish: IssueWish, before: HostBefore, certificate: x509.Certificate
) -> tuple[Claim, ...]:
    mark = mark_log(context.host(wish.host), before.layout.log)
    seen = presented_on_port25(context.probe(wish.probe_from), wish.hostname, identify=True)
    return (
        *port_claims(context, wish, before, seen, certificate.serial_number),
        Claim(
            "a client without a certificate is not taken for verified",
            "verify=NO",
            logged_handshake(mark, seen.seen_as, "verify=NO"),
            "live",
            f"the mail log of {wish.host}, for the connection of {seen.seen_as or 'the probe'}",
            negative=True,
        ),
    )


def _chain_claims(context: Context, wish: IssueWish, before: HostBefore, seen: Presented) -> tuple[Claim, ...]:
    presented, trusted = context.folder / "presented.pem", context.folder / "trusted.pem"
    presented.write_bytes(certificate_pem(seen.chain))
    trusted.write_bytes(certificate_pem(before.signer.certificates))

    def verified_as(name: str) -> str:
        shown = str(presented)
        return openssl_verify(
            context.here, shown, trusted=str(trusted), purpose="sslserver", name=name, untrusted=shown
        )

    good, wrong = verified_as(wish.hostname), verified_as(WRONG_NAME)
    instrument = "openssl verify of the chain shown"
    return (
        Claim(
            f"the chain leads to the CA and is for {wish.hostname}",
            "OK",
            good,
            "live",
            instrument,
            fails_when="for another name the same command refused it" if wrong == "refused" else "",
        ),
        Claim(
            "the same chain is refused for another name",
            "refused",
            wrong,
            "live",
            instrument,
            negative=True,
            fails_when=f"for {wish.hostname} the same command said OK" if good == "OK" else "",
        ),
    )


def _as_client(context: Context, wish: IssueWish, before: HostBefore) -> tuple[Claim, ...]:
    """The host shows its certificate to its own server; where that speaks no TLS, the files are looked at."""
    host = context.host(wish.host)
    listener = smtp_listener(before.cf)
    mark = mark_log(host, before.layout.log)
    seen = presented_on_port25(
        host, listener.address, port=listener.port, client_certificate=wish.certificate_path, identify=True
    )
    if not seen.starttls_offered:
        return file_claims(context, wish)
    return (
        Claim(
            "the certificate is accepted from a client that shows it",
            "verify=OK",
            logged_handshake(mark, seen.seen_as, "verify=OK"),
            "live",
            f"the mail log of {wish.host}, for a connection from itself",
        ),
    )


def _with_counterparts(claims: tuple[Claim, ...]) -> tuple[Claim, ...]:
    """A claim about ``verify=`` in a log can fail if another connection of this run was logged with another word."""
    words = {claim.observed for claim in claims if claim.observed.startswith("verify=")}
    return tuple(
        replace(claim, fails_when=f"another connection of this run was logged {sorted(words - {claim.expected})[0]}")
        if claim.expected.startswith("verify=") and not claim.fails_when and words - {claim.expected}
        else claim
        for claim in claims
    )
