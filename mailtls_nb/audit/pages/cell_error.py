"""What a cell's error says, in the record's words. Pure."""

from __future__ import annotations

from mailtls_nb import errors
from mailtls_nb.errors import MailTLSError
from mailtls_nb.record import RunError


def is_ours(ename: str) -> bool:
    """Whether the class of an error, by its name, is one of MailTLSError's tree: its text is for operators."""
    kind = getattr(errors, ename, None)
    return isinstance(kind, type) and issubclass(kind, MailTLSError)


def cell_error(ename: str, evalue: str) -> RunError:
    """The error of a cell; our own errors carry their state and next step as lines of their text."""
    if not is_ours(ename):
        return RunError(ename, evalue or ename)
    before_next, _, do = evalue.partition("\nNext: ")
    message, _, left = before_next.partition("\nState: ")
    return RunError(ename, message or ename, left, do, getattr(errors, ename).exit_status)
