"""The steps of 06: those of 02 for each certificate that is due, and then the revocation of the old ones."""

from __future__ import annotations

from mailtls_nb.pki.index import serial_text
from mailtls_nb.plan import Plan, Step
from mailtls_nb.procedures.healing import heal_step
from mailtls_nb.procedures.issue.plan import install_plan
from mailtls_nb.procedures.renew.observation import RenewBefore, Superseded
from mailtls_nb.procedures.renew.wish import RenewWish

RUNBOOK = "06-renew-certificate"


def renew_plan(wish: RenewWish, before: RenewBefore) -> Plan:
    """Empty where nothing is due, and nothing that was superseded is still valid."""
    rests_on = {"sendmail": before.layout.version_text, "signer": before.signer.fingerprint}
    if before.layout.interrupted:
        return Plan(RUNBOOK, wish.as_data(), (heal_step(str(wish.host)),), rests_on)
    steps = [step for serving in before.due for step in install_plan(serving.wish, serving.before).steps]
    steps += [_revoke(wish, before, superseded) for superseded in before.superseded]
    return Plan(RUNBOOK, wish.as_data(), tuple(steps), rests_on)


def _revoke(wish: RenewWish, before: RenewBefore, superseded: Superseded) -> Step:
    directory = wish.ca.directory if superseded.directory.path == before.signer.path else str(superseded.directory.path)
    if not superseded.serials:
        serials = ", ".join(serial_text(serial) for serial in superseded.untold)
        return Step(
            "sign-crl",
            "here",
            f"the CRL of {directory}",
            f"Sign a CRL of {superseded.crl_days} days that tells of what an earlier run has revoked: {serials}.",
            settings={"crl_days": superseded.crl_days},
        )
    serials = ", ".join(serial_text(serial) for serial in superseded.serials)
    when = "Once the new serial is seen on the port, revoke" if before.due else "Revoke"
    crl = f", and sign a CRL of {superseded.crl_days} days that says so" if superseded.crl_days else ""
    return Step(
        "revoke",
        "here",
        f"index.txt of {directory}",
        f"{when} in the CA's index what is superseded: {serials}{crl}.",
        settings={"serials": serials, "reason": "superseded", "crl_days": superseded.crl_days},
    )
