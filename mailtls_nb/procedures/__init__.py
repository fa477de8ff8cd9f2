"""The procedures behind the runbooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mailtls_nb.procedures.create_ca import CreateCA
from mailtls_nb.procedures.enforce_access import EnforceAccess
from mailtls_nb.procedures.issue_certificate import IssueCertificate
from mailtls_nb.procedures.procedure import Procedure
from mailtls_nb.procedures.trust_partner import TrustPartner

PROCEDURES: Mapping[str, Procedure[Any, Any]] = {
    procedure.runbook: procedure for procedure in (CreateCA(), IssueCertificate(), TrustPartner(), EnforceAccess())
}
