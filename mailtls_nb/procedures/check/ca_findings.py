"""What is wrong with the CA directories looked at, the ends of single things apart. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from mailtls_nb.finding import Finding
from mailtls_nb.pki.clock import CLOCK_IS_RIGHT, not_begun
from mailtls_nb.pki.index import Row
from mailtls_nb.pki.inspection import Inspected
from mailtls_nb.procedures.check.observation import CheckBefore


def ca_findings(before: CheckBefore, warn_days: int) -> Iterator[Finding]:
    """What cannot be read, the clock, and certificates by their number; then what was found further."""
    for ca in before.cas:
        directory = ca.directory
        where = str(directory.layout.database)
        for problem in directory.problems:
            why = "What is in it cannot be judged, and may be unusable for openssl and for the runbooks too."
            do = problem.do[:1].upper() + problem.do[1:]
            yield Finding("error", f"{problem.what}.", why, str(directory.layout.path), f"{do}.")
        if directory.is_unfinished:
            what = f"An issue in the CA directory {directory.layout.path} was cut short, or is going on."
            do = "Run the runbook that was cut short again: it first finishes what was left."
            yield Finding("warning", what, "openssl would drop what is half written.", where, do)
        yield from _clock(before, directory)
        yield from _counted(directory, warn_days, where)
        yield from ca.further


def _clock(before: CheckBefore, directory: Inspected) -> Iterator[Finding]:
    if directory.certificate is None:
        return
    problem = not_begun(before.at, ca=directory.certificate, newest=directory.newest, crl=directory.crl)
    if problem:
        yield Finding(
            "error",
            f"By this machine's clock, {before.at:%Y-%m-%d %H:%M:%S} UTC, {problem}.",
            "The clock is behind, or it was ahead when that was signed. With a CRL that is not valid yet sendmail "
            "refuses everyone, and what is signed with a clock that is behind ends too early.",
            str(directory.layout.path),
            f"Set this machine's clock. {CLOCK_IS_RIGHT}",
        )


def _counted(directory: Inspected, warn_days: int, where: str) -> Iterator[Finding]:
    ends = directory.ends
    more = ends.soon - len(ends.first)
    if more > 0:
        what = f"{more} more certificates of the CA end within {warn_days} days."
        yield Finding("warning", what, "Whoever uses one is verify=FAIL then.", where, "Run 06-renew-certificate.")
    if ends.superseded:
        what = f"{_certificates(ends.superseded)} within {warn_days} days, with a newer one for the same subject."
        why = "Each may be in use until its host has the newer one."
        do = "Check the hosts that were renewed last (07-check-host), and revoke what is not used any more."
        yield Finding("note", what, why, where, do)
    if ends.expired:
        last = ", ".join(_named(row) for row in ends.expired_last)
        what = f"{_certificates(ends.expired, past=True)} still valid by the index, the last: {last}."
        why = "A host that still uses one is verify=FAIL; for openssl its subject may be taken (unique_subject)."
        do = f"`openssl ca -config {directory.layout.configuration} -updatedb` marks them as expired."
        yield Finding("note", what, why, where, do)


def _certificates(number: int, *, past: bool = False) -> str:
    if number == 1:
        return "One certificate of the CA " + ("has ended and is" if past else "ends")
    return f"{number} certificates of the CA " + ("have ended and are" if past else "end")


def _named(row: Row) -> str:
    return f"{row.subject} on {row.not_after:%Y-%m-%d}"
