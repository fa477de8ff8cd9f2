"""Whether a machine's clock can be right, by what the CA has signed already. Pure: ``now`` is given."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509

from mailtls_nb.errors import NotReady
from mailtls_nb.pki.index import serial_text


def not_begun(
    now: datetime,
    *,
    ca: x509.Certificate,
    newest: x509.Certificate | None,
    crl: x509.CertificateRevocationList | None,
) -> str:
    """What of these begins last, after ``now``: ``its CRL begins only on ...``; empty where all have begun.

    A CA signs nothing that begins in the future, so the clock is behind, or was ahead when that was signed. ``newest``
    is the certificate that the CA issued last, ``crl`` its newest CRL.
    """
    begins = {"the CA certificate itself": ca.not_valid_before_utc}
    if newest is not None:
        begins[f"the certificate {serial_text(newest.serial_number)}"] = newest.not_valid_before_utc
    # Not "if crl": a CRL without entries counts as false.
    if crl is not None:
        begins["its CRL"] = crl.last_update_utc
    what, begin = max(begins.items(), key=lambda item: item[1])
    return f"{what} begins only on {_time(begin)}" if begin > now else ""


def refuse_clock_behind(
    now: datetime,
    *,
    ca: x509.Certificate,
    newest: x509.Certificate | None,
    crl: x509.CertificateRevocationList | None,
    where: str,
) -> None:
    """Raise NotReady where ``now`` lies before what the CA in ``where`` has signed already; see `not_begun`.

    What is signed with a clock that is behind ends too early, and a CRL older than the last one is refused by whoever
    has that.
    """
    if problem := not_begun(now, ca=ca, newest=newest, crl=crl):
        raise NotReady(
            f"this machine's clock says {_time(now)}, and of the CA in {where} {problem}: the clock is behind, or it "
            "was ahead when that was signed",
            left="nothing was signed",
            do="set this machine's clock and run again. " + CLOCK_IS_RIGHT,
        )


CLOCK_IS_RIGHT = (
    "If the clock is right: a certificate that was signed too far ahead is to be revoked (`openssl ca -revoke`), a CRL "
    "moved out of the CA directory (the index knows what is revoked)."
)


def _time(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
