"""A file of several CA certificates (PEM), as sendmail's CACertFile: certificates put in and taken out. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

_BLOCK = re.compile(
    rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----.*?-----END (?:X509 |TRUSTED )?CERTIFICATE-----[ \t]*\r?\n?",
    re.DOTALL,
)


def without(data: bytes, certificates: Collection[x509.Certificate]) -> bytes:
    """The file without these certificates; every other byte stays."""

    def kept(block: re.Match[bytes]) -> bytes:
        try:
            return b"" if x509.load_pem_x509_certificate(block[0]) in certificates else block[0]
        except ValueError:
            return block[0]

    return _BLOCK.sub(kept, data)


def beginning_with(data: bytes, certificates: Sequence[x509.Certificate]) -> bytes:
    """The file with these certificates before all others, in this order.

    The order matters: of two certificates with one name OpenSSL takes the first in the file for the chain that it sends
    (measured with 1.1.1, 3.0 and 3.5).
    """
    first = b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)
    return first + without(data, certificates)
