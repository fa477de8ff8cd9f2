"""A guest as another organisation: Postfix or Exim with a certificate of its own CA, and ways to fall out of line.

The CA is kept in memory: it is good for one proof. The guest's key is made on its host and stays there.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key

from mailtls_nb.hosts.base import Host
from mailtls_nb.names import DistinguishedName
from mailtls_nb.pki.profiles import PrivateKey, ca_certificate, key_type, mail_server_certificate
from mailtls_nb.testbed.testbed import DOMAIN, GUESTS, Testbed

ClientCertificate = Literal["own", "impostor", "none"]

_DIRECTORY = "/etc/testbed/certificates"
# Debian's own place for trusted CAs: programs that are told of no other look there, Exim as a client among them.
_TRUSTED = "/etc/ssl/certs/ca-certificates.crt"
_DAYS = 30
_TIMEOUT_S = 60

# $1: the file for key and certificate, $2: the group of the mail server; the rest is the argv that makes a key.
_MAKE_KEY = """
file=$1 group=$2
shift 2
umask 077
mkdir -p -m 0755 "${file%/*}"
"$@" -out "$file" && chgrp "$group" "$file" && chmod 0640 "$file" && openssl pkey -in "$file" -pubout
"""
# Debian's init script of Exim finds no process to stop in a container: root there may not see which program runs as
# another user. Both wait for the end of the old process, so that nothing is answered by what was told before.
_RESTART = {
    "postfix": "postfix stop; exec postfix start",
    "exim": """
        pid=`cat /run/exim4/exim.pid`
        kill $pid
        while kill -0 $pid 2>/dev/null; do sleep 0.05; done
        rm -f /run/exim4/exim.pid
        exec /etc/init.d/exim4 start
        """,
}


@dataclass(frozen=True)
class GuestCA:
    """A CA in memory: its certificate is what the guest's organisation gives to others."""

    certificate: x509.Certificate
    key: PrivateKey = field(repr=False)

    @classmethod
    def create(cls, name: str) -> GuestCA:
        """A new CA with this common name."""
        key = key_type("ec-p256", use="ca").generate()
        certificate = ca_certificate(
            DistinguishedName(name), key, serial=x509.random_serial_number(), now=datetime.now(UTC), valid_days=_DAYS
        )
        return cls(certificate, key)

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)


@dataclass(frozen=True)
class Guest:
    """A guest that speaks TLS as server and as client, with a certificate of its organisation's ``ca``.

    It has one of an impostor too: a CA of the same name with another key. (GnuTLS, which Exim uses on Debian, shows no
    certificate to a server that does not name its CA: one of any other name would never be seen.) Methods raise
    CommandFailed where the mail server does not come back with what it is told.
    """

    name: str
    host: Host
    ca_name: str
    ca: GuestCA

    @classmethod
    def bring_up(cls, testbed: Testbed, name: str, *, trusts: bytes = b"") -> Guest:
        """Bring one of the testbed's GUESTS up, with certificates, and let it speak TLS. Raises SetUpError.

        It verifies others by its own CA and by those of ``trusts`` (PEM).
        """
        ca_name = f"{name.capitalize()} Partner CA"
        guest = cls(name, testbed.guest(name), ca_name, GuestCA.create(ca_name))
        guest._certify("own", guest.ca)
        guest._certify("impostor", GuestCA.create(ca_name))
        guest.host.write(_TRUSTED, guest.ca.pem + trusts, mode=0o644, owner="root:root")
        guest.speak()
        return guest

    @property
    def hostname(self) -> str:
        return f"{self.name}.{DOMAIN}"

    def speak(self, *, client_certificate: ClientCertificate = "own", starttls: bool = True) -> None:
        """Show this certificate as a client, and offer STARTTLS as a server or do not; its mail server is restarted."""
        shown = "" if client_certificate == "none" else _file(client_certificate)
        if self.name == "postfix":
            self._run("postconf", "-e", *_postfix_settings(shown, starttls=starttls))
        else:
            macros = "".join(f"{line}\n" for line in _exim_macros(shown, starttls=starttls)).encode()
            self.host.write("/etc/exim4/exim4.conf.localmacros", macros, mode=0o644, owner="root:root")
        self._run("sh", "-c", _RESTART[self.name])
        self._run("/usr/local/lib/testbed/ready", "20")

    def _certify(self, which: ClientCertificate, ca: GuestCA) -> None:
        # Exim reads its key as its own user, Postfix as root.
        group = "root" if self.name == "postfix" else "Debian-exim"
        argv = ("sh", "-c", _MAKE_KEY, "sh", _file(which), group, *key_type("ec-p256", use="host").genpkey_argv)
        public_key = load_pem_public_key(self._run(*argv))
        certificate = mail_server_certificate(
            public_key,  # type: ignore[arg-type]  # an EC key, as asked for
            (self.hostname,),
            roles="both",
            issuer=ca.certificate,
            issuer_key=ca.key,
            serial=x509.random_serial_number(),
            now=datetime.now(UTC),
            valid_days=_DAYS - 1,
        )
        self._run("tee", "-a", _file(which), stdin=certificate.public_bytes(Encoding.PEM))

    def _run(self, *argv: str, stdin: bytes = b"") -> bytes:
        done = self.host.run(argv, stdin=stdin, timeout_s=_TIMEOUT_S)
        return done.check(f"setting {GUESTS[self.name]} up").stdout


def _file(which: ClientCertificate) -> str:
    return f"{_DIRECTORY}/{which}.pem"


def _postfix_settings(shown: str, *, starttls: bool) -> tuple[str, ...]:
    """postconf(5). Log level 1 tells of each connection whether the other side was verified."""
    return (
        f"smtpd_tls_security_level = {'may' if starttls else 'none'}",
        f"smtpd_tls_cert_file = {_file('own')}",
        f"smtpd_tls_key_file = {_file('own')}",
        f"smtpd_tls_CAfile = {_TRUSTED}",
        "smtpd_tls_ask_ccert = yes",
        "smtpd_tls_loglevel = 1",
        f"smtp_tls_cert_file = {shown}",
        f"smtp_tls_key_file = {shown}",
        f"smtp_tls_CAfile = {_TRUSTED}",
        "smtp_tls_CApath =",
        "smtp_tls_loglevel = 1",
        # Each connection shows its certificate anew.
        "smtp_tls_session_cache_database =",
    )


def _exim_macros(shown: str, *, starttls: bool) -> tuple[str, ...]:
    """The macros of Debian's configuration (README.Debian of exim4-config). CV=yes in the log: verified."""
    return (
        # The testbed's addresses are private ones, to which Debian's router sends nothing.
        "ROUTER_DNSLOOKUP_IGNORE_TARGET_HOSTS = <; 127.0.0.0/8",
        "MAIN_TLS_ENABLE = yes",
        f"MAIN_TLS_ADVERTISE_HOSTS = {'*' if starttls else ''}",
        f"MAIN_TLS_CERTKEY = {_file('own')}",
        f"MAIN_TLS_VERIFY_CERTIFICATES = {_TRUSTED}",
        "MAIN_TLS_TRY_VERIFY_HOSTS = *",
        *((f"REMOTE_SMTP_TLS_CERTIFICATE = {shown}", f"REMOTE_SMTP_PRIVATEKEY = {shown}") if shown else ()),
    )
