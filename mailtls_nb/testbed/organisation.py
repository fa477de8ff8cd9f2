"""The testbed's partner as another organisation: it has a CA of its own and shows certificates of that CA.

Its CA lies below the testbed's state directory and goes with it; its key is under the testbed's passphrase. On its
host a certificate of that CA is in service, as server and as client, and our CA is trusted where there is one.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.types import CertificatePublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, load_pem_public_key

from mailtls_nb.apply.transaction import Transaction, heal
from mailtls_nb.hosts.base import Host
from mailtls_nb.names import DistinguishedName
from mailtls_nb.observe.layout import observe_layout
from mailtls_nb.observe.needed_file import needed_file
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.profiles import Roles, key_type
from mailtls_nb.pki.succession import successor
from mailtls_nb.sendmail.mc import cf_options, managed_settings, tls_settings, with_managed_block
from mailtls_nb.testbed.testbed import DOMAIN, Testbed

CA_NAME = "Partner Mail CA"
HOSTNAME = f"partner.{DOMAIN}"
# Where its mail server keeps certificate with key, and the CAs that it trusts.
DIRECTORY = "/etc/mail/partner-certs"

_CERTIFICATE = f"{DIRECTORY}/{HOSTNAME}.pem"
_TRUSTED = f"{DIRECTORY}/trusted.pem"
_KEY = f"{DIRECTORY}/new.key"
_OWNER = "root:root"
_CA_DAYS, _CERTIFICATE_DAYS = 3650, 365
_SETTINGS = tls_settings(roles="both", certificate=_CERTIFICATE, ca_certificate=_TRUSTED, ca_path=DIRECTORY)

# $1: the certificate's file, $2: the file of trusted CAs. Both are small; the key is not printed.
_LOOK = r"""
openssl x509 -in "$1" 2>/dev/null
echo "## mailtls-nb"
cat "$2" 2>/dev/null
echo "## mailtls-nb"
grep '^O [CS][AaEeLl][A-Za-z]*=' /etc/mail/sendmail.cf
echo "## mailtls-nb"
ls /var/lib/mailtls-nb/transaction 2>/dev/null
"""
_MAKE_KEY = 'umask 077; rm -f "$1"; out=$1; shift; "$@" >"$out" && openssl pkey -in "$out" -pubout'
_JOIN = 'umask 077; { cat && cat "$1"; } >"$2.new" && mv -f "$2.new" "$2" && rm -f "$1"'


@dataclass(frozen=True)
class PartnerOrganisation:
    """The partner's CA as its keeper sees it; ``ca_certificate`` is the file that it gives to others."""

    directory: CADirectory
    testbed: Testbed

    @property
    def ca_certificate(self) -> Path:
        return self.directory.layout.certificate

    @property
    def fingerprint(self) -> str:
        """SHA-256 of the CA certificate in hex with colons."""
        return self.directory.fingerprint

    def issue(
        self,
        public_key: CertificatePublicKeyTypes,
        *,
        names: tuple[str, ...] = (HOSTNAME,),
        roles: Roles = "both",
        valid_days: int = _CERTIFICATE_DAYS,
    ) -> x509.Certificate:
        """A certificate of this CA for a key that was made elsewhere."""
        return self.directory.issue(
            public_key,
            names,
            roles=roles,
            valid_days=valid_days,
            passphrase=self.testbed.passphrase(),
            now=datetime.now(UTC),
        )


def partner_organisation(testbed: Testbed, *, host: Host | None = None) -> PartnerOrganisation:
    """The testbed's partner as another organisation, made so where it is not yet; where it is, that costs one look.

    ``host`` is the partner's host where its commands are to be recorded. Raises NotReady and ChangeFailed.
    """
    partner = host or testbed.host("partner")
    organisation = PartnerOrganisation(_ca(testbed), testbed)
    trusted = _trusted(testbed, organisation)
    if not _is_in_service(partner, organisation, trusted):
        _put_into_service(partner, organisation, trusted)
    return organisation


def _ca(testbed: Testbed) -> CADirectory:
    return CADirectory.create(
        testbed.partner_ca_dir,
        DistinguishedName(CA_NAME),
        key_type("ec-p256", use="ca"),
        valid_days=_CA_DAYS,
        passphrase=testbed.passphrase(),
        now=datetime.now(UTC),
    )


def _trusted(testbed: Testbed, organisation: PartnerOrganisation) -> bytes:
    """Whom the partner verifies by (PEM): its own CA, and ours where there is one."""
    certificates = [organisation.directory.ca_certificate]
    for directory in _our_cas(testbed):
        certificates += x509.load_pem_x509_certificates((directory / "cacert.pem").read_bytes())
    return b"".join(certificate.public_bytes(Encoding.PEM) for certificate in certificates)


def _our_cas(testbed: Testbed) -> Iterator[Path]:
    """The directories of our CAs that a partner is told to trust now: during a change of the CA there are two."""
    if not (testbed.ca_dir / "cacert.pem").exists():
        return
    follows = successor(CADirectory.open(testbed.ca_dir).layout)
    if follows is None or follows.stage != "withdrawn":
        yield testbed.ca_dir
    if follows is not None:
        yield follows.directory


def _is_in_service(partner: Host, organisation: PartnerOrganisation, trusted: bytes) -> bool:
    argv = ("sh", "-c", _LOOK, "sh", _CERTIFICATE, _TRUSTED)
    certificate, there, options, interrupted = partner.run(argv, timeout_s=30).text.split("## mailtls-nb\n")
    settings = {f"O {option}={path}" for option, path in cf_options(_SETTINGS).items()}
    if interrupted.strip() or there.encode() != trusted or not settings <= set(options.splitlines()):
        return False
    if "BEGIN CERTIFICATE" not in certificate:
        return False
    shown = x509.load_pem_x509_certificate(certificate.encode())
    try:
        shown.verify_directly_issued_by(organisation.directory.ca_certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return shown.not_valid_after_utc > datetime.now(UTC)


def _put_into_service(partner: Host, organisation: PartnerOrganisation, trusted: bytes) -> None:
    layout = observe_layout(partner)
    if layout.interrupted:
        heal(partner, layout)
        layout = observe_layout(partner)
    with Transaction(partner, layout) as change:
        mc = needed_file(partner, layout.mc)
        settings = (managed_settings(mc, name=layout.mc) or {}) | _SETTINGS
        change.make_directory(DIRECTORY, mode=0o700, owner=_OWNER)
        argv = ("sh", "-c", _MAKE_KEY, "sh", _KEY, *key_type("ec-p256", use="host").genpkey_argv)
        made = change.run(argv, changes=(_KEY,)).check("making the partner's key")
        public_key = load_pem_public_key(made.stdout)
        certificate = organisation.issue(public_key)  # type: ignore[arg-type]  # an EC key, as asked for
        joined = change.run(
            ("sh", "-c", _JOIN, "sh", _KEY, _CERTIFICATE),
            changes=(_CERTIFICATE, f"{_CERTIFICATE}.new", _KEY),
            stdin=certificate.public_bytes(Encoding.PEM),
        )
        joined.check("putting the partner's certificate and key into one file")
        change.write(_TRUSTED, trusted, mode=0o600, owner=_OWNER)
        change.write(layout.mc, with_managed_block(mc, settings, name=layout.mc), mode=0o644, owner=_OWNER)
        change.build(cf_options(settings))
        change.reload()
