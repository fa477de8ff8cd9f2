"""The findings as metrics for Prometheus (text format 0.0.4), for node_exporter's textfile collector. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import timedelta

from mailtls_nb.finding import Finding, counts
from mailtls_nb.procedures.check.ending import endings
from mailtls_nb.procedures.check.observation import CheckBefore

Labels = tuple[tuple[str, str], ...]


def metrics(host: str, before: CheckBefore, findings: Sequence[Finding]) -> str:
    """Days left of every certificate, CA and CRL; the number of findings by severity; when the host was looked at."""
    days: dict[Labels, float] = {}
    for end in (ending.end for ending in endings(before)):
        labels = (("host", host), ("kind", end.kind), ("name", end.name), ("path", end.where))
        # Of two with the same labels the one that ends first, and comes first, is the one to know about.
        days.setdefault(labels, (end.end - before.at) / timedelta(days=1))
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


def _family(name: str, meaning: str, values: Mapping[Labels, float]) -> str:
    lines = [f"# HELP {name} {meaning}", f"# TYPE {name} gauge"]
    for labels, value in values.items():
        words = ",".join(f'{label}="{_escaped(text)}"' for label, text in labels)
        lines.append(f"{name}{{{words}}} {value:.2f}" if value != int(value) else f"{name}{{{words}}} {int(value)}")
    return "\n".join(lines) + "\n"


def _escaped(text: str) -> str:
    plain = text.encode("utf-8", "backslashreplace").decode()
    return plain.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
