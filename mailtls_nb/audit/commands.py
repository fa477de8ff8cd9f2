"""The command ``mailtls-nb audit``."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TypeVar

import click
from tqdm import tqdm

from mailtls_nb.audit.chain import read_lines, summaries
from mailtls_nb.audit.export import ALLOWED_SIGNERS_NAME, export, moment
from mailtls_nb.audit.folder import default_audit_dir
from mailtls_nb.audit.links import parse_lines
from mailtls_nb.audit.listing import write_index
from mailtls_nb.audit.show import folder_of, shown
from mailtls_nb.audit.signatures import Signers
from mailtls_nb.audit.verify import Head, Verified, Wanted, verify
from mailtls_nb.errors import BadParameter, FileAccessFailed, NotReady, printable

_Item = TypeVar("_Item")

_AUDIT_DIR = click.argument("audit_dir", required=False, type=click.Path(path_type=Path), metavar="[AUDIT_DIR]")
_SINCE = click.option("--since", default="", metavar="TIME", help="Only runs begun from then on: a day, or a time.")
_UNTIL = click.option("--until", default="", metavar="TIME", help="Only runs begun before that; a day counts whole.")
_ALLOWED_SIGNERS = click.option(
    "--allowed-signers",
    type=click.Path(path_type=Path),
    help="OpenSSH's file of the keys that may sign. Default: $MAILTLS_ALLOWED_SIGNERS, else "
    "~/.config/mailtls-nb/allowed_signers where it is.",
)


@click.group()
def audit() -> None:
    """The trail of all runs: verify it, list it, show a record, export a part.

    AUDIT_DIR is the folder with log.jsonl in it. Default: $MAILTLS_AUDIT_DIR, else audit/ of the checkout, else
    ~/.local/state/mailtls-nb/audit.
    """


@audit.command("verify")
@_AUDIT_DIR
@_ALLOWED_SIGNERS
@click.option("--revoked", type=click.Path(path_type=Path), help="Keys that no longer count: an OpenSSH KRL or list.")
@click.option("--head", "heads", multiple=True, metavar="HEAD", help="A head kept elsewhere, or the file it is in.")
@_SINCE
@_UNTIL
@click.option("--every", is_flag=True, help="Check every signature, not only the last of each signer.")
@click.option("--signed", is_flag=True, help="A record without a signature counts as a problem.")
@click.option("--json", "json_output", is_flag=True, help="Print what was found as one JSON object on the last line.")
def verify_command(
    audit_dir: Path | None,
    allowed_signers: Path | None,
    revoked: Path | None,
    heads: tuple[str, ...],
    since: str,
    until: str,
    every: bool,
    signed: bool,
    json_output: bool,
) -> int:
    """Check every file, digest, link and signature; exit status 0 as it was, 1 not as it was, 2 it cannot be told."""
    allowed = _allowed_signers(allowed_signers)
    if revoked is not None and allowed is None:
        raise BadParameter("--revoked", "counts only with --allowed-signers")
    wanted = Wanted(
        signers=Signers(allowed, revoked) if allowed else None,
        heads=tuple(found for head in heads for found in Head.parse_all(_text_of(head))),
        since=moment("--since", since) if since else "",
        until=moment("--until", until, end=True) if until else "",
        every=every,
        signed=signed,
    )
    folder = _audit_dir(audit_dir)
    found = verify(folder, wanted, progress=_with_progress)
    if json_output:
        data = {**asdict(found), "head": str(found.head), "as_it_was": not found.problems}
        print(json.dumps({"audit_dir": str(folder), "signers_known": allowed is not None, **data}))
    else:
        _tell(folder, wanted, found)
    return 1 if found.problems else 0


@audit.command("index")
@_AUDIT_DIR
def index_command(audit_dir: Path | None) -> int:
    """Write index.html, the list of all runs, anew."""
    folder = _audit_dir(audit_dir)
    try:
        print(write_index(folder, summaries(_lines(folder))))
    except OSError as error:
        raise FileAccessFailed(f"{folder}/index.html cannot be written: {error.strerror}") from error
    return 0


@audit.command("head")
@_AUDIT_DIR
def head_command(audit_dir: Path | None) -> int:
    """Print the head of the chain: keep it elsewhere, and give it to verify to find what was cut off."""
    print(Head.of(parse_lines(_lines(_audit_dir(audit_dir)))))
    return 0


@audit.command("show")
@click.argument("record")
@click.option("--audit-dir", type=click.Path(path_type=Path), help="Where a run given by its name lies.")
def show_command(record: str, audit_dir: Path | None) -> int:
    """Print one RECORD: a run's folder, its record.json, or its name or the beginning of that."""
    for line in shown(folder_of(record, _audit_dir(audit_dir))):
        print(printable(line))
    return 0


@audit.command("export")
@_AUDIT_DIR
@_SINCE
@_UNTIL
@_ALLOWED_SIGNERS
@click.option("-o", "--output", type=click.Path(path_type=Path), default="mailtls-audit.tar", show_default=True)
def export_command(audit_dir: Path | None, since: str, until: str, allowed_signers: Path | None, output: Path) -> int:
    """Write one tar with everything that is needed to verify the runs of a time elsewhere."""
    wanted = Wanted(
        since=moment("--since", since) if since else "",
        until=moment("--until", until, end=True) if until else "",
    )
    folder = _audit_dir(audit_dir)
    allowed = _allowed_signers(allowed_signers)
    machine = socket.gethostname()
    count = export(folder, output, wanted, machine=machine, allowed_signers=allowed, progress=_with_progress)
    print(f"{output}: {count} runs" + ("" if allowed else f", without {ALLOWED_SIGNERS_NAME}: none is known here"))
    return 0


def _tell(folder: Path, wanted: Wanted, found: Verified) -> None:
    for problem in found.problems:
        print(printable(str(problem)).replace("\n", "\\n"))
    for run in found.not_ended:
        print(f"begun and not ended: {run} (killed, or at work)")
    span = "".join(f", {word} {text}" for word, text in (("from", wanted.since), ("before", wanted.until)) if text)
    print(f"{folder}: {found.ended} runs ended, {len(found.not_ended)} not{span}; head {found.head}")
    whose = "" if wanted.signers else "; WHO SIGNED IS NOT CHECKED: give --allowed-signers"
    by = ", ".join(f"{count} by {name}" for name, count in found.signers.items())
    checked = f"keys judged by OpenSSH on {found.signatures_checked} of them{whose}"
    print(f"signed: {by or 'none'}; unsigned: {len(found.unsigned)}; {checked}")
    if found.after_the_last_signature:
        print(f"Lines after the last signature, which nobody vouches for: {found.after_the_last_signature}")
    if not wanted.heads:
        print("Not checked: whether the end was cut off. Keep the head elsewhere, and give it with --head.")
    print("NOT AS IT WAS" if found.problems else "as it was")


def _audit_dir(given: Path | None) -> Path:
    folder = given if given is not None else default_audit_dir()
    if not folder.is_dir():
        raise NotReady(f"{folder} is no folder", do="give the audit folder, or set MAILTLS_AUDIT_DIR")
    return folder


def _lines(folder: Path) -> list[bytes]:
    lines = read_lines(folder)
    if not lines:
        raise NotReady(f"{folder} has no chain: no run was recorded there")
    return lines


def _allowed_signers(given: Path | None) -> Path | None:
    """The file named, or the operator's own where there is one; raises BadParameter for one that is not there."""
    named = os.environ.get("MAILTLS_ALLOWED_SIGNERS", "")
    path = given or (Path(named) if named else None)
    if path is not None:
        if not path.is_file():
            raise BadParameter("--allowed-signers", f"{path} is no file")
        return path
    own = Path.home() / ".config/mailtls-nb/allowed_signers"
    return own if own.is_file() else None


def _text_of(head: str) -> str:
    path = Path(head)
    try:
        return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else head
    except OSError as error:
        raise BadParameter("--head", f"{path} cannot be read: {error.strerror}") from error


def _with_progress(items: Iterable[_Item], total: int, doing: str) -> Iterable[_Item]:
    # disable=None: only on a terminal.
    return tqdm(items, total=total, desc=doing, unit="", leave=False, disable=None)
