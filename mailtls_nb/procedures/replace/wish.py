"""What 09-replace-ca is asked for."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, get_args

from mailtls_nb.errors import BadParameter
from mailtls_nb.hosts.address import HostAddress, host_addresses
from mailtls_nb.names import DistinguishedName, hostnames
from mailtls_nb.parameters import whole_number, word
from mailtls_nb.pki.profiles import LONGEST_VALIDITY_DAYS, key_type
from mailtls_nb.procedures.procedure import Values, check_common
from mailtls_nb.procedures.signing_ca import SigningCA

# both: hosts and partners come to trust both CAs; also the way back from reissue. reissue: hosts show certificates of
# the new one. withdraw: our hosts no longer trust the old one. cancel: the way back from both.
Stage = Literal["both", "reissue", "withdraw", "cancel"]
_LONGEST_SLUG = 60


@dataclass(frozen=True)
class ReplaceWish:
    """The parameters of 09, validated. ``key_type`` is empty for one like the old CA's."""

    stage: Stage
    new_common_name: str
    hosts: tuple[HostAddress, ...]
    partners_confirmed: tuple[str, ...]
    valid_days: int
    key_type: str
    probe_from: HostAddress | None
    ca: SigningCA

    @property
    def is_testbed(self) -> bool:
        """Every host and the CA directory are the testbed's, so that mail may be sent for a proof."""
        probe_is = self.probe_from is not None and self.probe_from.is_testbed
        return self.ca.is_testbed and probe_is and all(host.is_testbed for host in self.hosts)

    def new_directory(self, old: Path) -> Path:
        """The directory of the new CA, beside that of the old one."""
        plain = unicodedata.normalize("NFKD", self.new_common_name).encode("ascii", "ignore").decode().lower()
        slug = "-".join(re.findall("[a-z0-9]+", plain))[:_LONGEST_SLUG].strip("-") or "next"
        return old.with_name(f"{old.name}-{slug}")

    def as_data(self) -> dict[str, str | int]:
        """The wish as it goes into the plan and its digest."""
        return {
            "stage": self.stage,
            "new_common_name": self.new_common_name,
            "hosts": ",".join(map(str, self.hosts)),
            "partners_confirmed": ",".join(self.partners_confirmed),
            "valid_days": self.valid_days,
            "key_type": self.key_type,
            "probe_from": str(self.probe_from) if self.probe_from else "here",
            "ca_dir": self.ca.directory,
        }


def read_wish(values: Values) -> ReplaceWish:
    """Validate the parameters of 09; raises BadParameter, naming the parameter."""
    texts = {name: str(value) for name, value in values.items()}
    check_common(values)
    word("stage", texts["stage"], get_args(Stage))
    stage: Stage = next(stage for stage in get_args(Stage) if stage == texts["stage"])
    hosts = host_addresses("hosts", texts["hosts"])
    if not hosts:
        raise BadParameter("hosts", "is empty", do="name every mail server of yours that uses this CA, comma-separated")
    probe = None if texts["probe_from"] == "here" else HostAddress.parse("probe_from", texts["probe_from"])
    if probe in hosts:
        raise BadParameter("probe_from", f"{probe} is one of hosts", do="name another host, or here")
    try:
        name = DistinguishedName(texts["new_common_name"]).common_name
    except BadParameter as error:
        raise BadParameter("new_common_name", error.problem) from error
    if texts["key_type"]:
        key_type(texts["key_type"], use="ca")
    return ReplaceWish(
        stage=stage,
        new_common_name=name,
        hosts=hosts,
        partners_confirmed=hostnames("partners_confirmed", texts["partners_confirmed"]),
        valid_days=whole_number("valid_days", int(values["valid_days"]), 1, LONGEST_VALIDITY_DAYS, "days"),
        key_type=texts["key_type"],
        probe_from=probe,
        ca=SigningCA.parse(texts["ca_dir"], texts["ca_passphrase"]),
    )
