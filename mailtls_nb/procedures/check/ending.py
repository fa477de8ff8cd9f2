"""Everything that ends, in one list: what the table, the findings and the textfile of 07 are made from. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

from cryptography import x509

from mailtls_nb.expiry import End, Kind, first_to_end
from mailtls_nb.finding import Finding
from mailtls_nb.names import openssl_dn
from mailtls_nb.observe.own_certificate import Role
from mailtls_nb.pki.index import serial_text
from mailtls_nb.procedures.check.observation import CheckBefore

REFUSED: dict[Role, str] = {
    "server": "Whoever verifies us gets verify=FAIL, and holds or returns the mail where that is demanded.",
    "client": "Partners get verify=FAIL, and refuse our mail where they demand verification.",
}
RENEW_CRL = (
    "Get the newest CRL from that CA and put it there (a partner's: 03-trust-partner; ours: 05-revoke-certificate with "
    "action refresh); for CRLFile, reload sendmail."
)
_RENEW = "Run 06-renew-certificate for this host; 02-issue-certificate where a CA elsewhere signs."
_OUR_CA = "Every certificate of that CA is verify=FAIL, and the CA can sign nothing more."
_REPLACE = "Run 09-replace-ca, long before the end: every partner has to trust the new CA first."
_PARTNER = "Every certificate of that CA is verify=FAIL."
_PARTNER_SUCCESSOR = "Get its successor from the partner and trust it with 03-trust-partner."
_CRL = "Every certificate of that CA is verify=FAIL, revoked or not."
_REFRESH = "Run 05-revoke-certificate with action refresh, which makes a new one and puts it on the hosts."
_ISSUED = "Whoever uses it is verify=FAIL."
_RENEW_ISSUED = "Run 06-renew-certificate for its host, or revoke it with 05-revoke-certificate where the host is gone."


@dataclass(frozen=True)
class Ending:
    """A thing that ends: ``what`` it is (the start of a sentence), what its end does, and what puts that off."""

    end: End
    what: str
    why: str
    do: str

    def finding(self, at: datetime, warn: timedelta) -> Iterator[Finding]:
        """An error for what has ended at the time ``at``, a warning for what ends soon; else nothing."""
        day = f"{self.end.end:%Y-%m-%d}"
        match self.end.state(at, warn):
            case "ended":
                yield Finding("error", f"{self.what} ended on {day}.", self.why, self.end.where, self.do)
            case "ends soon":
                why = f"From then on: {self.why}"
                yield Finding("warning", f"{self.what} ends on {day}.", why, self.end.where, self.do)


def endings(before: CheckBefore) -> tuple[Ending, ...]:
    """All that ends, on the host and in the CA directories looked at, what ends first at the top."""
    found = {ending.end: ending for ending in (*_on_the_host(before), *_in_the_ca_directories(before))}
    return tuple(found[end] for end in first_to_end(found))


def _on_the_host(before: CheckBefore) -> Iterator[Ending]:
    roles: dict[tuple[str, x509.Certificate], list[Role]] = {}
    for role, own in before.own.items():
        if own.certificate is not None:
            roles.setdefault((own.path, own.certificate), []).append(role)
    for (path, certificate), of in roles.items():
        what = f"The {' and '.join(of)} certificate {openssl_dn(certificate.subject)}"
        yield Ending(_end("certificate", certificate, path), what, " ".join(REFUSED[role] for role in of), _RENEW)
    ours = before.our_cas
    for path, certificate in before.trusted:
        name = openssl_dn(certificate.subject)
        if certificate in ours:
            yield Ending(_end("ca", certificate, path), f"Our CA {name}", _OUR_CA, _REPLACE)
        else:
            end = _end("partner-ca", certificate, path)
            yield Ending(end, f"The partner's CA {name}", _PARTNER, _PARTNER_SUCCESSOR)
    for path, crl in before.crls:
        if (end_of_crl := _end_of_crl(crl, path)) is not None:
            yield Ending(end_of_crl, f"The CRL of {openssl_dn(crl.issuer)}", _CRL, RENEW_CRL)


def _in_the_ca_directories(before: CheckBefore) -> Iterator[Ending]:
    in_service = {own.certificate.serial_number for own in before.own.values() if own.certificate is not None}
    for ca in before.cas:
        directory = ca.directory
        if (certificate := directory.certificate) is not None:
            end = _end("ca", certificate, str(directory.layout.certificate))
            yield Ending(end, f"Our CA {end.name}", _OUR_CA, _REPLACE)
        crl = directory.crl
        if crl is not None and (end_of_crl := _end_of_crl(crl, str(directory.layout.crl))) is not None:
            yield Ending(end_of_crl, f"The CRL of our CA {end_of_crl.name}", _CRL, _REFRESH)
        for row in directory.ends.first:
            # The one that this host shows is told of where it lies.
            if row.serial not in in_service:
                name = f"{row.subject} (serial {serial_text(row.serial)})"
                issued = End("issued", name, str(directory.layout.database), row.not_after)
                yield Ending(issued, f"The certificate {name} that our CA issued", _ISSUED, _RENEW_ISSUED)


def _end(kind: Kind, certificate: x509.Certificate, path: str) -> End:
    return End(kind, openssl_dn(certificate.subject), path, certificate.not_valid_after_utc)


def _end_of_crl(crl: x509.CertificateRevocationList, path: str) -> End | None:
    if crl.next_update_utc is None:
        return None
    return End("crl", openssl_dn(crl.issuer), path, crl.next_update_utc, crl.last_update_utc)
