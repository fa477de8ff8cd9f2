"""What a partner gets so that its mail servers trust our CA: the certificate, its fingerprint, instructions. Pure."""

from __future__ import annotations

import re
import unicodedata

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mailtls_nb.names import openssl_dn, sendmail_dn


def partner_pack(ca_certificate: x509.Certificate, mail_hosts: tuple[str, ...] = ()) -> dict[str, bytes]:
    """The files of the pack by name. ``mail_hosts`` are our mail servers, named in the examples.

    The same CA and hosts always give the same bytes.
    """
    name = f"{_slug(ca_certificate)}.pem"
    return {
        name: ca_certificate.public_bytes(Encoding.PEM),
        f"{name.removesuffix('.pem')}.der": ca_certificate.public_bytes(Encoding.DER),
        "fingerprint.txt": _fingerprint_text(ca_certificate).encode(),
        "README.md": _instructions(ca_certificate, name, mail_hosts).encode(),
    }


def _slug(ca_certificate: x509.Certificate) -> str:
    """A file name from the CA's common name, ending in -ca."""
    attributes = ca_certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    common_name = str(attributes[0].value) if attributes else ""
    plain = unicodedata.normalize("NFKD", common_name).encode("ascii", "ignore").decode().lower()
    words = re.findall("[a-z0-9]+", plain)
    return "-".join(words if words[-1:] == ["ca"] else [*words, "ca"])


def _fingerprint_text(ca_certificate: x509.Certificate) -> str:
    digest = ca_certificate.fingerprint(hashes.SHA256())
    return f"SHA-256 {digest.hex(':').upper()}\nSHA-256 {digest.hex()}\n"


def _instructions(ca: x509.Certificate, file: str, mail_hosts: tuple[str, ...]) -> str:
    hosts = mail_hosts or ("relay.example.test",)
    example = "" if mail_hosts else " (`relay.example.test` and `example.test` stand for our mail server and domain)"
    host = hosts[0]
    domain = host.partition(".")[2]
    fingerprint = ca.fingerprint(hashes.SHA256()).hex(":").upper()
    access = "\n".join(f"TLS_Clt:{h}\tPERM+VERIFY:112+CI:{sendmail_dn(ca.subject)}" for h in hosts)
    return f"""\
# How to trust our mail CA

Our mail servers{" (" + ", ".join(hosts) + ")" if mail_hosts else ""} show certificates signed by our own CA{example}:

| | |
|---|---|
| CA | `{openssl_dn(ca.subject)}` |
| valid until | {ca.not_valid_after_utc:%Y-%m-%d} |
| SHA-256 | `{fingerprint}` |
| files | `{file}` (PEM), `{file.removesuffix(".pem")}.der` (the same in DER), `fingerprint.txt` |

## 1. Check the fingerprint first, by another way

Whoever could change this file on its way could change the fingerprint above too. Ask us for it by telephone, at a
number you had before, and compare:

    openssl x509 -in {file} -noout -subject -enddate -fingerprint -sha256

Only then go on. Copy `{file}` to the mail server, owned by root, mode 0644.

## 2. sendmail

With a directory of CAs, as sendmail.mc names it:

    define(`confCACERT_PATH', `/etc/mail/certs')

The hash must come from the host's own openssl; take `.1` when `.0` is another certificate:

    cp {file} /etc/mail/certs/
    cd /etc/mail/certs && ln -s {file} "$(openssl x509 -hash -noout -in {file}).0"

The directory is read at each handshake: no restart is needed. With a single file instead, as sendmail.mc names it,
append and restart sendmail:

    define(`confCACERT', `/etc/mail/certs/ca-bundle.pem')

    cat {file} >> /etc/mail/certs/ca-bundle.pem

The log then says `verify=OK` for our servers (`STARTTLS=server, relay={host} ...`). To refuse mail from them without
our certificate, add to /etc/mail/access and rebuild the map (FEATURE access_db is needed). The name is the reverse name
of the address: add a line with each of our addresses in its place too, or mail comes through when reverse DNS fails.

{_indented(access)}
{_older_openssl(ca)}
## 3. Postfix (3.x)

Mail from us: ask clients for certificates and trust this CA for them. In main.cf:

    smtpd_tls_security_level = may
    smtpd_tls_ask_ccert = yes
    smtpd_tls_CAfile = /etc/postfix/{file}
    smtpd_tls_loglevel = 1

smtpd_tls_CAfile may hold several CAs: append when you have one already. The log then says `Trusted TLS connection
established from {host}`.

Mail to us, in main.cf (`lmdb:` where there is no hash):

    smtp_tls_policy_maps = hash:/etc/postfix/tls_policy
    smtp_tls_loglevel = 1

and in /etc/postfix/tls_policy a line for each of our mail domains, which trusts this CA and no other:

    {domain}    secure match={":".join(hosts)} tafile=/etc/postfix/{file}

Then `postmap /etc/postfix/tls_policy` and `postfix reload`. The file of `tafile` is read inside the chroot jail where
the smtp client has one (Debian: `y` in the chroot column of master.cf). Put a second copy there:

    install -D -m 0644 {file} /var/spool/postfix/etc/postfix/{file}

The log then says `Verified TLS connection established to {host}`.

## 4. Exim (4.88 or later)

Mail from us, in the main section (tls_try_verify_hosts asks and goes on; tls_verify_hosts refuses):

    tls_verify_certificates = /etc/exim4/{file}
    tls_try_verify_hosts = *
    # tls_verify_hosts = {" : ".join(hosts)}

Mail to us, a transport for a router of our domains:

    to_verified_partner:
      driver = smtp
      hosts_require_tls = *
      tls_verify_certificates = /etc/exim4/{file}
      tls_verify_hosts = *
      tls_verify_cert_hostnames = *

The log then says `CV=yes`. `tls_verify_certificates` is one file or directory: put your other CAs into it as well.
"""


def _older_openssl(ca: x509.Certificate) -> str:
    older = sendmail_dn(ca.subject, before_openssl_3=True)
    if older == sendmail_dn(ca.subject):
        return ""
    return f"\nWhere sendmail was built with an OpenSSL before 3.0 the CA's name is written `{older}` there.\n"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
