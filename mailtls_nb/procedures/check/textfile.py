"""The findings as metrics for Prometheus (text format 0.0.4), for node_exporter's textfile collector. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from datetime import datetime, timedelta

from cryptography import x509

from mailtls_nb.finding import Finding, counts
from mailtls_nb.names import openssl_dn
from mailtls_nb.procedures.check.observation import CheckBefore

Labels = tuple[tuple[str, str], ...]


def metrics(host: str, before: CheckBefore, findings: Sequence[Finding]) -> str:
    """Days left of every certificate, CA and CRL; the number of findings by severity; when the host was looked at."""
    days: dict[Labels, float] = {}
    for kind, path, name, end in _ends(before):
        labels = (("host", host), ("kind", kind), ("name", name), ("path", path))
        left = (end - before.at) / timedelta(days=1)
        # Of two with the same labels the one that ends first is the one to know about.
        days[labels] = min(left, days.get(labels, left))
    number_of = counts(finding.severity for finding in findings)
    by_severity: dict[Labels, float] = {(("host", host), ("severity", s)): n for s, n in number_of.items()}
    checked: dict[Labels, float] = {(("host", host),): int(before.at.timestamp())}
    return "".join(
        (
            _family("mailtls_days_left", "Days until a certificate, CA or CRL ends.", days),
            _family("mailtls_findings", "What 07-check-host found, by severity.", by_severity),
            _family("mailtls_checked_timestamp_seconds", "When the host was looked at.", checked),
        )
    )


def _ends(before: CheckBefore) -> Iterator[tuple[str, str, str, datetime]]:
    """Kind, path, name and end of everything that ends."""
    own: dict[tuple[str, x509.Certificate], None] = {
        (own.path, own.certificate): None for own in before.own.values() if own.certificate is not None
    }
    for path, certificate in own:
        yield "certificate", path, openssl_dn(certificate.subject), certificate.not_valid_after_utc
    for path, certificate in before.trusted:
        yield "ca", path, openssl_dn(certificate.subject), certificate.not_valid_after_utc
    for path, crl in before.crls:
        if crl.next_update_utc is not None:
            yield "crl", path, openssl_dn(crl.issuer), crl.next_update_utc


def _family(name: str, meaning: str, values: Mapping[Labels, float]) -> str:
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
    for labels, value in values.items():
        words = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
        lines.append(f"{name}{{{words}}} {value:.2f}" if value != int(value) else f"{name}{{{words}}} {int(value)}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    plain = text.encode("utf-8", "backslashreplace").decode()
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
