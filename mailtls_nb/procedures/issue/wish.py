"""What 02-issue-certificate is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from cryptography import x509

from mailtls_nb.errors import BadParameter
from mailtls_nb.hosts.address import HostAddress
from mailtls_nb.names import hostname, hostnames
from mailtls_nb.parameters import absolute_path, whole_number
from mailtls_nb.pki.profiles import LONGEST_VALIDITY_DAYS, KeyType, Roles, key_type, valid_roles
from mailtls_nb.procedures.procedure import Values, check_common
from mailtls_nb.procedures.signing_ca import SigningCA

Way = Literal["install", "sign", "request", "external"]

# What sendmail.mc can name without any quoting question: the same as the managed block allows.
_CERT_DIR = re.compile(r"/[A-Za-z0-9/._+@:=-]*[A-Za-z0-9._+@:=-]")


@dataclass(frozen=True)
class Renewal:
    """The certificate in service that a new one of the same kind is to take the place of, and why."""

    replaces: x509.Certificate
    reason: str
    keeps_key: bool
    before_days: int

    def is_met_by(self, candidate: x509.Certificate, now: datetime) -> bool:
        """Whether a certificate is younger than the one replaced, and not itself due."""
        is_younger = candidate.not_valid_before_utc > self.replaces.not_valid_before_utc
        return is_younger and candidate.not_valid_after_utc - now > timedelta(days=self.before_days)


@dataclass(frozen=True)
class IssueWish:
    """The parameters of 02, validated.

    ``way`` is ``install`` (our CA signs, the host uses it), ``sign`` (a request from a file, nothing installed),
    ``request`` (key and request for a CA elsewhere) or ``external`` (install what that CA sent back). With ``renewal``
    (06-renew-certificate) the certificate installed is replaced though it is as wished. ``ca_end`` is given where the
    CA may end before ``valid_days`` are over: the certificate then ends with it, which is the same plan on each day.
    """

    way: Way
    names: tuple[str, ...]
    roles: Roles
    key_type: KeyType
    valid_days: int
    cert_dir: str
    csr: str
    external_certificate: str
    host: HostAddress
    probe_from: HostAddress | None
    ca: SigningCA | None
    renewal: Renewal | None = None
    ca_end: datetime | None = None

    @property
    def hostname(self) -> str:
        return self.names[0]

    @property
    def on_testbed(self) -> bool:
        """Both hosts are the testbed's, so that mail may be sent for a proof."""
        return self.host.is_testbed and self.probe_from is not None and self.probe_from.is_testbed

    @property
    def is_testbed(self) -> bool:
        """Every host and the CA directory that this way uses are the testbed's."""
        return (self.ca is None or self.ca.is_testbed) and (self.way == "sign" or self.on_testbed)

    @property
    def certificate_path(self) -> str:
        """The file on the host that holds the certificate and its key; one for each role that has its own."""
        role = "" if self.roles == "both" else f"-{self.roles}"
        return f"{self.cert_dir}/{self.hostname}{role}.pem"

    @property
    def ca_certificate_path(self) -> str:
        """The file on the host with the CA certificates that are trusted and advertised (confCACERT)."""
        return f"{self.cert_dir}/cacert.pem"

    @property
    def new_key_path(self) -> str:
        """Where a new key lies until its certificate is there; a key for a CA elsewhere stays there for days."""
        suffix = "pending" if self.way in ("request", "external") else "new"
        return f"{self.certificate_path.removesuffix('.pem')}.{suffix}.key"

    def days_from(self, now: datetime) -> int:
        """For how many whole days a certificate that is signed now is valid; below 1 where the CA is at its end."""
        if self.ca_end is None:
            return self.valid_days
        return min(self.valid_days, whole_days(now, self.ca_end))

    @property
    def lifetime(self) -> dict[str, str | int]:
        """The lifetime as it goes into a plan: it does not change with the day."""
        until: dict[str, str | int] = {"valid_until": f"{self.ca_end:%Y-%m-%d}"} if self.ca_end else {}
        return {"valid_days": self.valid_days, **until}

    def as_data(self) -> dict[str, str | int]:
        """The wish as it goes into the plan and its digest."""
        renewal: dict[str, str | int] = {}
        if self.renewal is not None:
            serial = f"{self.renewal.replaces.serial_number:X}"
            renewal = {"replaces": serial, "key": "same" if self.renewal.keeps_key else "new"}
        return {
            "way": self.way,
            "names": ",".join(self.names),
            "roles": self.roles,
            "key_type": self.key_type.word,
            **self.lifetime,
            "cert_dir": self.cert_dir,
            "csr": self.csr,
            "external_certificate": self.external_certificate,
            "host": str(self.host),
            "probe_from": str(self.probe_from) if self.probe_from else "here",
            "ca_dir": self.ca.directory if self.ca else "",
            **renewal,
        }


def whole_days(now: datetime, end: datetime) -> int:
    """The whole days from now to an end. Certificates have whole seconds."""
    return (end - now.replace(microsecond=0)) // timedelta(days=1)


def read_wish(values: Values) -> IssueWish:
    """Validate the parameters of 02; raises BadParameter, naming the parameter."""
    texts = {name: str(value) for name, value in values.items()}
    check_common(values)
    csr, external = texts["csr"], texts["external_certificate"]
    if csr and external:
        raise BadParameter("csr", "cannot be used together with external_certificate", do="give one of the two")
    way: Way = "sign" if csr else "request" if external == "request" else "external" if external else "install"
    first = hostname("hostname", texts["hostname"])
    if len(first) > 64:
        raise BadParameter(
            "hostname",
            f"{first} is longer than the 64 characters that a certificate's common name may have (RFC 5280)",
            do="give a shorter name of the host here, and the long one in dns_names",
        )
    others = tuple(name for name in hostnames("dns_names", texts["dns_names"]) if name != first)
    host = HostAddress.parse("host", texts["host"])
    probe = None if texts["probe_from"] == "here" else HostAddress.parse("probe_from", texts["probe_from"])
    if probe == host and way != "sign":
        raise BadParameter("probe_from", f"{probe} is the host itself", do="name a second host, or here")
    return IssueWish(
        way=way,
        names=(first, *others),
        roles=valid_roles(texts["roles"]),
        key_type=key_type(texts["key_type"], use="host"),
        valid_days=whole_number("valid_days", int(values["valid_days"]), 1, LONGEST_VALIDITY_DAYS, "days"),
        cert_dir=_cert_dir(texts["cert_dir"]),
        csr=str(absolute_path("csr", csr)) if csr else "",
        external_certificate=str(absolute_path("external_certificate", external)) if way == "external" else "",
        host=host,
        probe_from=probe,
        ca=SigningCA.parse(texts["ca_dir"], texts["ca_passphrase"]) if way in ("install", "sign") else None,
    )


def _cert_dir(value: str) -> str:
    path = str(absolute_path("cert_dir", value))
    if not _CERT_DIR.fullmatch(path) or "//" in path or "/../" in f"{path}/":
        raise BadParameter(
            "cert_dir",
            f"{value!r:.200} cannot be named in sendmail.mc",
            do="use letters, digits and . _ + @ : = - only, for instance /etc/mail/certs",
        )
    return path
