"""Steps over the files and links by which a host's sendmail finds CA certificates and CRLs, and their doing."""

from __future__ import annotations

from collections.abc import Sequence

from mailtls_nb.apply.transaction import Transaction
from mailtls_nb.errors import NotReady
from mailtls_nb.observe.trust_store import StoredFile, StoreDirectory
from mailtls_nb.pki.hashed_directory import Kind, LinkStep, arranged, writable_directory
from mailtls_nb.plan import Step, sha256

# CA certificates and CRLs are no secret; a directory of ours may come to hold keys.
FILE_MODE, DIRECTORY_MODE = 0o644, 0o700
_OTHERS_WRITE = 0o022
_PERMISSIONS = 0o777
_UNTOUCHED = "nothing was touched"


def directory(where: str, there: StoreDirectory, *, owner: str) -> list[Step]:
    """Make the directory where it is missing; NotReady where others may write what sendmail would trust."""
    if there.status is not None:
        refuse_writable(where, there)
        return []
    return [
        Step(
            "make-directory",
            where,
            there.path,
            "Make the directory for CA certificates, open to nobody else.",
            before="absent",
            settings={"mode": f"{DIRECTORY_MODE:04o}", "owner": owner},
        )
    ]


def file(where: str, there: StoreDirectory, name: str, content: bytes | None, what: str, *, owner: str) -> list[Step]:
    """Write a file unless it is there just so; without ``content``, which is then made at apply time, in any case."""
    path = f"{there.path}/{name}"
    found = there.file(path)
    refuse_link(where, found)
    if (
        content is not None
        and found
        and (found.sha256, found.status.mode & _PERMISSIONS) == (sha256(content), FILE_MODE)
    ):
        return []
    return [
        Step(
            "write",
            where,
            path,
            f"Write {what}.",
            before=found.sha256 if found else "absent",
            content=content,
            settings={"mode": f"{FILE_MODE:04o}", "owner": owner},
        )
    ]


def links(
    where: str,
    there: StoreDirectory,
    name_hash: str,
    kind: Kind,
    *,
    add: Sequence[str] = (),
    drop: Sequence[str] = (),
) -> list[Step]:
    """The steps over the links of one hash."""
    return [
        Step(
            step.action,
            where,
            f"{there.path}/{step.name}",
            _link_sentence(step),
            before=step.before,
            settings={"to": step.to} if step.to else {},
        )
        for step in arranged(there.entries, name_hash, kind, add=add, drop=drop)
    ]


def carry_out(change: Transaction, step: Step, *, made: bytes | None = None) -> None:
    """Do one of these steps; ``made`` is the content of a file that was made at apply time."""
    folder = step.target.rpartition("/")[0]
    # Of a file that a link is to replace, the plan knows that it is one and not its content.
    expected = None if step.before == "file" else step.before
    content = step.content if step.content is not None else made
    match step.action:
        case "make-directory":
            mode, owner = str(step.settings["mode"]), str(step.settings["owner"])
            change.make_directory(step.target, mode=int(mode, 8), owner=owner)
        case "write" if content is not None:
            mode, owner = str(step.settings["mode"]), str(step.settings["owner"])
            change.write(step.target, content, mode=int(mode, 8), owner=owner, expected=step.before)
        case "link":
            change.link(step.target, str(step.settings["to"]), expected=expected)
        case "move":
            change.move(step.target, f"{folder}/{step.settings['to']}", expected=expected)
        case "remove":
            change.remove(step.target, expected=expected)
        case _:
            raise NotReady(f"this run cannot do the step {step.action} on {step.target}")


def refuse_writable(where: str, there: StoreDirectory) -> None:
    """Raise NotReady for a directory that others may write."""
    if there.status is not None and there.status.mode & _OTHERS_WRITE:
        raise NotReady(
            f"{where}: " + writable_directory(there.path, there.status.mode),
            left=_UNTOUCHED,
            do=f"see what is linked there, then take that right away: chmod go-w {there.path}",
        )


def refuse_link(where: str, found: StoredFile | None) -> None:
    """Raise NotReady for a file that is a symbolic link."""
    if found is not None and found.status.is_link:
        raise NotReady(
            f"{found.path} on {where} is a symbolic link: writing would part it from what it names",
            left=_UNTOUCHED,
            do="remove the link, or put a file in its place",
        )


def _link_sentence(step: LinkStep) -> str:
    match step.action:
        case "link":
            instead = "" if step.before == "absent" else f", in place of a {step.before} that leads to nothing"
            return f"Make the link by which OpenSSL finds {step.to}{instead}."
        case "move":
            return f"Rename this to {step.to}: a gap before it would hide it."
        case _:
            return f"Remove this {'link' if step.before.startswith('link') else 'file'}."
