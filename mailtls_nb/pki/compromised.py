"""Keys that may be in other hands: revoked for it once, they are never certified again."""

from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes

from mailtls_nb.errors import NotReady
from mailtls_nb.pki import adoption, recovery, succession
from mailtls_nb.pki.certificates import key_info
from mailtls_nb.pki.configuration import Layout
from mailtls_nb.pki.index import Row, serial_text
from mailtls_nb.pki.index_changes import compromised_rows


def refuse_compromised(
    layout: Layout, public_key: CertificatePublicKeyTypes, name: str, *, do: str = "make a new key"
) -> None:
    """Raise NotReady for a key that must not be certified again; ``name`` says for whom it was to be."""
    row = compromised_row(layout, public_key)
    if row is not None and row.revoked is not None:
        raise NotReady(
            f"the key for {name} may be in other hands: the certificate {serial_text(row.serial)} for it was revoked "
            f"on {row.revoked.at:%Y-%m-%d} for {row.revoked.reason}",
            left="nothing was changed",
            do=f"{do}: such a key is never certified again",
        )


def compromised_row(layout: Layout, public_key: CertificatePublicKeyTypes) -> Row | None:
    """The row of a certificate for this key that was revoked because the key may be in other hands, if any.

    Reads the whole index, and those of the CAs that this one follows. A certificate whose file is gone from newcerts
    says nothing of its key. Raises CADirectoryError.
    """
    wanted = key_info(public_key)
    for place in (layout, *(adoption.find_layout(path)[0] for path in succession.predecessors(layout.path))):
        with place.database.open("rb") as lines:
            for row in compromised_rows(lines, where=str(place.database)):
                if wanted == _key_of(place, row):
                    return row
    return None


def _key_of(layout: Layout, row: Row) -> bytes:
    try:
        pem = recovery.certificate_path(layout, row.serial).read_bytes()
        return key_info(x509.load_pem_x509_certificate(pem).public_key())
    except (FileNotFoundError, ValueError):
        return b""
