"""The one tree of errors.

Every error says what failed and on what, what was left as it was, and what to do next, because the
person who reads it stands before a mail server at night.
"""

from __future__ import annotations

from typing import Any, ClassVar


class MailTLSError(Exception):
    """Something failed, said in the operator's words.

    ``what`` names the failure and the thing it happened to, ``left`` the state things are in now, ``do``
    the next step. ``exit_status`` is what the command line exits with (1: a run failed, 2: nothing was
    touched).
    """

    exit_status: ClassVar[int] = 1

    def __init__(self, what: str, *, left: str = "", do: str = "") -> None:
        # What a host printed may stand in these, and must not steer the reader's terminal.
        self.what, self.left, self.do = (printable(text) for text in (what, left, do))
        lines = [self.what]
        if left:
            lines.append(f"State: {self.left}")
        if do:
            lines.append(f"Next: {self.do}")
        super().__init__("\n".join(lines))


def printable(text: str) -> str:
    """The text with what could steer a terminal written as escapes."""
    return "".join(char if char.isprintable() or char in "\n\t" else ascii(char)[1:-1] for char in text)


def sentence_of(error: BaseException | None) -> str:
    """What failed, in a few words, for an error that tells of another one."""
    if isinstance(error, MailTLSError):
        return error.what
    if isinstance(error, KeyboardInterrupt):
        return "it was interrupted"
    return f"{type(error).__name__}: {error}"


class BadParameter(MailTLSError):
    """A parameter is not what it must be. Raised before any host or file is touched."""

    exit_status = 2

    def __init__(self, parameter: str, problem: str, *, do: str = "") -> None:
        self.parameter = parameter
        self.problem = problem
        super().__init__(f"parameter {parameter}: {problem}", left="nothing was touched", do=do)

    def __reduce__(self) -> tuple[object, ...]:
        return (_bad_parameter, (self.parameter, self.problem, self.do))


def _bad_parameter(parameter: str, problem: str, do: str) -> BadParameter:
    return BadParameter(parameter, problem, do=do)


class SetUpError(MailTLSError):
    """This machine lacks something that the project needs."""

    exit_status = 2


class Unreachable(MailTLSError):
    """A host could not be reached: the transport failed, not the command."""

    exit_status = 2


class CommandTimedOut(MailTLSError):
    """A command on a host did not end in time; it was ended there."""


class CommandFailed(MailTLSError):
    """A command on a host ended with a status that it must not end with."""


class FileAccessFailed(MailTLSError):
    """A file on a host could not be read or written."""


class StaleApproval(MailTLSError):
    """The plan approved is not the plan that would be applied now."""

    exit_status = 2


class NotReady(MailTLSError):
    """What is there now does not allow the wish. Raised before anything is touched."""

    exit_status = 2


class CADirectoryError(MailTLSError):
    """The CA directory is not sound, or does not allow what was asked of it."""


class CertificateRefused(MailTLSError):
    """A certificate or a certificate signing request does not pass a check; carries every mismatch."""

    def __init__(self, what: str, problems: tuple[str, ...], *, left: str = "", do: str = "") -> None:
        self.problems = problems
        super().__init__(what + "".join(f"\n  - {problem}" for problem in problems), left=left, do=do)


class ChangeFailed(MailTLSError):
    """A change on a host failed; ``left`` says that everything was put back, or what was not."""


class VerdictFailed(MailTLSError):
    """What was observed is not what was expected; ``claims`` are all that were judged."""

    def __init__(self, what: str, claims: tuple[Any, ...] = (), *, left: str = "", do: str = "") -> None:
        self.claims = claims
        super().__init__(what, left=left, do=do)
