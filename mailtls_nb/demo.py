"""The demo: a fresh testbed, then every runbook in order, each recorded and rendered into the audit folder."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path

from tqdm import tqdm

from mailtls_nb.audit.folder import default_audit_dir
from mailtls_nb.audit.listing import INDEX_NAME
from mailtls_nb.errors import MailTLSError
from mailtls_nb.runner import run_runbook
from mailtls_nb.testbed import Testbed

_PARTNER: Mapping[str, str] = {"hostname": "partner.example.test", "host": "testbed:partner"}
# The runbook, and what differs from its defaults. 02 once more shows that a second run changes nothing.
_RUNS: tuple[tuple[str, Mapping[str, str]], ...] = (
    ("01-create-ca", {}),
    ("02-issue-certificate", {}),
    ("02-issue-certificate", _PARTNER),
    ("03-trust-partner", {}),
    ("04-enforce-access", {}),
    ("02-issue-certificate", {}),
    ("05-revoke-certificate", {}),
    # Nothing is due on a fresh testbed: this is what runs every night.
    ("06-renew-certificate", {}),
    # The relay's key is lost: what is revoked is due at once.
    ("05-revoke-certificate", {"hostname": "relay.example.test", "revocation_reason": "keyCompromise"}),
    ("06-renew-certificate", {}),
    ("07-check-host", {"ca_dir": "testbed"}),
    # The partner has long had certificates of its own CA.
    ("05-revoke-certificate", {"hostname": "partner.example.test", "revocation_reason": "superseded"}),
    ("09-replace-ca", {}),
    ("09-replace-ca", {"stage": "reissue"}),
    ("09-replace-ca", {"stage": "withdraw", "partners_confirmed": "partner.example.test"}),
    ("07-check-host", {"ca_dir": "testbed"}),
)


def main() -> int:
    """Run the demo; the exit status is that of the first run that fails."""
    try:
        Testbed.of_checkout().reset()
    except MailTLSError as error:
        print(error, file=sys.stderr)
        return error.exit_status
    for runbook, given in tqdm(_RUNS, desc="demo", unit="run", disable=None):
        status = run_runbook(runbook, given, started_from=Path.cwd(), json_output=False)
        if status != 0:
            return status
    print(f"The list of all runs, with a page for each: {default_audit_dir() / INDEX_NAME}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
