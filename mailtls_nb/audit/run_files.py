"""Whether the files of a run are those that its record and the chain tell of."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

from mailtls_nb.audit.chain import Entry, digest_of
from mailtls_nb.audit.links import Problem
from mailtls_nb.audit.signatures import BadSignature, check_whole
from mailtls_nb.audit.signing import NAMESPACE
from mailtls_nb.audit.sshsig import UnknownKind, key_that_signed
from mailtls_nb.errors import NotReady, sentence_of
from mailtls_nb.record import FILE_NAME, SIGNATURE_NAME, Operator

# Read at a time, in octets.
_PIECE = 1024 * 1024


def check_ended(audit_dir: Path, entry: Entry, last_record: str | None) -> list[Problem]:
    """What is wrong with the folder of a run that has ended; ``last_record`` is the digest of the record before.

    Raises NotReady for what cannot be read.
    """
    folder, where = audit_dir / entry.run, f"{entry.run}/{FILE_NAME}"
    if not folder.is_dir() or folder.is_symlink():
        return [Problem("removed", entry.run, "the run's folder is not there")]
    data, signature = read_plain(folder / FILE_NAME), read_plain(folder / SIGNATURE_NAME)
    if data is None:
        return [Problem("removed", where, "the record is not there")]
    problems = list(_check_signature(data, signature, entry))
    if digest_of(data) != entry.record:
        return [Problem("altered", where, "it is not the record that the chain tells of"), *problems]
    try:
        statement = json.loads(data)
        problems += _check_against_line(statement["predicate"], entry, last_record)
        problems += _check_subject(folder, entry.run, statement["subject"])
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        # Whoever wrote it gave it to the chain, too.
        problems.append(Problem("altered", where, "it is no record"))
    return problems


def check_begun(audit_dir: Path, entry: Entry) -> list[Problem]:
    """What is wrong with the folder of a run that has not ended; nobody vouches for its other files."""
    folder, where = audit_dir / entry.run, f"{entry.run}/{FILE_NAME}"
    data = read_plain(folder / FILE_NAME)
    if data is None:
        return [Problem("removed", where, "the record of the run's beginning is not there")]
    if digest_of(data) != entry.record:
        return [Problem("altered", where, "it is not the record of the run's beginning that the chain tells of")]
    problems = []
    if read_plain(folder / SIGNATURE_NAME) is not None:
        problems.append(Problem("inserted", f"{entry.run}/{SIGNATURE_NAME}", "the run has not ended"))
    try:
        predicate = json.loads(data)["predicate"]
        told = [predicate[name] for name in ("ended", "previous", "sealed")], *_who_and_what(predicate)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return [*problems, Problem("altered", where, "it is no record")]
    if told != ([None, None, False], entry.runbook, entry.operator, entry.begun):
        problems.append(Problem("altered", where, "it is not of the beginning that its line tells of"))
    return problems


def _who_and_what(predicate: dict[str, Any]) -> tuple[str, str, str]:
    return predicate["runbook"]["id"], str(Operator(**predicate["operator"])), predicate["started"]


def _check_signature(data: bytes, signature: bytes | None, entry: Entry) -> Iterator[Problem]:
    """The signature file is the one of the line, and a whole signature of the record by the key that the line names."""
    where = f"{entry.run}/{SIGNATURE_NAME}"
    if signature is None:
        if entry.signature:
            yield Problem("removed", where, "the signature is not there")
        return
    if not entry.signature:
        yield Problem("inserted", where, "the chain tells of no signature")
        return
    if digest_of(signature) != entry.signature:
        yield Problem("altered", where, "it is not the signature that the chain tells of")
    try:
        try:
            by = key_that_signed(data, signature, NAMESPACE)
        except UnknownKind:
            by = check_whole(data, signature)
        if by != entry.signed_by:
            yield Problem("signature", where, f"it is of the key {by}, and the chain names {entry.signed_by or 'none'}")
    except (ValueError, BadSignature) as error:
        yield Problem("signature", where, sentence_of(error) if isinstance(error, BadSignature) else str(error))


def _check_against_line(predicate: dict[str, Any], entry: Entry, last_record: str | None) -> Iterator[Problem]:
    """The record holds what the line holds, and the line before: a signature of it vouches for both."""
    previous = predicate["previous"] or {}
    told = {
        "previous": (previous.get("n"), previous.get("entry"), previous.get("record")),
        "runbook, operator or beginning": _who_and_what(predicate),
        "hosts": sorted(predicate["hosts"]) or entry.hosts,
        "ended": predicate["ended"] or "",
        "outcome": predicate["outcome"],
        "signed_by": predicate["signed_by"],
        "sealed": predicate["sealed"],
    }
    in_line = {
        "previous": (entry.n - 1, entry.previous, last_record),
        "runbook, operator or beginning": (entry.runbook, entry.operator, entry.begun),
        "hosts": sorted(entry.hosts) if predicate["hosts"] else entry.hosts,
        "ended": entry.ended,
        "outcome": entry.outcome,
        "signed_by": entry.signed_by,
        "sealed": bool(entry.signature),
    }
    for name, value in told.items():
        if value != in_line[name]:
            what = "its place in the chain is another one" if name == "previous" else f"{name} is not as in its line"
            yield Problem("altered", f"{entry.run}/{FILE_NAME}", what)


def _check_subject(folder: Path, run: str, subject: list[dict[str, Any]]) -> Iterator[Problem]:
    """Every file has the digest that the record tells of, and there is no other."""
    there = set(_files(folder)) - {FILE_NAME, SIGNATURE_NAME}
    for item in subject:
        name = item["name"]
        if name not in there:
            yield Problem("removed", f"{run}/{name}", "the file is not there")
            continue
        there.remove(name)
        if _digest_of_file(folder / name) != item["digest"]["sha256"]:
            yield Problem("altered", f"{run}/{name}", "it is not the file that the record tells of")
    for name in sorted(there):
        yield Problem("inserted", f"{run}/{name}", "the record tells of no such file")


def _files(folder: Path, below: str = "") -> Iterator[str]:
    """All that is no directory, hidden files and links among it, by path in the folder; raises NotReady."""
    try:
        with os.scandir(folder) as entries:
            found = list(entries)
    except OSError as error:
        raise _unreadable(folder, error) from error
    for entry in found:
        if entry.is_dir(follow_symlinks=False):
            yield from _files(Path(entry.path), f"{below}{entry.name}/")
        else:
            yield below + entry.name


def _digest_of_file(path: Path) -> str:
    """SHA-256 in hex; empty for what is no plain file. Raises NotReady."""
    digest = hashlib.sha256()
    with _opened(path) as file:
        if file is None:
            return ""
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.hexdigest()


def read_plain(path: Path) -> bytes | None:
    """The content of a plain file, None where there is none; raises NotReady."""
    with _opened(path) as file:
        return None if file is None else file.read()


@contextmanager
def _opened(path: Path) -> Iterator[BinaryIO | None]:
    """The file, or None for what is not there or no plain file: a link leads elsewhere, a pipe would be waited for."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.ENOTDIR, errno.ENXIO):
            yield None
            return
        raise _unreadable(path, error) from error
    if not stat.S_ISREG(os.fstat(descriptor).st_mode):
        os.close(descriptor)
        yield None
        return
    with os.fdopen(descriptor, "rb") as file:
        yield file


def _unreadable(path: Path, error: OSError) -> NotReady:
    return NotReady(f"{path} cannot be read: {error.strerror}", do="verify as a user who may read the audit folder")
