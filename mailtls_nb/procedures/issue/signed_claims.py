"""Proving a certificate that was signed for somebody else and is installed nowhere: OpenSSL judges it."""

from __future__ import annotations

from typing import Literal

from cryptography import x509

from mailtls_nb.observe.openssl_verify import WRONG_NAME, openssl_verify
from mailtls_nb.pki.certificates import key_info
from mailtls_nb.pki.recovery import rows_of_serial
from mailtls_nb.procedures.issue.sign import SignBefore
from mailtls_nb.procedures.issue.wish import IssueWish
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.verdict import Claim


def signed_claims(
    context: Context, wish: IssueWish, before: SignBefore, certificate: x509.Certificate
) -> tuple[Claim, ...]:
    """Claims over ``certificate.pem`` and ``cacert.pem`` in the run's folder."""
    folder = context.folder
    purpose: Literal["sslserver", "sslclient"] = "sslclient" if wish.roles == "client" else "sslserver"

    def verified_as(name: str) -> str:
        certificate_file, ca_file = str(folder / "certificate.pem"), str(folder / "cacert.pem")
        return openssl_verify(context.here, certificate_file, trusted=ca_file, purpose=purpose, name=name)

    same_key = key_info(certificate.public_key()) == key_info(before.request.public_key)
    rows = rows_of_serial(before.directory.layout, certificate.serial_number)
    return (
        Claim(
            f"it verifies by the CA for {wish.hostname}",
            "OK",
            verified_as(wish.hostname),
            "inspection",
            "openssl verify",
        ),
        Claim(
            "it is refused for another name",
            "refused",
            verified_as(WRONG_NAME),
            "inspection",
            "openssl verify",
            negative=True,
            fails_when=f"for {wish.hostname} the same command says OK",
        ),
        Claim(
            "it is for the key in the request",
            "yes",
            "yes" if same_key else "no",
            "inspection",
            "comparison of the keys",
        ),
        Claim(
            "the CA's index lists it once, as valid",
            "V",
            ",".join(row.status for row in rows),
            "inspection",
            "the CA's index.txt",
        ),
    )
