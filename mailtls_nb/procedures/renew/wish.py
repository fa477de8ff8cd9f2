"""What 06-renew-certificate is asked for."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from mailtls_nb.errors import BadParameter
from mailtls_nb.hosts.address import HostAddress
from mailtls_nb.names import hostname
from mailtls_nb.parameters import whole_number, word
from mailtls_nb.procedures.procedure import Values, check_common
from mailtls_nb.procedures.signing_ca import SigningCA

_LONGEST_DAYS = 3650


@dataclass(frozen=True)
class RenewWish:
    """The parameters of 06, validated. What is renewed, and as what, is found on the host."""

    hostname: str
    renew_before_days: int
    keeps_key: bool
    revokes_old: bool
    host: HostAddress
    probe_from: HostAddress | None
    ca: SigningCA

    @property
    def is_testbed(self) -> bool:
        """Both hosts and the CA directory are the testbed's."""
        return (
            self.ca.is_testbed and self.host.is_testbed and self.probe_from is not None and self.probe_from.is_testbed
        )

    @property
    def renew_before(self) -> timedelta:
        return timedelta(days=self.renew_before_days)

    def as_data(self) -> dict[str, str | int]:
        """The wish as it goes into the plan and its digest."""
        return {
            "hostname": self.hostname,
            "renew_before_days": self.renew_before_days,
            "key": "same" if self.keeps_key else "new",
            "revoke_old": "yes" if self.revokes_old else "no",
            "host": str(self.host),
            "probe_from": str(self.probe_from) if self.probe_from else "here",
            "ca_dir": self.ca.directory,
        }


def read_wish(values: Values) -> RenewWish:
    """Validate the parameters of 06; raises BadParameter, naming the parameter."""
    texts = {name: str(value) for name, value in values.items()}
    check_common(values)
    host = HostAddress.parse("host", texts["host"])
    probe = None if texts["probe_from"] == "here" else HostAddress.parse("probe_from", texts["probe_from"])
    if probe == host:
        raise BadParameter("probe_from", f"{probe} is the host itself", do="name a second host, or here")
    before = whole_number("renew_before_days", int(values["renew_before_days"]), 0, _LONGEST_DAYS, "days")
    return RenewWish(
        hostname=hostname("hostname", texts["hostname"]),
        renew_before_days=before,
        keeps_key=word("key", texts["key"], ("new", "same")) == "same",
        revokes_old=word("revoke_old", texts["revoke_old"], ("no", "yes")) == "yes",
        host=host,
        probe_from=probe,
        ca=SigningCA.parse(texts["ca_dir"], texts["ca_passphrase"]),
    )
