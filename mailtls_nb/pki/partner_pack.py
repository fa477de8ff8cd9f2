"""What a partner gets so that its mail servers trust our CA: the certificate, its fingerprint, instructions. Pure."""

from __future__ import annotations

import re
import unicodedata

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from mailtls_nb.names import openssl_dn, sendmail_dn

# They stand in the instructions where no host was given: in capitals, so that nobody takes them for real names.
_NO_DOMAIN = "EXAMPLE.TEST"
_NO_HOST = f"MAIL.{_NO_DOMAIN}"


def partner_pack(ca_certificate: x509.Certificate, mail_hosts: tuple[str, ...] = ()) -> dict[str, bytes]:
    """The files of the pack by name. ``mail_hosts`` are our mail servers, named in the instructions.

    Without them the instructions begin with a note to the sender, and hold a placeholder to be replaced.
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
    """A file name from the CA's common name, with ca in it."""
    attributes = ca_certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    common_name = str(attributes[0].value) if attributes else ""
    plain = unicodedata.normalize("NFKD", common_name).encode("ascii", "ignore").decode().lower()
    words = re.findall("[a-z0-9]+", plain)
    return "-".join(words if "ca" in words else [*words, "ca"])


def _fingerprint_text(ca_certificate: x509.Certificate) -> str:
    digest = ca_certificate.fingerprint(hashes.SHA256())
    return f"SHA-256 {digest.hex(':').upper()}\nSHA-256 {digest.hex()}\n"


def _instructions(ca: x509.Certificate, file: str, mail_hosts: tuple[str, ...]) -> str:
    hosts = mail_hosts or (_NO_HOST,)
    domains = tuple(dict.fromkeys(_mail_domain(host) for host in hosts))
    return f"""\
# How to trust our mail CA
{"" if mail_hosts else _note_to_the_sender()}
Our mail servers show certificates signed by our own CA.

| | |
|---|---|
| CA | `{openssl_dn(ca.subject)}` |
| valid until | {ca.not_valid_after_utc:%Y-%m-%d} |
| SHA-256 | `{ca.fingerprint(hashes.SHA256()).hex(":").upper()}` |
| our mail servers | {_code(hosts)} |
| our mail domain | {_code(domains)} (if you write to us at another one, put it in the place of this one below) |
| files | `{file}` (PEM), `{file.removesuffix(".pem")}.der` (the same in DER), `fingerprint.txt` |

Do 1, then the one part of 2, 3 and 4 that is your mail server's. Your server must offer STARTTLS already.

In each part, "mail from us" knows our servers by name. Add our addresses there too, in the same form (ask us for them):
a name alone lets mail through when DNS does not answer.

## 1. Check the fingerprint first, by another way

Whoever could change this file on its way could change the fingerprint above too. Ask us for it by telephone, at a
number you had before, and compare:

    openssl x509 -in {file} -noout -subject -enddate -fingerprint -sha256

Only then go on. Copy `{file}` to the mail server, owned by root, mode 0644.

{_sendmail(ca, file, hosts, domains)}
{_postfix(file, hosts, domains)}
{_exim(file, hosts, domains)}"""


def _note_to_the_sender() -> str:
    return f"""
> **NOT READY TO SEND.** To the owner of the CA: no mail servers were named when this was written. In a copy of this
> folder, put your mail server in the place of `{_NO_HOST}` and your mail domain (what stands after the @) in the
> place of `{_NO_DOMAIN}`. Repeat the lines that name a server for each further one, and delete this paragraph:
>
>     sed -i 's/{_NO_HOST.replace(".", "[.]")}/HOST/g; s/{_NO_DOMAIN.replace(".", "[.]")}/DOMAIN/g' README.md
>
> To a partner who reads this: ask for a finished copy.
"""


def _sendmail(ca: x509.Certificate, file: str, hosts: tuple[str, ...], domains: tuple[str, ...]) -> str:
    issuer = sendmail_dn(ca.subject)
    from_us = "\n".join(f"TLS_Clt:{host}\tPERM+VERIFY:112+CI:{issuer}" for host in hosts)
    to_us = "\n".join(
        [f"TLS_Srv:{host}\tTEMP+VERIFY:112+CI:{issuer}" for host in hosts]
        + [f"TLS_Rcpt:{domain}\tTEMP+VERIFY:112+CI:{issuer}" for domain in domains]
    )
    return f"""\
## 2. sendmail

**Install the CA.** Where sendmail.mc names a directory of CAs (`confCACERT_PATH`, here /etc/mail/certs), take the hash
from the host's own openssl, and `.1` when `.0` is another certificate:

    cp {file} /etc/mail/certs/
    cd /etc/mail/certs && ln -s {file} "$(openssl x509 -hash -noout -in {file}).0"

Where it names a file (`confCACERT`, say ca-bundle.pem), append to that file instead:

    cat {file} >> /etc/mail/certs/ca-bundle.pem

Where it names neither, add the directory, which is to be owned by root and writable by nobody else:

    define(`confCACERT_PATH', `/etc/mail/certs')dnl

The next two steps need the access map: sendmail.mc must hold ``FEATURE(`access_db')`` (more arguments are fine).

**Require it for mail from us.** In /etc/mail/access, a tab between the two parts (mail without our certificate
is refused):

{_indented(from_us)}

**Require it for mail to us.** In the same file; TLS_Srv holds for our servers, TLS_Rcpt for our domain whatever server
DNS names for it (mail that cannot be sent so waits in your queue):

{_indented(to_us)}
{_older_openssl(ca)}
**Reload.** The map, after each change of it:

    makemap hash /etc/mail/access < /etc/mail/access

After a change of sendmail.mc, build sendmail.cf. Where there is a Makefile (Debian, Red Hat, Fedora):

    make -C /etc/mail

Elsewhere, in the directory of sendmail.mc; go on to the second line only when the first printed no `*** ERROR`:

    m4 sendmail.mc > sendmail.cf.new
    cp sendmail.cf.new /etc/mail/sendmail.cf

After a change of sendmail.cf or of the file of `confCACERT`: `systemctl restart sendmail`.

**See that it works.** The map answers:

    echo '/map access TLS_Clt:{hosts[0]}' | sendmail -bt

and the log (mail.log or maillog) says `verify=OK` in the lines of our servers: `STARTTLS=server` for mail from us,
`STARTTLS=client` for mail to us.
"""


def _postfix(file: str, hosts: tuple[str, ...], domains: tuple[str, ...]) -> str:
    clients = "\n".join(f"{host}    need_our_ca" for host in hosts)
    policy = "\n".join(f"{domain}    secure match={':'.join(hosts)} tafile=/etc/postfix/{file}" for domain in domains)
    return f"""\
## 3. Postfix (3.0 or later; `lmdb:` in the place of `hash:` where there is no hash)

**Install the CA.**

    cp {file} /etc/postfix/

The smtp client reads the file inside its chroot jail where it has one (Debian: `y` in the chroot column of master.cf).
Put a second copy there:

    install -D -m 0644 {file} /var/spool/postfix/etc/postfix/{file}

**Require it for mail from us.** In main.cf; put `check_client_access` first where you have smtpd_sender_restrictions:

    smtpd_tls_security_level = may
    smtpd_tls_ask_ccert = yes
    smtpd_tls_CAfile = /etc/postfix/{file}
    smtpd_tls_loglevel = 1
    smtpd_restriction_classes = need_our_ca
    need_our_ca = permit_tls_all_clientcerts, reject
    smtpd_sender_restrictions = check_client_access hash:/etc/postfix/partner_clients

and in /etc/postfix/partner_clients:

{_indented(clients)}

Postfix cannot ask for one CA among several: any CA in smtpd_tls_CAfile will do. So name ours alone there, leave
smtpd_tls_CApath empty and tls_append_default_CA at `no`. Do not use need_our_ca in smtpd_relay_restrictions or
smtpd_recipient_restrictions: there it could let our servers relay. If you need several CAs, list our servers'
fingerprints in relay_clientcerts, with permit_tls_clientcerts in need_our_ca; they change whenever we renew.

**Require it for mail to us.** In main.cf:

    smtp_tls_policy_maps = hash:/etc/postfix/tls_policy
    smtp_tls_loglevel = 1

and in /etc/postfix/tls_policy, which trusts this CA and no other (mail that cannot be sent so waits in your queue):

{_indented(policy)}

**Reload.**

    postmap hash:/etc/postfix/partner_clients hash:/etc/postfix/tls_policy
    postfix check && postfix reload

**See that it works.** The log says `Trusted TLS connection established from` and our server for mail from us, and
`Verified TLS connection established to` and our server for mail to us.
"""


def _exim(file: str, hosts: tuple[str, ...], domains: tuple[str, ...]) -> str:
    return f"""\
## 4. Exim (4.88 or later)

The places named are those of Debian's split configuration, under /etc/exim4/conf.d. Debian's unsplit configuration has
the same sections in /etc/exim4/exim4.conf.template, and the macros go into /etc/exim4/exim4.conf.localmacros. Elsewhere
all is in one file, exim.conf.

**Install the CA.**

    cp {file} /etc/exim4/

**Require it for mail from us.** Debian, in main/000_localmacros:

    MAIN_TLS_VERIFY_CERTIFICATES = /etc/exim4/{file}
    MAIN_TLS_TRY_VERIFY_HOSTS = *

Elsewhere, in the main section:

    tls_verify_certificates = /etc/exim4/{file}
    tls_try_verify_hosts = *

That only asks for a certificate. To refuse, put this first in the ACL of acl_smtp_mail (Debian: below `acl_check_mail:`
in acl/30_exim4-config_check_mail). tls_verify_hosts would not do: it lets mail without STARTTLS through.

    deny
      hosts = +ignore_unknown : {" : ".join(hosts)}
      !verify = certificate
      message = a certificate of your own CA is required

Any CA in the file of tls_verify_certificates will do, so keep it to ours. Keep +ignore_unknown: without it one name
that DNS does not know ends the list. Our addresses go in front of it.

**Require it for mail to us.** A router, before those that send other mail out (Debian: router/160_our_partner):

    our_partner:
      driver = dnslookup
      domains = {" : ".join(domains)}
      transport = to_our_partner
      same_domain_copy_routing = yes
      no_more

and its transport (Debian: transport/30_our_partner; mail that cannot be sent so waits in your queue):

    to_our_partner:
      driver = smtp
      hosts_require_tls = *
      tls_verify_certificates = /etc/exim4/{file}
      tls_verify_hosts = *
      tls_verify_cert_hostnames = *

**Reload.** Debian, then elsewhere:

    update-exim4.conf && systemctl reload exim4
    exim -bV && systemctl reload exim

**See that it works.** `exim4 -bt postmaster@{domains[0]}` names the router our_partner; the log says `CV=yes` in the
lines of mail from us (`<=`) and to us (`=>`).
"""


def _mail_domain(host: str) -> str:
    """The domain that a mail server most likely serves: its parent, or itself where that is a top-level domain."""
    parent = host.partition(".")[2]
    return parent if "." in parent else host


def _code(names: tuple[str, ...]) -> str:
    return ", ".join(f"`{name}`" for name in names)


def _older_openssl(ca: x509.Certificate) -> str:
    older = sendmail_dn(ca.subject, before_openssl_3=True)
    if older == sendmail_dn(ca.subject):
        return ""
    return f"\nWhere sendmail was built with an OpenSSL before 3.0 the CA's name is written `{older}` there.\n"


def _indented(text: str) -> str:
    return "\n".join(f"    {line}" for line in text.splitlines())
