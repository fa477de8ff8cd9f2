"""The end of a run in its audit folder: scanned for secrets, rendered, signed, and entered into the chain.

In this order, so that nothing with a secret in it is ever vouched for, the page is among the digests, and the signature
covers the digests and the chain before them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from mailtls_nb import durable
from mailtls_nb.audit import chain
from mailtls_nb.audit.folder import COMMANDS_NAME, NOTEBOOK_NAME, PAGE_NAME
from mailtls_nb.audit.leaks.search import Leak, find_leaks_in, leaks_by_file
from mailtls_nb.audit.listing import refresh_index
from mailtls_nb.audit.signatures import BadSignature, check_whole
from mailtls_nb.audit.signing import NoSignature, SigningKey, sign, signing_key
from mailtls_nb.errors import NotReady
from mailtls_nb.record import DRAFT_NAME, FILE_NAME, SIGNATURE_NAME, Record, RunError, subjects
from mailtls_nb.secret import Secret

# What holds everything that a run printed: where one of them holds a secret, the others may in a form not known here.
_PRINTED = (NOTEBOOK_NAME, PAGE_NAME, COMMANDS_NAME, DRAFT_NAME)

SECRET_FOUND = "secret-found"  # noqa: S105  the kind of an error


@dataclass(frozen=True)
class Scan:
    """What a run must not have written down: its secrets by the parameters that named them.

    ``known_text`` is the runbook's own source, in which an ordinary word may be a secret as well.
    """

    secrets: Mapping[str, Secret]
    known_text: bytes = b""


def begin(folder: Path, record: Record) -> None:
    """Write the record of a run that begins into its folder, and enter it into the chain; raises MailTLSError."""
    with chain.opened(folder.parent, doing=f"enters the beginning of {folder.name}") as log:
        log.enter_begun(folder, record)
        refresh_index(folder.parent, chain.summaries(log.lines))


def end(folder: Path, record: Record, scan: Scan, *, draw: Callable[[Record], None]) -> Record:
    """Seal a run that has ended, with the operator's key where there is one; returns the record as it was written.

    ``draw`` makes the page of the record in the folder; its files' digests are the record's subject. Raises
    MailTLSError when it cannot be entered: the folder stays as it is then, and the chain says that the run began.
    """
    with ExitStack() as stack:
        try:
            key = stack.enter_context(signing_key())
        except NoSignature as error:
            return _enter(folder, _drawn(folder, unsigned(record, error.what), scan, draw), scan, None, draw)
        return _enter(folder, _drawn(folder, signed(record, key), scan, draw), scan, key, draw)


def end_unsigned(folder: Path, record: Record, scan: Scan, *, because: str) -> Record:
    """As ``end``, for a run whose notebook is still being written by somebody else: no page, no signature."""
    record = unsigned(record, because)
    leave_out = (NOTEBOOK_NAME, PAGE_NAME)
    record = _clean(folder, replace(record, subject=subjects(folder, leave_out=leave_out)), scan, leave_out)
    with chain.opened(folder.parent, doing=f"enters the end of {folder.name}") as log:
        record = replace(record, previous=log.previous)
        log.enter_ended(folder, record, b"")
        refresh_index(folder.parent, chain.summaries(log.lines))
    return record


def signed(record: Record, key: SigningKey) -> Record:
    """The record that will have a signature of this key beside it."""
    return replace(record, sealed=True, signed_by=key.fingerprint, unsigned_because="")


def unsigned(record: Record, because: str) -> Record:
    """The record that will have no signature beside it."""
    return replace(record, sealed=False, signed_by="", unsigned_because=because)


def _drawn(folder: Path, record: Record, scan: Scan, draw: Callable[[Record], None]) -> Record:
    """The record with its page drawn and its subject, of files that hold no secret."""
    draw(record)
    for name in (FILE_NAME, SIGNATURE_NAME, DRAFT_NAME):
        # What a process that was killed has left beside a file that it was writing.
        durable.remove(durable.temporary_name(folder / name))
    record = replace(record, subject=subjects(folder))
    return _clean(folder, record, scan)


def _enter(folder: Path, record: Record, scan: Scan, key: SigningKey | None, draw: Callable[[Record], None]) -> Record:
    with chain.opened(folder.parent, doing=f"enters the end of {folder.name}") as log:
        record = replace(record, previous=log.previous)
        signature = b""
        if key is not None:
            try:
                signature = _signature(record, key)
            except NoSignature as error:
                record = _drawn(folder, unsigned(record, error.what), scan, draw)
        log.enter_ended(folder, record, signature)
        refresh_index(folder.parent, chain.summaries(log.lines))
    return record


def _signature(record: Record, key: SigningKey) -> bytes:
    """The signature of the record, seen to hold; raises NoSignature."""
    data = record.as_bytes()
    signature = sign(data, key)
    try:
        by = check_whole(data, signature)
    except BadSignature as error:
        raise NoSignature(f"the signature made with {key.source} does not hold: {error.what}") from error
    if by != key.fingerprint:
        # ssh-keygen names a private key by the public one beside it, which may have stayed there of another.
        raise NoSignature(f"the key {key.source} signed as {by}: is {key.path}.pub that of another key?")
    return signature


def _clean(folder: Path, record: Record, scan: Scan, leave_out: Sequence[str] = ()) -> Record:
    """The record as it is where no secret was written down; else one that says where, the files removed."""
    by_file = leaks_by_file(folder, scan.secrets, known_text=scan.known_text)
    leaks = tuple(dict.fromkeys((*(leak for found in by_file.values() for leak in found), *_leaks_of(record, scan))))
    if not leaks:
        return record
    printed = {folder / name for name in _PRINTED}
    removed = sorted(path for path in {*by_file, *printed} - {folder / FILE_NAME} if path.exists())
    for path in removed:
        durable.remove(path)
    shown = {leak.file for path, found in by_file.items() for leak in found if path in removed}
    shown |= {path.name for path in removed if path in printed and not path.name.startswith(".")}
    record = _told_of_leaks(record, leaks, shown, scan)
    record = replace(record, subject=subjects(folder, leave_out=leave_out))
    if _leaks_of(record, scan):
        raise NotReady("a secret stands in what the record says, and cannot be taken out", left="it was not written")
    with suppress(OSError):
        print(f"mailtls-nb: {record.error.message if record.error else ''}", file=sys.stderr)
    return record


def _leaks_of(record: Record, scan: Scan) -> tuple[Leak, ...]:
    return find_leaks_in(FILE_NAME, record.as_bytes(), scan.secrets, known_text=scan.known_text)


def _told_of_leaks(record: Record, leaks: Sequence[Leak], removed: Collection[str], scan: Scan) -> Record:
    """The record of a run that wrote a secret down: what it did, without anything in which one may stand."""
    where = "; ".join(dict.fromkeys(f"{leak.what} {leak.form} in {leak.file}, {leak.where}" for leak in leaks))
    did = record.outcome if record.error is None else f"failed: {record.error.kind}"
    names = ", ".join(sorted(name for name in removed if not name.startswith("."))) or "nothing"
    parameters = {
        name: "[removed]" if find_leaks_in(name, str(value).encode(), scan.secrets) else value
        for name, value in record.parameters.items()
    }
    return replace(
        record,
        outcome="failed",
        parameters=parameters,
        error=RunError(
            SECRET_FOUND,
            f"the run wrote a secret down: {where}",
            f"what the run did stands ({did}); removed from the audit folder: {names}",
            "change that secret, since it lay in the folder for a while; then see how it came to be printed",
        ),
        plan=None,
        undone=(),
        hosts={},
        claims=(),
        findings=None,
        artifacts={name: text for name, text in record.artifacts.items() if name not in removed},
    )
