"""What 03-trust-partner is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from mailtls_nb.errors import BadParameter
from mailtls_nb.hosts.address import HostAddress
from mailtls_nb.names import partner_name
from mailtls_nb.parameters import absolute_path, word
from mailtls_nb.pki.partner_ca import read_fingerprints
from mailtls_nb.procedures.procedure import Values, check_common

_TESTBED = "testbed"
_TESTBED_PARTNER = "partner.example.test"
# A file's name has at most 255 octets, and the fingerprint alone makes ours unlike another.
_LONGEST_NAME_IN_FILE = 180


@dataclass(frozen=True)
class TrustWish:
    """The parameters of 03, validated.

    ``partner_ca`` is a file here, or ``testbed``: the CA of the testbed's partner, with the fingerprint that the
    testbed knows by itself where ``fingerprints`` is empty.
    """

    action: Literal["trust", "untrust"]
    partner: str
    partner_ca: str
    fingerprints: tuple[str, ...]
    partner_crl: str
    host: HostAddress
    probe_from: HostAddress | None

    @property
    def trusts(self) -> bool:
        return self.action == "trust"

    @property
    def is_testbed(self) -> bool:
        """Every host that this run touches is the testbed's, so that mail may be sent for a proof."""
        return self.host.is_testbed and self.probe_from is not None and self.probe_from.is_testbed

    @property
    def of_testbeds_partner(self) -> bool:
        """Whether the CA is that of the testbed's partner."""
        return self.partner_ca == _TESTBED

    def file_name(self, fingerprint: str, kind: Literal["pem", "crl"]) -> str:
        """The name of the file for one CA certificate, or for its CRL, on the host."""
        return f"partner-{self.partner[:_LONGEST_NAME_IN_FILE]}-{fingerprint[:12]}.{kind}"

    def as_data(self) -> dict[str, str | int]:
        """The wish as it goes into the plan and its digest."""
        return {
            "action": self.action,
            "partner": self.partner,
            "partner_ca": self.partner_ca,
            "fingerprints": ",".join(self.fingerprints),
            "partner_crl": self.partner_crl,
            "host": str(self.host),
            "probe_from": str(self.probe_from) if self.probe_from else "here",
        }


def read_wish(values: Values) -> TrustWish:
    """Validate the parameters of 03; raises BadParameter, naming the parameter."""
    texts = {name: str(value) for name, value in values.items()}
    check_common(values)
    action: Literal["trust", "untrust"] = (
        "trust" if word("action", texts["action"], ("trust", "untrust")) == "trust" else "untrust"
    )
    partner = partner_name("partner", texts["partner"])
    host = HostAddress.parse("host", texts["host"])
    probe = None if texts["probe_from"] == "here" else HostAddress.parse("probe_from", texts["probe_from"])
    if probe == host:
        raise BadParameter("probe_from", f"{probe} is the host itself", do="name a second host, or here")
    partner_ca = texts["partner_ca"]
    if partner_ca == _TESTBED:
        _check_testbed(host, partner)
    else:
        partner_ca = str(absolute_path("partner_ca", partner_ca))
    crl = str(absolute_path("partner_crl", texts["partner_crl"])) if texts["partner_crl"] else ""
    if crl and action == "untrust":
        raise BadParameter("partner_crl", "is not used to untrust: a CA's CRL goes with it", do="leave it empty")
    return TrustWish(
        action=action,
        partner=partner,
        partner_ca=partner_ca,
        fingerprints=_fingerprints(texts["partner_ca_fingerprint"], partner_ca, action),
        partner_crl=crl,
        host=host,
        probe_from=probe,
    )


def _check_testbed(host: HostAddress, partner: str) -> None:
    if not host.is_testbed:
        raise BadParameter(
            "partner_ca",
            f"testbed is the CA of the testbed's partner, and {host} is no host of the testbed",
            do="give the file that the partner sent",
        )
    if partner != _TESTBED_PARTNER:
        raise BadParameter("partner_ca", f"testbed is the CA of {_TESTBED_PARTNER}, not of {partner}", do="give a file")


def _fingerprints(text: str, partner_ca: str, action: str) -> tuple[str, ...]:
    """The fingerprints given; none where the testbed knows it, or where something is only to be taken away."""
    parameter = "partner_ca_fingerprint"
    if text == _TESTBED:
        if partner_ca == _TESTBED:
            return ()
        raise BadParameter(
            parameter,
            "testbed is the fingerprint of the testbed's own partner only",
            do="give the SHA-256 fingerprint that the partner told you by another way than the file came"
            + (", or leave it empty to untrust" if action == "untrust" else ""),
        )
    found = read_fingerprints(parameter, text)
    if not found and action == "trust":
        raise BadParameter(
            parameter,
            "is empty, so nothing would say that the CA is the partner's",
            do="ask the partner for its CA's SHA-256 fingerprint by another way than the file came (a telephone number "
            "that you had before)",
        )
    return found
