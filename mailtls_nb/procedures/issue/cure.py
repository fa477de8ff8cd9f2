"""What the CA's index needs before 02 can sign: shown as steps, carried out right before, taken back on failure."""

from __future__ import annotations

from collections.abc import Iterable
from types import TracebackType
from typing import Self

from cryptography import x509

from mailtls_nb.errors import CADirectoryError, ChangeFailed, MailTLSError, sentence_of
from mailtls_nb.names import DistinguishedName
from mailtls_nb.pki import mending
from mailtls_nb.pki.cures import Cures
from mailtls_nb.pki.directory import CADirectory
from mailtls_nb.pki.index import Row, serial_text
from mailtls_nb.plan import Action, Step
from mailtls_nb.procedures.issue.observation import purposes
from mailtls_nb.procedures.issue.wish import IssueWish
from mailtls_nb.procedures.procedure import Context

CURES: tuple[Action, ...] = ("mend-index", "update-index", "revoke")
_CLASH = "openssl would say TXT_DB error number 2, or that there is already a certificate for"


def look_for_cures(
    context: Context, wish: IssueWish, directory: CADirectory
) -> tuple[Cures | CADirectoryError, tuple[str, ...]]:
    """What is to be cured, and what is wrong in the directory in any case, a sentence each.

    An index that only a person can mend is no error yet: perhaps nothing is to be signed.
    """
    try:
        examined, cures = mending.look(directory.layout, _subject(wish), now=context.now())
        _refuse_other_roles(wish, directory, cures)
    except CADirectoryError as error:
        return error, ()
    return cures, tuple(problem.sentence for problem in examined.problems if problem.severity != "note")


def cure_steps(wish: IssueWish, cures: Cures | CADirectoryError) -> tuple[Step, ...]:
    """The steps before ``sign``, in their order; raises the CADirectoryError of an index that cannot be cured."""
    if isinstance(cures, CADirectoryError):
        raise cures
    steps = []
    if cures.mends:
        steps.append(_step("mend-index", cures, _mending(cures), cures.repeated))
    if cures.expired:
        serials = [row.serial for row in cures.expired]
        steps.append(
            _step(
                "update-index",
                cures,
                "Mark in the index whatever has expired, as `openssl ca -updatedb` does. "
                f"The {_of(serials)} for {_subject(wish)} expired and {_is(serials)} still marked valid there; since "
                f"this CA allows one valid certificate for each subject, {_CLASH} it.",
                serials,
            )
        )
    if cures.superseded:
        serials = [row.serial for row in cures.superseded]
        steps.append(
            _step(
                "revoke",
                cures,
                f"Revoke the {_of(serials)} for {_subject(wish)} in the index (superseded). This CA allows one "
                f"valid certificate for each subject: {_CLASH} it. If what follows fails, this is taken back; "
                "the next CRL tells of it.",
                serials,
            )
        )
    return tuple(steps)


class Curing:
    """The cures of one run, as a context manager: on any exception inside, what was revoked is valid again.

    What was revoked meanwhile for another reason, or is told of by a CRL, stays revoked, and the error says so. The
    certificate that was signed instead is revoked in the same moment, so that no subject ever has two. To be entered
    before the host's transaction, so that the host is as before by then.
    """

    def __init__(self, context: Context) -> None:
        self._context = context
        self._directory: CADirectory | None = None
        self._revoked: tuple[Row, ...] = ()
        self._issued: x509.Certificate | None = None

    def carry_out(self, directory: CADirectory, cures: Cures | CADirectoryError) -> None:
        """All of the steps at once: the index is rewritten once. Raises CADirectoryError."""
        if isinstance(cures, CADirectoryError):
            raise cures
        if cures:
            self._directory = directory
            self._revoked = mending.cure(directory, cures, now=self._context.now())

    def signed(self, certificate: x509.Certificate) -> x509.Certificate:
        """Take note of the certificate that takes the place of what was revoked."""
        self._issued = certificate
        return certificate

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if error is None or self._directory is None or not self._revoked:
            return
        serials = [row.serial for row in self._revoked]
        issued = self._issued.serial_number if self._issued else None
        try:
            kept = mending.take_back(self._directory, self._revoked, issued, now=self._context.now())
        except MailTLSError as second:
            raise ChangeFailed(
                f"{sentence_of(error)}; and its way back in the CA failed: {second.what}",
                left=f"{_left(error)}the index says that the {_of(serials)} {_is(serials)} revoked",
                do=_replaced(second),
            ) from error
        valid = [serial for serial in serials if serial not in kept]
        back = [f"the {_of(valid)} {_is(valid)} valid in the CA's index again"] if valid else []
        back += [f"the {_of([serial])} stays revoked: {why}" for serial, why in kept.items()]
        left = f"{_left(error)}{'; '.join(back)}"
        if kept:
            raise ChangeFailed(sentence_of(error), left=left, do=_replaced(error)) from error
        if isinstance(error, ChangeFailed):
            raise ChangeFailed(error.what, left=left, do=error.do) from error


def _refuse_other_roles(wish: IssueWish, directory: CADirectory, cures: Cures) -> None:
    """Raise CADirectoryError where a certificate of the same subject does what the new one will not do."""
    for row in cures.superseded:
        certificate = directory.certificate_for_serial(row.serial)
        roles = purposes(certificate) if certificate else ""
        if roles and wish.roles not in ("both", roles):
            raise CADirectoryError(
                f"{directory.path} allows one valid certificate for each subject, and {serial_text(row.serial)} for "
                f"{row.subject} is for other roles ({roles}) than the one wished for ({wish.roles}), so that it is not "
                "superseded by it: openssl would say TXT_DB error number 2",
                left="nothing was changed",
                do=f"write `unique_subject = no` into {directory.layout.attributes} and "
                f"{directory.layout.configuration}, or issue one certificate for both roles",
            )


def _subject(wish: IssueWish) -> str:
    return str(DistinguishedName(wish.hostname))


def _step(action: Action, cures: Cures, sentence: str, serials: Iterable[int]) -> Step:
    settings: dict[str, str | int] = {"serials": ",".join(map(serial_text, serials))}
    if action == "revoke":
        settings["revocation_reason"] = "superseded"
    return Step(action, "here", cures.where, sentence, settings=settings)


def _mending(cures: Cures) -> str:
    parts = []
    if cures.repeated:
        kept = ", and the others are kept in index.txt.set-aside" if cures.set_aside else ""
        parts.append(
            f"the serial {', '.join(map(serial_text, cures.repeated))} has several rows, with which openssl refuses "
            f"everything (TXT_DB error number 2): the row that agrees with the certificate in newcerts stays{kept}"
        )
    if cures.blank:
        parts.append("blank lines, with which openssl refuses everything, are taken out")
    if cures.lacks_lf:
        parts.append("the last line gets its LF, without which openssl would drop that row silently")
    return f"Mend the index: {'; '.join(parts)}."


def _of(serials: list[int]) -> str:
    return f"certificate{'' if len(serials) == 1 else 's'} {', '.join(map(serial_text, serials))}"


def _is(serials: list[int]) -> str:
    return "is" if len(serials) == 1 else "are"


def _replaced(error: BaseException) -> str:
    """What to do where a certificate stays revoked that is in service."""
    if isinstance(error, MailTLSError) and error.do:
        return f"{error.do}; a certificate that is revoked and in service is replaced by the next run"
    return "cure that and run again: a certificate that is revoked and in service is replaced"


def _left(error: BaseException) -> str:
    return f"{error.left}; " if isinstance(error, MailTLSError) and error.left else ""
