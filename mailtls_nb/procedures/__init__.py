"""The procedures behind the runbooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mailtls_nb.procedures.create_ca import CreateCA
from mailtls_nb.procedures.issue_certificate import IssueCertificate
from mailtls_nb.procedures.procedure import Procedure

PROCEDURES: Mapping[str, Procedure[Any, Any]] = {
    procedure.runbook: procedure for procedure in (CreateCA(), IssueCertificate())
}
