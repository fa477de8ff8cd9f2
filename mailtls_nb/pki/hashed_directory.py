"""A directory of CA certificates and CRLs that OpenSSL finds by the hash of their names. Pure.

OpenSSL asks for HASH.0, HASH.1, ... (CRLs: HASH.r0, HASH.r1, ...) and stops at the first name that leads to nothing
(X509_LOOKUP_hash_dir(3)). So a gap, or a link to a file that is gone, hides all that comes after it. sendmail uses such
directories as CACertPath and CRLPath, and looks at their permissions nowhere.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Literal

from cryptography import x509

Kind = Literal["ca", "crl"]

_NAME = re.compile(r"(?P<hash>[0-9a-f]{8})\.(?P<crl>r?)(?P<number>0|[1-9][0-9]*)")
_OTHERS_WRITE = 0o022
_EVERYBODY_WRITES = 0o002


@dataclass(frozen=True)
class NameHash:
    """The hash of one name by the host's own OpenSSL; ``old`` is that of releases before 1.0, empty where unknown."""

    current: str
    old: str = ""


@dataclass(frozen=True)
class Entry:
    """One name in such a directory, such as ``5b1f0e4a.0``.

    ``target`` is what a symbolic link names, empty for a file. ``mode`` is that of the file it leads to, None where it
    leads to nothing. ``certificates`` and ``crls`` are what can be read of it, ``name_hash`` the hash of the first.
    """

    name: str
    target: str = ""
    mode: int | None = None
    certificates: tuple[x509.Certificate, ...] = ()
    crls: tuple[x509.CertificateRevocationList, ...] = ()
    name_hash: NameHash | None = None

    @property
    def is_dangling(self) -> bool:
        return self.mode is None

    @property
    def hash(self) -> str:
        return self.name.partition(".")[0]

    @property
    def kind(self) -> Kind:
        return "crl" if ".r" in self.name else "ca"

    @property
    def number(self) -> int:
        return int(self.name.rpartition(".")[2].lstrip("r"))

    @property
    def content(self) -> str:
        """What stands there, in the words of a change on a host: for a symbolic link "link TARGET"."""
        return f"link {self.target}" if self.target else "file"


def is_hash_name(name: str) -> bool:
    """Whether a file of that name is one that OpenSSL asks for."""
    return _NAME.fullmatch(name) is not None


def hash_name(name_hash: str, kind: Kind, number: int) -> str:
    """The name of the link: ``5b1f0e4a.0``, for a CRL ``5b1f0e4a.r0``."""
    return f"{name_hash}.{'r' if kind == 'crl' else ''}{number}"


def of_hash(entries: Iterable[Entry], name_hash: str, kind: Kind) -> tuple[Entry, ...]:
    """The entries of one hash and kind, by number."""
    return tuple(sorted((e for e in entries if e.hash == name_hash and e.kind == kind), key=lambda e: e.number))


def found_by_openssl(entries: Iterable[Entry], kind: Kind = "ca") -> tuple[Entry, ...]:
    """The entries that OpenSSL comes to: numbered without a gap, leading to a file, under the hash of their content."""
    every = tuple(entries)
    found: list[Entry] = []
    for name_hash in sorted({entry.hash for entry in every if entry.kind == kind}):
        for position, entry in enumerate(of_hash(every, name_hash, kind)):
            if entry.number != position or entry.is_dangling:
                break
            if entry.name_hash is not None and entry.name_hash.current == name_hash:
                found.append(entry)
    return tuple(found)


@dataclass(frozen=True)
class LinkStep:
    """One thing to do in the directory: ``link`` a name to ``to``, ``move`` a name to the name ``to``, ``remove`` it.

    ``before`` is what stands at ``name`` now, as in ``Entry.content``, or absent.
    """

    action: Literal["link", "move", "remove"]
    name: str
    before: str
    to: str = ""


def arranged(
    entries: Sequence[Entry], name_hash: str, kind: Kind, *, add: Sequence[str] = (), drop: Sequence[str] = ()
) -> tuple[LinkStep, ...]:
    """The steps after which the entries of a hash are numbered from 0 without a gap; empty when they are.

    ``add`` are targets to be linked, ``drop`` names to be taken out. Links that lead to nothing go, unless they name a
    target to be added. Entries that are good keep their numbers where they can.
    """
    there = of_hash(entries, name_hash, kind)
    linked = {entry.target for entry in there if entry.target in add and entry.name not in drop}
    good = [e for e in there if e.name not in drop and (not e.is_dangling or e.target in linked)]
    wanted = [target for target in dict.fromkeys(add) if target not in linked]
    total = len(good) + len(wanted)
    kept = {entry.number: entry for entry in good if entry.number < total}
    homeless = [entry for entry in good if entry.number >= total]
    occupied = {entry.number: entry for entry in there}
    steps: list[LinkStep] = []
    for number in range(total):
        if number in kept:
            continue
        name = hash_name(name_hash, kind, number)
        if wanted:
            before = occupied[number].content if number in occupied else "absent"
            steps.append(LinkStep("link", name, before, wanted.pop(0)))
        else:
            mover = homeless.pop()
            steps.append(LinkStep("move", mover.name, mover.content, name))
    moved = {step.name for step in steps if step.action == "move"}
    steps += [
        LinkStep("remove", entry.name, entry.content)
        for entry in there
        if entry.number >= total and entry.name not in moved
    ]
    return tuple(steps)


def problems(entries: Sequence[Entry], *, directory_mode: int | None, directory: str) -> tuple[str, ...]:
    """What is wrong with the directory, one sentence each, in words for the operator."""
    found = []
    if directory_mode is not None and directory_mode & _OTHERS_WRITE:
        found.append(writable_directory(directory, directory_mode))
    for name_hash, kind in sorted({(entry.hash, entry.kind) for entry in entries}):
        group = of_hash(entries, name_hash, kind)
        hidden_by = ""
        for position, entry in enumerate(group):
            path = f"{directory}/{entry.name}"
            if hidden_by:
                found.append(f"{path} is never looked at: {hidden_by}.")
            elif entry.number != position:
                hidden_by = f"there is no {hash_name(name_hash, kind, position)} before it"
                found.append(f"{path} is never looked at: {hidden_by}.")
            if entry.is_dangling:
                hidden_by = hidden_by or f"{entry.name} before it leads to nothing"
                found.append(f"{path} leads to {entry.target}, which is not there.")
            else:
                found += _content_problems(entry, path)
    return tuple(found)


def writable_directory(directory: str, mode: int) -> str:
    """The sentence about a directory that others may write."""
    whom = "everybody" if mode & _EVERYBODY_WRITES else "its group"
    return (
        f"{directory} can be written by {whom} (mode {mode & 0o7777:04o}): who can put a link there is trusted by "
        "sendmail, which does not check it."
    )


def _content_problems(entry: Entry, path: str) -> list[str]:
    found = []
    if entry.mode is not None and entry.mode & _OTHERS_WRITE:
        found.append(f"{path} leads to a file that others can write (mode {entry.mode & 0o7777:04o}).")
    readable = entry.crls if entry.kind == "crl" else entry.certificates
    if not readable or entry.name_hash is None:
        what = "CRL" if entry.kind == "crl" else "certificate"
        found.append(f"{path} holds no {what} that can be read.")
    elif entry.name_hash.current != entry.hash:
        if entry.name_hash.old == entry.hash:
            found.append(f"{path} has the hash of OpenSSL before 1.0; this host's looks for {entry.name_hash.current}.")
        else:
            found.append(f"{path} does not have the hash of what it holds ({entry.name_hash.current}).")
    return found
