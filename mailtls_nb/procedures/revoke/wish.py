"""What 05-revoke-certificate is asked for."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from mailtls_nb.errors import BadParameter
from mailtls_nb.hosts.address import HostAddress, host_addresses
from mailtls_nb.names import hostname, shown
from mailtls_nb.parameters import whole_number, word
from mailtls_nb.pki.crl import LONGEST_CRL_DAYS
from mailtls_nb.pki.index import serial_text
from mailtls_nb.pki.revocation import Reason, revocation_reason
from mailtls_nb.procedures.procedure import Values, check_common
from mailtls_nb.procedures.signing_ca import SigningCA
from mailtls_nb.testbed.shown_certificates import LOST_HOSTNAME

# As openssl, browsers and people write one: "serial=0A1B", "0x0a1b", "0A:1B".
_LABEL = re.compile(r"(serial(\s+number)?\s*[=:]?\s*|0x)", re.IGNORECASE)
_SEPARATORS = re.compile(r"[\s:]+")
_HEX = re.compile(r"[0-9A-Fa-f]{1,40}")
_ACTIONS = ("revoke", "refresh")


@dataclass(frozen=True)
class RevokeWish:
    """The parameters of 05, validated.

    ``hostname`` is empty where serials are given. ``shows_lost_key``: neither was given, on the testbed: there the
    certificate of a host is revoked whose key was lost on purpose.
    """

    action: Literal["revoke", "refresh"]
    serials: tuple[int, ...]
    hostname: str
    reason: Reason
    crl_days: int
    crl_hosts: tuple[HostAddress, ...]
    probe_from: HostAddress | None
    ca: SigningCA
    shows_lost_key: bool

    @property
    def revokes(self) -> bool:
        return self.action == "revoke"

    @property
    def on_testbed(self) -> bool:
        """All hosts are the testbed's."""
        probe_is = self.probe_from is not None and self.probe_from.is_testbed
        return probe_is and all(host.is_testbed for host in self.crl_hosts)

    @property
    def is_testbed(self) -> bool:
        """Every host and the CA directory are the testbed's."""
        return self.ca.is_testbed and self.on_testbed

    @property
    def what(self) -> str:
        """What is to be revoked, in the operator's words."""
        if not self.revokes:
            return "nothing"
        return self.hostname or ", ".join(serial_text(serial) for serial in self.serials)

    def as_data(self) -> dict[str, str | int]:
        """The wish as it goes into the plan and its digest."""
        return {
            "action": self.action,
            "serials": ",".join(serial_text(serial) for serial in self.serials),
            "hostname": self.hostname,
            "revocation_reason": self.reason,
            "crl_days": self.crl_days,
            "crl_hosts": ",".join(map(str, self.crl_hosts)),
            "probe_from": str(self.probe_from) if self.probe_from else "here",
            "ca_dir": self.ca.directory,
        }


def read_wish(values: Values) -> RevokeWish:
    """Validate the parameters of 05; raises BadParameter, naming the parameter."""
    texts = {name: str(value) for name, value in values.items()}
    check_common(values)
    action: Literal["revoke", "refresh"] = (
        "revoke" if word("action", texts["action"], _ACTIONS) == "revoke" else "refresh"
    )
    serials = _serials(texts["serial"])
    name = hostname("hostname", texts["hostname"]) if texts["hostname"] else ""
    if serials and name:
        raise BadParameter("serial", "cannot be used together with hostname", do="give one of the two")
    if action == "refresh" and (serials or name):
        raise BadParameter(
            "serial" if serials else "hostname",
            "is not used to refresh: the CRL lists whatever is revoked",
            do="leave it empty, or give action revoke",
        )
    reason = revocation_reason(texts["revocation_reason"])
    hosts = host_addresses("crl_hosts", texts["crl_hosts"])
    probe = None if texts["probe_from"] == "here" else HostAddress.parse("probe_from", texts["probe_from"])
    if probe in hosts:
        raise BadParameter("probe_from", f"{probe} is one of crl_hosts", do="name another host, or here")
    ca = SigningCA.parse(texts["ca_dir"], texts["ca_passphrase"])
    shows_lost_key = action == "revoke" and not serials and not name and ca.is_testbed
    if action == "revoke" and not (serials or name or shows_lost_key):
        raise BadParameter(
            "serial",
            "is empty, and so is hostname: nothing says what is to be revoked",
            do="give the serial number (07-check-host and `openssl x509 -noout -serial` print it), or the hostname to "
            "revoke all its valid certificates; to sign and distribute a new CRL only, give action refresh",
        )
    return RevokeWish(
        action=action,
        serials=serials,
        hostname=LOST_HOSTNAME if shows_lost_key else name,
        reason=reason,
        crl_days=whole_number("crl_days", int(values["crl_days"]), 1, LONGEST_CRL_DAYS, "days"),
        crl_hosts=hosts,
        probe_from=probe,
        ca=ca,
        shows_lost_key=shows_lost_key,
    )


def _serials(text: str) -> tuple[int, ...]:
    """Serial numbers in hex, comma-separated, in any usual spelling; raises BadParameter."""
    found = []
    for item in text.split(",") if text.strip() else ():
        digits = _SEPARATORS.sub("", _LABEL.sub("", item.strip(), count=1))
        if not _HEX.fullmatch(digits) or int(digits, 16) == 0:
            raise BadParameter(
                "serial",
                f"{shown(item.strip())} is not a serial number: at most 40 hexadecimal digits, as "
                "`openssl x509 -noout -serial` prints it",
            )
        found.append(int(digits, 16))
    return tuple(dict.fromkeys(found))
