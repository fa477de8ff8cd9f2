"""Revocations of the CAs looked at that nobody was told of, or that this host has not heard of. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from cryptography import x509

from mailtls_nb.finding import Finding
from mailtls_nb.names import openssl_dn
from mailtls_nb.pki.crl import crl_number, is_signed_by
from mailtls_nb.pki.index import serial_text
from mailtls_nb.pki.inspection import Inspected
from mailtls_nb.procedures.check.observation import CheckBefore

_MOST_NAMED = 5


def revocation_findings(before: CheckBefore) -> Iterator[Finding]:
    """What is revoked in the index has to be in the CA's CRL, and that on each host that trusts the CA."""
    for ca in before.cas:
        yield from _untold(ca.directory)
        if ca.directory.certificate is not None:
            yield from _on_the_host(before, ca.directory, ca.directory.certificate)


def _untold(directory: Inspected) -> Iterator[Finding]:
    ends, path = directory.ends, str(directory.layout.crl)
    # Of a file that is there and cannot be read another finding says so.
    if not ends.untold or (directory.crl is None and directory.problems):
        return
    named = ", ".join(f"{row.subject} (serial {serial_text(row.serial)})" for row in ends.untold_first[:_MOST_NAMED])
    more = f", and {ends.untold - _MOST_NAMED} more" if ends.untold > _MOST_NAMED else ""
    what = f"Revoked in the index and not listed in {path}: {named}{more}."
    do = "Run 05-revoke-certificate with action refresh, for all hosts that trust this CA."
    yield Finding("error", what, "Whoever shows one is still verify=OK.", path, do)


def _on_the_host(before: CheckBefore, directory: Inspected, certificate: x509.Certificate) -> Iterator[Finding]:
    name = openssl_dn(certificate.subject)
    there = [
        (crl_number(crl) or 0, path)
        for path, crl in before.crls
        if crl.issuer == certificate.subject and is_signed_by(crl, certificate)
    ]
    do = "Run 05-revoke-certificate with action refresh, with this host in crl_hosts."
    if there:
        number, path = max(there)
        newest = (crl_number(directory.crl) or 0) if directory.crl is not None else 0
        if number < newest:
            what = f"The CRL of {name} in {path} has the number {number}, and the newest in the CA directory {newest}."
            yield Finding("error", what, "What was revoked since then is accepted here.", path, do)
    elif directory.ends.revoked and any(certificate == trusted for _, trusted in before.trusted):
        number = directory.ends.revoked
        what = f"{name} has revoked {number} certificate{'' if number == 1 else 's'}, and this host reads no CRL of it."
        yield Finding("warning", what, "What is revoked is accepted here.", before.layout.cf, do)
