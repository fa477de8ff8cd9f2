"""Proving 05: what a host's OpenSSL and its sendmail make of the certificates revoked, and of one that is not.

``fails_when`` of a claim is filled only from what this very run saw.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import dataclass, field

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.installed_crl import installed_crl
from mailtls_nb.observe.maillog import mark_log
from mailtls_nb.observe.message import logged_client
from mailtls_nb.observe.openssl_verify import verified_by
from mailtls_nb.pki.crl import crl_number
from mailtls_nb.pki.index import serial_text
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.procedures.revoke.observation import CrlHost, RevokeBefore, crl_file_name
from mailtls_nb.procedures.revoke.wish import RevokeWish
from mailtls_nb.sendmail.cf import smtp_listener
from mailtls_nb.testbed.shown_certificates import shown_by
from mailtls_nb.verdict import Claim

_OK, _FAIL, _REVOKED = "verify=OK", "verify=FAIL", "certificate revoked"
_MOST_PROVED = 5
_NUMBER = re.compile(r"number ([0-9]+)")


@dataclass(frozen=True)
class Client:
    """Who can show a certificate of our CA: a host, and the file there with certificate and key."""

    where: str
    host: Host
    path: str
    certificate: x509.Certificate


@dataclass(frozen=True)
class Seen:
    """One host at one moment: answers of its OpenSSL by serial, and words of its mail log (empty: not tried).

    ``crl`` is what its OpenSSL says of our CRL there, ``good`` what it says of a certificate that is not revoked.
    """

    crl: str
    revoked: Mapping[int, str] = field(default_factory=dict)
    good: str = ""
    by_revoked: str = ""
    by_good: str = ""


def see(context: Context, wish: RevokeWish, before: RevokeBefore, at: CrlHost) -> Seen:
    """Look at one host as it is now: ``at`` is what was read of it a moment ago."""
    host, ca = context.host(at.address), before.ca.certificate
    path = crl_path(at, ca)
    ca_path = at.look.ca_path if at.look.verifies else ""

    def verified(certificate: x509.Certificate) -> str:
        pem = certificate.public_bytes(Encoding.PEM).decode()
        return verified_by(host, [pem], trusted_file=at.look.ca_file, trusted_path=ca_path, crl_file=path)

    good = _good_certificate(before, at)
    return Seen(
        crl=installed_crl(host, path, ca) if path else "none",
        revoked={c.serial_number: verified(c) for c in _revoked_certificates(before)},
        good=verified(good) if good is not None else "",
        **_live(context, wish, before, at),
    )


def crl_path(at: CrlHost, ca: x509.Certificate) -> str:
    """Our CRL's file on the host, that sendmail reads; empty where there is none."""
    look = at.look
    if "CRLPath" in look.options:
        path = f"{look.crl_directory.path}/{crl_file_name(ca)}"
        if look.crl_directory.file(path):
            return path
    in_file = look.store.crl_file.crls[:1] if look.store.crl_file else ()
    return look.options.get("CRLFile", "") if any(crl.issuer == ca.subject for crl in in_file) else ""


def claims(
    before: RevokeBefore,
    at: CrlHost,
    crl: x509.CertificateRevocationList,
    after: Seen,
    earlier: Seen | None,
) -> Iterator[Claim]:
    """What is seen of a host once it has the CRL; ``earlier`` is what was seen before, None where nothing changed.

    ``at`` is the host as it was before.
    """
    where, number = at.where, crl_number(crl) or 0
    instrument = f"openssl crl on {where}"
    yield Claim(
        f"the CRL on {where} is ours and the newest",
        f"verify OK, number {number}",
        after.crl,
        "inspection",
        instrument,
        fails_when=f"before the change: {earlier.crl}" if earlier and earlier.crl != after.crl else "",
    )
    if there := [crl_number(installed) or 0 for installed in at.installed(before.ca.certificate)]:
        seen = _NUMBER.search(after.crl)
        yield Claim(
            f"its number on {where} is not lower than before",
            "yes",
            "yes" if seen and int(seen[1]) >= max(there) else f"no: it was {max(there)}",
            "inspection",
            instrument,
        )
    by_openssl = f"openssl verify -crl_check on {where}"
    for serial, answer in after.revoked.items():
        was = earlier.revoked.get(serial, "") if earlier else ""
        yield Claim(
            f"the certificate {serial_text(serial)} is refused on {where}",
            _REVOKED,
            answer,
            "inspection",
            by_openssl,
            negative=True,
            fails_when=_before(was, _REVOKED) or (f"for another certificate: {after.good}" if after.good else ""),
        )
    if after.good:
        refused = next(iter(after.revoked.values()), "")
        yield Claim(
            f"a certificate that is not revoked verifies on {where}",
            "OK",
            after.good,
            "inspection",
            by_openssl,
            fails_when=f"for a revoked one: {refused}" if refused not in ("", "OK") else "",
        )
    yield from _live_claims(where, after, earlier)


def _live_claims(where: str, after: Seen, earlier: Seen | None) -> Iterator[Claim]:
    log = f"the mail log of {where}"
    if after.by_revoked:
        yield Claim(
            f"a client that shows a revoked certificate to {where}",
            _FAIL,
            after.by_revoked,
            "live",
            log,
            negative=True,
            fails_when=_before(earlier.by_revoked if earlier else "", _FAIL)
            or (f"a client with another certificate was logged {after.by_good}" if after.by_good == _OK else ""),
        )
    if after.by_good:
        yield Claim(
            f"a client that shows a good certificate to {where}",
            _OK,
            after.by_good,
            "live",
            log,
            fails_when=f"one with a revoked one was logged {after.by_revoked}" if after.by_revoked == _FAIL else "",
        )


def _before(was: str, expected: str) -> str:
    return f"before the change: {was}" if was not in ("", expected) else ""


def _revoked_certificates(before: RevokeBefore) -> list[x509.Certificate]:
    """What this run is about, as far as its files are there: a few of many."""
    directory = before.ca.directory
    found = (directory.certificate_for_serial(row.serial) for row in before.ca.survey.asked)
    return [c for c in found if c is not None and c.not_valid_after_utc > before.at][:_MOST_PROVED]


def _good_certificate(before: RevokeBefore, at: CrlHost) -> x509.Certificate | None:
    """One that no CRL of ours lists: the host's own where it is of our CA, else the newest that the CA has issued."""
    bad = _bad_serials(before)
    for _, certificate in at.shown_by_clients(before.ca.certificate):
        if certificate.serial_number not in bad and certificate.not_valid_after_utc > before.at:
            return certificate
    newest = before.ca.survey.newest
    if newest is None or newest.serial in bad:
        return None
    return before.ca.directory.certificate_for_serial(newest.serial)


def _bad_serials(before: RevokeBefore) -> frozenset[int]:
    asked, revoked = before.ca.survey.asked, before.ca.survey.revoked
    return frozenset(row.serial for row in (*asked, *revoked))


def _live(context: Context, wish: RevokeWish, before: RevokeBefore, at: CrlHost) -> dict[str, str]:
    """Connections to the host by who can show a certificate; only to one that does TLS as a server."""
    if not at.look.is_server:
        return {}
    with ExitStack() as stack, ThreadPoolExecutor() as pool:
        asked = {
            "by_revoked": (_finder_or_host(context, wish, before, at, stack), _FAIL),
            "by_good": (good_client(context, before, at), _OK),
        }
        # Each waits some seconds for the server's replies: both at the same time.
        words = {
            name: pool.submit(_word, context, at, client, expected)
            for name, (client, expected) in asked.items()
            if client is not None
        }
        return {name: word.result() for name, word in words.items()}


def _finder_or_host(
    context: Context, wish: RevokeWish, before: RevokeBefore, at: CrlHost, stack: ExitStack
) -> Client | None:
    if before.lost is not None:
        certificate = x509.load_pem_x509_certificate(before.lost.read_bytes())
        if wish.on_testbed and any(row.serial == certificate.serial_number for row in before.ca.survey.asked):
            probe = context.probe(wish.probe_from)
            return Client("the finder", probe, stack.enter_context(shown_by(probe, before.lost)), certificate)
    return revoked_client(context, before, at)


def revoked_client(context: Context, before: RevokeBefore, at: CrlHost) -> Client | None:
    """Another host with a certificate in service that this run is about, which it can show as a client."""
    asked = {row.serial for row in before.ca.survey.asked}
    others = (client for client in _clients(context, before) if client.where != at.where)
    return next((client for client in others if client.certificate.serial_number in asked), None)


def good_client(context: Context, before: RevokeBefore, at: CrlHost) -> Client | None:
    """A host with a certificate in service that is not revoked, which it can show as a client."""
    bad = _bad_serials(before)
    good = [client for client in _clients(context, before) if client.certificate.serial_number not in bad]
    # Another host's is seen by its own address; the host itself comes in by the loopback.
    return next((c for c in good if c.where != at.where), None) or next(iter(good), None)


def _clients(context: Context, before: RevokeBefore) -> Iterator[Client]:
    """Without those whose certificate has ended: they are verify=FAIL, revoked or not."""
    for host in before.hosts:
        for path, certificate in host.shown_by_clients(before.ca.certificate):
            if certificate.not_valid_after_utc > before.at:
                yield Client(host.where, context.host(host.address), path, certificate)


def _word(context: Context, at: CrlHost, client: Client, expected: str) -> str:
    """``verify=WORD`` as the host logs a connection of this client; empty: no firewall need let it through."""
    mark = mark_log(context.host(at.address), at.look.layout.log)
    if client.where != at.where:
        name = at.look.layout.canonical_name
        return logged_client(client.host, client.path, mark, server=name, expected=expected)
    listener = smtp_listener(at.look.cf)
    return logged_client(client.host, client.path, mark, server=listener.address, port=listener.port, expected=expected)
