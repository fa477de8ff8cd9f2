"""Part of an audit folder in one tar, with everything that somebody elsewhere needs to verify it."""

from __future__ import annotations

import io
import re
import tarfile
from collections.abc import Callable, Iterable, Sequence
from datetime import UTC, date, datetime, time, timedelta
from importlib.resources import files
from pathlib import Path

from mailtls_nb.audit.chain import LOG_NAME, read_lines, summaries
from mailtls_nb.audit.links import parse_lines
from mailtls_nb.audit.listing import INDEX_NAME
from mailtls_nb.audit.pages.index_page import index_page
from mailtls_nb.audit.verify import Head, Wanted
from mailtls_nb.errors import BadParameter, FileAccessFailed, NotReady
from mailtls_nb.record import rfc3339

ALLOWED_SIGNERS_NAME = "allowed_signers"
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")

_README = """\
Runs of mailtls-nb, recorded on {machine}: those begun from {since} to {until}, {count} of them.

log.jsonl is the whole chain up to the day of this export. To verify it without mailtls-nb, with ssh-keygen, sha256sum
and jq:

    bash verify.sh . ALLOWED_SIGNERS "{head}"{span}

ALLOWED_SIGNERS is OpenSSH's file of the operators' public keys ("man ssh-keygen", ALLOWED SIGNERS). Use one that you
have from the operators themselves rather than one that came with this, and a head ("NUMBER DIGEST") that was kept
elsewhere rather than the one above. Read verify.sh first: it is short, and stands in the README of mailtls-nb, too.
With mailtls-nb:

    mailtls-nb audit verify . --allowed-signers ALLOWED_SIGNERS{options}
"""


def moment(name: str, text: str, *, end: bool = False) -> str:
    """A day or a time with its zone as RFC 3339 in UTC; as the ``end`` a day counts to its last second.

    Raises BadParameter, naming the option ``name``.
    """
    try:
        if _DAY.fullmatch(text):
            day = datetime.combine(date.fromisoformat(text), time(tzinfo=UTC))
            return rfc3339(day + timedelta(days=1) if end else day)
        return rfc3339(datetime.fromisoformat(text))
    except (ValueError, OverflowError):
        raise BadParameter(
            name, f"{text!r:.60} is no time", do="write a day (2026-11-28, in UTC) or a time (2026-11-28T12:00:00Z)"
        ) from None


def export(
    audit_dir: Path,
    target: Path,
    wanted: Wanted,
    *,
    machine: str,
    allowed_signers: Path | None,
    progress: Callable[[Iterable[str], int, str], Iterable[str]],
) -> int:
    """Write the runs begun within the span of ``wanted`` into a new tar file (mode 0600); returns how many.

    Raises NotReady where there is no chain or no such run, FileAccessFailed when the file cannot be written: nothing
    is left of it then. What is there already is never overwritten.
    """
    lines = read_lines(audit_dir)
    entries = [line.entry for line in parse_lines(lines) if line.entry]
    runs = list(dict.fromkeys(entry.run for entry in entries if wanted.covers(entry)))
    if not runs:
        raise NotReady(f"{audit_dir} holds no run that began then")
    top = target.name.partition(".")[0] or "audit"
    chosen = [run for run in summaries(lines) if run.folder in set(runs)]
    texts = {
        LOG_NAME: b"".join(lines),
        INDEX_NAME: index_page(chosen, made=rfc3339(datetime.now(UTC))).encode("utf-8", "replace"),
        "README.txt": _readme(lines, wanted, machine, len(runs)).encode(),
        "verify.sh": (files("mailtls_nb") / "audit" / "verify.sh").read_bytes(),
        "record.schema.json": (files("mailtls_nb") / "record.schema.json").read_bytes(),
    }
    try:
        if allowed_signers is not None:
            texts[ALLOWED_SIGNERS_NAME] = allowed_signers.read_bytes()
        with target.open("xb") as file:
            target.chmod(0o600)
            try:
                with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar:
                    for name, data in texts.items():
                        _add(tar, f"{top}/{name}", data)
                    for run in progress(runs, len(runs), "runs"):
                        if (audit_dir / run).is_dir():
                            tar.add(audit_dir / run, f"{top}/{run}", filter=_anonymous)
            except BaseException:
                target.unlink()
                raise
    except FileExistsError:
        raise BadParameter("--output", f"{target} is there already", do="name another file") from None
    except OSError as error:
        raise FileAccessFailed(f"{error.filename or target}: {error.strerror}", left="nothing was written") from error
    return len(runs)


def _readme(lines: Sequence[bytes], wanted: Wanted, machine: str, count: int) -> str:
    options = f" --since {wanted.since}" if wanted.since else ""
    options += f" --until {wanted.until}" if wanted.until else ""
    return _README.format(
        machine=machine,
        since=wanted.since or "the first",
        until=wanted.until or "the last",
        count=count,
        head=Head.of(parse_lines(lines)),
        span=f' "{wanted.since or 0}" "{wanted.until or 9}"' if options else "",
        options=options,
    )


def _add(tar: tarfile.TarFile, name: str, data: bytes) -> None:
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(data), 0o600
    tar.addfile(info, io.BytesIO(data))


def _anonymous(info: tarfile.TarInfo) -> tarfile.TarInfo:
    # Who owns the files here means nothing elsewhere, and extracting as root would give them to a stranger.
    info.uid = info.gid = 0
    info.uname = info.gname = ""
    return info
