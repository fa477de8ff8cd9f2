"""A witness: a host of the testbed that, for the time of a proof, verifies other hosts by a given CA.

Debian ships sendmail without TLS, so the testbed's other hosts could say nothing about a certificate. For the time of
the proof one of them gets a certificate of its own making and trusts the CA in question; afterwards all is put back.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from mailtls_nb.apply.transaction import Transaction
from mailtls_nb.errors import NotReady
from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.layout import observe_layout
from mailtls_nb.observe.needed_file import needed_file

_DIRECTORY = "/etc/mail/mailtls-nb-witness"
_OWNER = "root:root"


@contextmanager
def witness(host: Host, ca_certificates: bytes) -> Iterator[None]:
    """Let the host speak TLS and verify by these CA certificates (PEM) as long as the context lasts.

    A killed run leaves nothing behind for good: the next change on that host undoes it first.
    """
    layout = observe_layout(host)
    cf = needed_file(host, layout.cf)
    certificate, key, ca_file = (f"{_DIRECTORY}/{name}" for name in ("certificate.pem", "key.pem", "ca.pem"))
    options = {"CACertFile": ca_file, "CACertPath": _DIRECTORY, "ServerCertFile": certificate, "ServerKeyFile": key}
    with Transaction(host, layout, keep=False) as change:
        change.make_directory(_DIRECTORY, mode=0o700, owner=_OWNER)
        kind = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-days", "1")
        subject = ("-subj", f"/CN={layout.canonical_name}")
        argv = ("openssl", "req", "-x509", "-nodes", *kind, *subject, "-keyout", key, "-out", certificate)
        made = change.run(argv, changes=(key, certificate))
        made.check("making the witness's own certificate")
        change.write(ca_file, ca_certificates, mode=0o600, owner=_OWNER)
        change.write(layout.cf, with_options(cf, options), mode=0o644, owner=_OWNER)
        change.reload()
        yield


def with_options(cf: bytes, options: Mapping[str, str]) -> bytes:
    """A sendmail.cf with these options set; the file holds a line for each, set or commented out."""
    for name, value in options.items():
        line = re.compile(rb"^#?O " + name.encode() + rb"\b[^\n]*$", re.MULTILINE)
        cf, count = line.subn(f"O {name}={value}".encode(), cf)
        if count != 1:
            raise NotReady(f"sendmail.cf has {count} lines for the option {name}", left="nothing was touched")
    return cf
