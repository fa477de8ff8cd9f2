"""Proving 09: whom a host's sendmail trusts now, and that its own certificate and mail are verified as before.

``fails_when`` of a claim is filled only from what this very run saw.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailtls_nb.observe.maillog import mark_log
from mailtls_nb.observe.message import logged_client
from mailtls_nb.observe.openssl_verify import openssl_verify, verified_by
from mailtls_nb.observe.own_certificate import OwnCertificate
from mailtls_nb.observe.port25 import presented_on_port25
from mailtls_nb.pki.certificates import certificate_pem, is_issued_by
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.procedures.issue.observation import purposes
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.procedures.replace.observation import OurHost, ReplaceBefore
from mailtls_nb.procedures.replace.wish import ReplaceWish
from mailtls_nb.sendmail.cf import smtp_listener
from mailtls_nb.testbed.shown_certificates import proof_certificate, shown_by
from mailtls_nb.verdict import Claim

_OK, _FAIL = "verify=OK", "verify=FAIL"


@dataclass(frozen=True)
class Seen:
    """One host at one moment.

    ``old`` and ``new`` say of each CA whether the host's OpenSSL takes it for trusted (OK, or why not); ``own`` the
    same of the host's own certificate. ``by_old`` and ``by_new`` are the words in its mail log for clients with a
    certificate of each CA (on the testbed; empty: not tried), ``by_own`` for its own, shown to itself.
    """

    old: str
    new: str
    own: str
    by_old: str = ""
    by_new: str = ""
    by_own: str = ""


def see(context: Context, wish: ReplaceWish, before: ReplaceBefore, at: OurHost, *, is_before: bool = False) -> Seen:
    """Look at one host as it is now: ``at`` is what was read of it a moment ago, ``is_before`` the change."""
    host = context.host(at.address)
    ca_path = at.look.ca_path if at.look.verifies else ""

    def trusted(certificate: x509.Certificate | None, *, itself: bool) -> str:
        if certificate is None:
            return "not made yet"
        pem = certificate.public_bytes(Encoding.PEM).decode()
        return verified_by(host, [pem], trusted_file=at.look.ca_file, trusted_path=ca_path, by_intermediate=itself)

    own = _of_ours(before, at)
    new = before.new.ca_certificate if before.new else None
    return Seen(
        old=trusted(before.old.ca_certificate, itself=True),
        new=trusted(new, itself=True),
        own=trusted(own.certificate, itself=False) if own else "",
        # Only of the CA that the stage is about: each connection takes some seconds.
        by_old=_by_client_of(context, wish, before.old, at) if wish.stage == "withdraw" else "",
        by_new=_by_client_of(context, wish, before.new, at) if wish.stage in ("both", "cancel") else "",
        by_own="" if is_before else _by_itself(context, before, at),
    )


def claims(wish: ReplaceWish, before: ReplaceBefore, where: str, after: Seen, earlier: Seen | None) -> Iterator[Claim]:
    """What is seen of a host ``after``; ``earlier`` is what was seen before the change, None where there was none."""
    instrument = f"openssl verify on {where}, by CACertFile and CACertPath"
    for name, which, ca in (("old", "the old CA", before.old), ("new", "the new CA", before.new)):
        if ca is None:
            continue
        wanted = _is_trusted(wish, name)
        answer, was = getattr(after, name), getattr(earlier, name) if earlier else ""
        expected = "OK" if wanted else "refused"
        observed = "OK" if answer == "OK" else "refused" if not wanted else answer
        yield Claim(
            f"{which} is {'one' if wanted else 'none'} that {where} trusts",
            expected,
            observed,
            "inspection",
            instrument,
            negative=not wanted,
            fails_when=f"before the change: {was}" if was and (was == "OK") is not wanted else "",
        )
        yield from _client_claim(where, which, wanted, getattr(after, f"by_{name}"), earlier, name)
    if after.own:
        yield Claim(f"the certificate that {where} shows verifies there", "OK", after.own, "inspection", instrument)
    if after.by_own:
        yield Claim(
            f"{where} takes its own certificate for verified",
            _OK,
            after.by_own,
            "live",
            f"the mail log of {where}, for a connection from itself",
        )


def cross_claims(context: Context, before: ReplaceBefore, at: OurHost, wish: ReplaceWish) -> Iterator[Claim]:
    """Who trusts only the old CA verifies what the host shows now, by the cross-signed certificate sent along."""
    name = at.look.layout.canonical_name
    shown_path = at.look.options.get("ServerCertFile", "")
    server = next((own.certificate for own in at.own if own.path == shown_path), None)
    if before.cross is None or before.new is None or server is None:
        return
    if not is_issued_by(server, before.new.ca_certificate):
        # A certificate of another CA, a public one perhaps: nothing about it changes.
        return
    seen = presented_on_port25(context.probe(wish.probe_from), name)
    shown, leaf, trusted = (context.folder / f"{what}.pem" for what in ("sent", "sent-leaf", "old-ca"))
    shown.write_bytes(certificate_pem(seen.chain))
    leaf.write_bytes(certificate_pem(seen.chain[:1] or (server,)))
    trusted.write_bytes(certificate_pem((before.old.ca_certificate,)))

    def verified(untrusted: str) -> str:
        return openssl_verify(
            context.here, str(leaf), trusted=str(trusted), purpose="sslserver", name=name, untrusted=untrusted
        )

    alone = verified(str(leaf))
    yield Claim(
        f"who trusts only the old CA verifies what {at.where} sends now",
        "OK",
        verified(str(shown)) if seen.chain else f"nothing is sent ({seen.problem})",
        "live",
        "openssl verify of the chain sent, by the old CA",
        fails_when="for the certificate without what is sent along the same command refused it"
        if alone == "refused"
        else "",
    )


def _is_trusted(wish: ReplaceWish, which: str) -> bool:
    """Whether the stage leaves this CA trusted."""
    return not (wish.stage == "withdraw" and which == "old") and not (wish.stage == "cancel" and which == "new")


def _client_claim(where: str, which: str, wanted: bool, word: str, earlier: Seen | None, name: str) -> Iterator[Claim]:
    if not word:
        return
    expected = _OK if wanted else _FAIL
    was = getattr(earlier, f"by_{name}") if earlier else ""
    yield Claim(
        f"a client with a certificate of {which} at {where}",
        expected,
        word,
        "live",
        f"the mail log of {where}",
        negative=not wanted,
        fails_when=f"before the change: {was}" if was not in ("", expected) else "",
    )


def _by_client_of(context: Context, wish: ReplaceWish, ca: CADirectory | None, at: OurHost) -> str:
    """``verify=WORD`` for a client with a certificate of this CA: on the testbed only, where one may be made for it."""
    if not wish.is_testbed or not at.look.is_server or ca is None:
        return ""
    probe = context.probe(wish.probe_from)
    mark = mark_log(context.host(at.address), at.look.layout.log)
    with shown_by(probe, proof_certificate(context.testbed(), ca)) as path:
        expected = _OK if at.trusts(ca.ca_certificate) else _FAIL
        word = logged_client(probe, path, mark, server=at.look.layout.canonical_name, expected=expected)
    return word or "no connection"


def _of_ours(before: ReplaceBefore, at: OurHost, *, shown_by_client: bool = False) -> OwnCertificate | None:
    """A certificate of one of both CAs in service there; ``shown_by_client``: one that a client can show."""
    cas = [ca.ca_certificate for ca in (before.old, before.new) if ca is not None]
    for own in at.own:
        certificate = own.certificate
        if certificate is None or not any(is_issued_by(certificate, ca) for ca in cas):
            continue
        if not shown_by_client or (own.path == own.key_path and purposes(certificate) in ("both", "client")):
            return own
    return None


def _by_itself(context: Context, before: ReplaceBefore, at: OurHost) -> str:
    own = _of_ours(before, at, shown_by_client=True)
    if own is None or not at.look.is_server:
        return ""
    host, listener = context.host(at.address), smtp_listener(at.look.cf)
    mark = mark_log(host, at.look.layout.log)
    return logged_client(host, own.path, mark, server=listener.address, port=listener.port, expected=_OK)
