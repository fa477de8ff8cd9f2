"""Looking at the host, at what it trusts, and at the partner's port 25 for 03; changes nothing."""

from __future__ import annotations

import secrets

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailtls_nb.errors import BadParameter
from mailtls_nb.hosts.address import HostAddress
from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.maillog import mark_log
from mailtls_nb.observe.message import send_message, verified_by_receiver, verified_by_sender
from mailtls_nb.observe.openssl_verify import verified_by
from mailtls_nb.observe.port25 import Presented, presented_on_port25
from mailtls_nb.pki.certificates import certificate_pem
from mailtls_nb.pki.partner_ca import check_beside
from mailtls_nb.procedures import host_look
from mailtls_nb.procedures.host_look import HostLook
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.procedures.trust.observation import Offered, Seen, TrustBefore
from mailtls_nb.procedures.trust.wish import TrustWish
from mailtls_nb.testbed.testbed import DOMAIN, GUESTS, HOSTS

# Of the testbed's hosts and guests: Postfix and Exim have a program of that name too.
_SENDMAIL = "/usr/sbin/sendmail"


def look(context: Context, wish: TrustWish, offered: Offered) -> TrustBefore:
    """Everything that the plan and its proof need to know. Raises NotReady and what the transports raise."""
    host = look_at_host(context, wish, offered)
    seen = see(context, wish, offered, host, with_mail=not host.layout.interrupted)
    return TrustBefore(context.now(), offered, host, seen, _leads(context, seen.presented, offered))


def look_at_host(context: Context, wish: TrustWish, offered: Offered) -> HostLook:
    """The host's configuration and whom it trusts; raises CertificateRefused for a CA that cannot stand beside them."""
    found = host_look.look_at_host(context.host(wish.host), offered.certificates)
    if wish.partner == found.layout.canonical_name.lower():
        raise BadParameter("partner", f"{wish.partner} is {wish.host} itself", do="name the other organisation's host")
    if wish.trusts:
        check_beside(offered.certificates, trusted=found.trusted, own=found.store.own, where=wish.partner_ca)
    return found


def see(context: Context, wish: TrustWish, offered: Offered, look: HostLook, *, with_mail: bool) -> Seen:
    """What the partner and the host are to each other now: a connection, and on the testbed a message each way."""
    host = context.host(wish.host)
    ca_file, ca_path = (look.ca_file, look.ca_path) if look.verifies else ("", "")

    def in_store(certificate: x509.Certificate, *, itself: bool) -> str:
        pem = certificate.public_bytes(Encoding.PEM).decode()
        # Of two certificates with one name and key, openssl takes the second for itself only with -partial_chain.
        return verified_by(host, [pem], trusted_file=ca_file, trusted_path=ca_path, by_intermediate=itself)

    answers = [in_store(certificate, itself=True) for certificate in offered.certificates]
    presented = presented_on_port25(host, wish.partner, trusted_file=ca_file, trusted_path=ca_path)
    as_client, as_server = _mail(context, wish, look) if with_mail and presented.connected else ("", "")
    return Seen(
        presented=presented,
        in_store=next((answer for answer in answers if answer != "OK"), "OK"),
        own_in_store=in_store(look.store.own[0], itself=False) if look.store.own else "",
        as_client=as_client,
        as_server=as_server,
    )


def partner_host(context: Context, wish: TrustWish) -> Host | None:
    """The partner's own host, where this is the testbed and mail may be sent from it."""
    name, _, domain = wish.partner.partition(".")
    if not wish.is_testbed or domain != DOMAIN or name not in (*HOSTS, *GUESTS):
        return None
    return context.host(HostAddress("testbed", name))


def _mail(context: Context, wish: TrustWish, look: HostLook) -> tuple[str, str]:
    """``verify=WORD`` for a message to the partner, and for one from it, as the host's sendmail logs them."""
    host, partner = context.host(wish.host), partner_host(context, wish)
    if partner is None:
        return "", ""
    mark = mark_log(host, look.layout.log)
    there = send_message(host, look.layout.sendmail, recipient=f"root@{wish.partner}", token=secrets.token_hex(8))
    if not look.is_server:
        return verified_by_sender(mark, there), ""
    here = f"root@{look.layout.canonical_name}"
    back = send_message(partner, _SENDMAIL, recipient=here, token=secrets.token_hex(8))
    return verified_by_sender(mark, there), verified_by_receiver(mark, back)


def _leads(context: Context, presented: Presented, offered: Offered) -> str:
    """Whether the chain leads to the CA offered, and to no other: OpenSSL's word, here."""
    if not presented.chain:
        return ""
    trusted = context.folder / "offered.pem"
    trusted.write_bytes(offered.pem)
    (context.folder / "presented.pem").write_bytes(certificate_pem(presented.chain))
    chain = [certificate.public_bytes(Encoding.PEM).decode() for certificate in presented.chain]
    # By an intermediate too: its root may be trusted on the host already.
    return verified_by(context.here, chain, trusted_file=str(trusted), purpose="sslserver", by_intermediate=True)
