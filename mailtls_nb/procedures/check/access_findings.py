"""What is wrong with the access map: rules that fail open, and a database that is not what the text says. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mailtls_nb.finding import Finding
from mailtls_nb.procedures.check.observation import AccessLook, CheckBefore
from mailtls_nb.sendmail.access.lint import Finding as LintFinding
from mailtls_nb.sendmail.access.lint import LintContext, lint

_WHY = {
    "error": "Mail that this was to hold back goes through.",
    "warning": "The rule may do less, or more, than was meant.",
}


def access_findings(before: CheckBefore) -> Iterator[Finding]:
    """The access map and its rules."""
    access, cf = before.access, before.layout.cf
    if access is None:
        what = "sendmail has no access map that makemap makes (FEATURE(`access_db'))."
        why = "No rule about TLS with a partner can be in force."
        yield Finding("note", what, why, cf, f"Put FEATURE(`access_db') into {before.layout.mc} before you use 04.")
        return
    yield from _database(access)
    if access.text is not None:
        context = LintContext(
            release=before.layout.version,
            access_db=True,
            addresses=access.addresses,
            reverse_names=access.reverse_names,
        )
        then = f"then `{_make(access)}`. 04-enforce-access does both for a partner."
        for found in lint(access.text, file=access.database.text, context=context):
            yield _from_lint(found, then)


def _database(access: AccessLook) -> Iterator[Finding]:
    text, database = access.database.text, access.database.database
    make = _make(access)
    if access.text is None:
        why = "What is in force cannot be read or changed, and the next `makemap` makes nothing of it."
        what = f"The text of the access map, {text}, is not there."
        yield Finding("warning", what, why, text, f"Get it back (`makemap -u` prints what {database} holds).")
    elif not access.in_service:
        what = f"The access map's database, {database}, is not there."
        yield Finding(
            "error", what, "No rule of the text is in force, or no mail is taken at all.", database, f"`{make}`."
        )
    elif access.problem:
        why = "What is in force is older than the text, or leaves lines out."
        yield Finding("error", f"{access.problem}.", why, text, f"Mend those lines, then `{make}`.")
    elif not access.is_current:
        what = f"The access map's database, {database}, is not what {text} says."
        why = "Rules in the text are not in force, or rules taken out of it still are."
        yield Finding("error", what, why, database, f"Read the text once more, then `{make}`.")


def _make(access: AccessLook) -> str:
    return f"makemap {access.database.kind} {access.database.database} <{access.database.text}"


def _from_lint(found: LintFinding, then: str) -> Finding:
    subject = f"{found.key} {found.what}" if found.key else f"A line is broken: {found.what}"
    where = f"{found.file}, line {found.line}"
    return Finding(found.severity, f"{subject}.", _WHY[found.severity], where, f"{found.do}, {then}")
