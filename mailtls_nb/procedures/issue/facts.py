"""A certificate as a person reads it."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509

from mailtls_nb.pki.certificates import dns_names
from mailtls_nb.pki.profiles import key_word
from mailtls_nb.procedures.procedure import Facts


def certificate_facts(certificate: x509.Certificate) -> Facts:
    """What a certificate says, one fact a row."""
    return (
        ("serial", f"{certificate.serial_number:X}"),
        ("names", ", ".join(dns_names(certificate))),
        ("key", key_word(certificate.public_key())),
        ("valid to", time_text(certificate.not_valid_after_utc)),
    )


def in_words(certificate: x509.Certificate | None) -> str:
    """A certificate in one line."""
    if certificate is None:
        return "none"
    names = ", ".join(dns_names(certificate))
    return f"serial {certificate.serial_number:X} for {names}, until {time_text(certificate.not_valid_after_utc)}"


def time_text(moment: datetime) -> str:
    """A moment in UTC, to the second."""
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
