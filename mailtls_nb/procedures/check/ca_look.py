"""Looking at CA directories of this machine for 07; writes nothing and needs no passphrase."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

from mailtls_nb.errors import CADirectoryError, NotReady
from mailtls_nb.finding import Finding
from mailtls_nb.pki.inspection import directories_in_use, inspect
from mailtls_nb.pki.lint import lint
from mailtls_nb.procedures.check.observation import CALook
from mailtls_nb.procedures.check.wish import CheckWish
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.procedures.signing_ca import directory_here

# Problems of the index by their names that 07 tells in other words.
_SAID_ALREADY = frozenset({"expired-valid", "unfinished"})
_SAID_AS_UNREADABLE = frozenset(
    {"ca-certificate", "missing", "index-missing", "not-a-row", "crl-unreadable", "crl-foreign"}
)


def look_at_cas(context: Context, wish: CheckWish, now: datetime) -> tuple[CALook, ...]:
    """The CA directory wished for, with those that it follows or that follow it; raises NotReady for none there."""
    if not wish.ca_dir:
        return ()
    path = directory_here(wish.ca_dir, context.testbed)
    if not path.is_dir():
        raise NotReady(
            f"there is no CA at {path}",
            left="nothing was touched",
            do="name another directory in ca_dir, or make the CA with the runbook 01-create-ca first",
        )
    warn = timedelta(days=wish.warn_days)
    try:
        directories = directories_in_use(path)
    except CADirectoryError as error:
        found = inspect(path, now=now, warn=warn)
        return (CALook(replace(found, problems=(*found.problems, error))),)
    return tuple(_look(directory, now, warn) for directory in directories)


def _look(path: Path, now: datetime, warn: timedelta) -> CALook:
    found = inspect(path, now=now, warn=warn)
    said = _SAID_ALREADY | (_SAID_AS_UNREADABLE if found.problems else frozenset())
    try:
        problems = lint(found.layout, now=now)
    except (CADirectoryError, OSError):
        return CALook(found)
    further = (problem for problem in problems if problem.name not in said)
    return CALook(found, tuple(Finding(p.severity, p.what, p.why, p.where, p.do) for p in further))
