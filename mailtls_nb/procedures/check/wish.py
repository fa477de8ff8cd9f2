"""What 07-check-host is asked for."""

from __future__ import annotations

from dataclasses import dataclass

from mailtls_nb.errors import BadParameter
from mailtls_nb.hosts.address import HostAddress
from mailtls_nb.parameters import absolute_path, whole_number
from mailtls_nb.procedures.procedure import Values, check_audit_dir

_MOST_DAYS = 3650


@dataclass(frozen=True)
class CheckWish:
    """The parameters of 07, validated.

    ``warn_days``: what ends within so many days is a finding. ``textfile``: a file here, empty for none.
    ``ca_dir``: a CA directory here to be looked at too, ``testbed`` for the testbed's own, empty for none.
    """

    host: HostAddress
    probe_from: HostAddress | None
    warn_days: int
    textfile: str
    ca_dir: str = ""

    @property
    def probe_name(self) -> str:
        """From where port 25 is looked at, in the operator's words."""
        return str(self.probe_from) if self.probe_from else "here"


def read_wish(values: Values) -> CheckWish:
    """Validate the parameters of 07; raises BadParameter, naming the parameter."""
    check_audit_dir(values)
    host = HostAddress.parse("host", str(values["host"]))
    probe = None if values["probe_from"] == "here" else HostAddress.parse("probe_from", str(values["probe_from"]))
    if probe == host:
        raise BadParameter("probe_from", f"{probe} is the host itself", do="name a second host, or here")
    textfile, ca_dir = str(values["textfile"]), str(values["ca_dir"])
    return CheckWish(
        host=host,
        probe_from=probe,
        warn_days=whole_number("warn_days", int(values["warn_days"]), 0, _MOST_DAYS, "days"),
        textfile=str(absolute_path("textfile", textfile)) if textfile else "",
        ca_dir=str(absolute_path("ca_dir", ca_dir)) if ca_dir not in ("", "testbed") else ca_dir,
    )
