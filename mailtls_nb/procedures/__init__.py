"""The procedures behind the runbooks."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from mailtls_nb.procedures.check_host import CheckHost
from mailtls_nb.procedures.create_ca import CreateCA
from mailtls_nb.procedures.enforce_access import EnforceAccess
from mailtls_nb.procedures.issue_certificate import IssueCertificate
from mailtls_nb.procedures.procedure import Observing
from mailtls_nb.procedures.renew_certificate import RenewCertificate
from mailtls_nb.procedures.replace_ca import ReplaceCA
from mailtls_nb.procedures.revoke_certificate import RevokeCertificate
from mailtls_nb.procedures.trust_partner import TrustPartner

_ALL: tuple[Observing[Any, Any], ...] = (
    CreateCA(),
    IssueCertificate(),
    TrustPartner(),
    EnforceAccess(),
    RevokeCertificate(),
    RenewCertificate(),
    CheckHost(),
    ReplaceCA(),
)
PROCEDURES: Mapping[str, Observing[Any, Any]] = {procedure.runbook: procedure for procedure in _ALL}
