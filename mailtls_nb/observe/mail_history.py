"""A host's past mail connections: its mail log with the rotated ones, or systemd's journal, read once and in order.

The host unpacks and filters, so only lines that may tell something travel; they are judged as they come, and nothing is
kept. What is read is what was there at the beginning: a log that is rotated meanwhile is found again by its inode.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Never

from tqdm import tqdm

from mailtls_nb.errors import NotReady
from mailtls_nb.hosts.base import Host
from mailtls_nb.sendmail.history import LONGEST_LINE, Event, MailHistory
from mailtls_nb.sendmail.impact import Impact, Period
from mailtls_nb.sendmail.layout import LogSource
from mailtls_nb.sendmail.tally import Tally

DAYS = 30
# For one log file; 1 GB takes about a minute.
_TIMEOUT_S = 3600
# For the progress bar: text like this shrinks to about a tenth.
_EXPANSION = 10
_COMPRESSED = (".gz", ".bz2", ".xz", ".zst", ".Z")

_ZONE = "date +%z"

# Parameters: path of the log, days. Prints inode, size and path of the log and of those rotated away that may hold
# lines of that time.
_LIST = r"""
find "$1" "$1"[.-]* -prune -type f -mtime "-$2" -print 2>/dev/null | while read path; do
    inode=`ls -i "$path" 2>/dev/null | sed 's/^ *\([0-9]*\) .*/\1/'`
    size=`ls -ln "$path" 2>/dev/null | sed 's/^[^ ]* *[^ ]* *[^ ]* *[^ ]* *\([0-9]*\) .*/\1/'`
    echo "$inode $size $path"
done
"""

# The lines that may tell something: see MailHistory. -a: a log may hold any byte. sed where grep knows no -a or -E.
_FILTER = r"""
filter() {
    if echo x | grep -a -E x >/dev/null 2>&1; then
        grep -a -E '\]: .*(STARTTLS=|AUTH=server|from=|to=|ruleset=|lost input channel|did not issue MAIL)'
        test $? -le 1
    else
        sed -e '/STARTTLS=/b' -e '/AUTH=server/b' -e '/: from=/b' -e '/: to=/b' -e '/ruleset=/b' \
            -e '/lost input channel/b' -e '/did not issue MAIL/b' -e d
    fi
}
"""

# Parameters: path of the log, path and inode of the file to read. It is opened first: from then on nothing that happens
# to its name matters. Rotation that compresses as well gives another inode: then the file is gone.
_READ = (
    _FILTER
    + r"""
path=$2
inode=`ls -i "$path" 2>/dev/null | sed 's/^ *\([0-9]*\) .*/\1/'`
test "$inode" = "$3" || path=`ls -i "$1" "$1"[.-]* 2>/dev/null | sed -n "s/^ *$3 //p" | sed 1q`
test -n "$path" || { echo "it was rotated away while the log was read" >&2; exit 0; }
case $path in
    *.gz) unpack="gzip -dc" ;;
    *.bz2) unpack="bzip2 -dc" ;;
    *.xz) unpack="xz -dc" ;;
    *.zst) unpack="zstd -dcq" ;;
    *.Z) unpack="uncompress -c" ;;
    *) unpack=cat ;;
esac
exec 3<"$path" || exit 1
$unpack <&3 | filter
"""
)

# Parameter: days. The facility is mail (2), whatever tag sendmail was given.
_JOURNAL = _FILTER + r'journalctl --no-pager -q -o short-iso --since "-$1d" SYSLOG_FACILITY=2 | filter'

_NUMBERED = re.compile(r"\.(\d{1,3})(?:\.[A-Za-z0-9]+)?")
_DATED = re.compile(r"[.-](\d{8}(?:-\d+)?)(?:\.[A-Za-z0-9]+)?")


@dataclass(frozen=True)
class LogFile:
    """One file of the mail log. ``size`` is in bytes as it lies there."""

    path: str
    inode: str
    size: int

    @property
    def text_size(self) -> int:
        """About how many bytes of text it holds."""
        return self.size * _EXPANSION if self.path.endswith(_COMPRESSED) else self.size


def observe_impact(
    host: Host,
    log: LogSource,
    tally: Tally,
    *,
    now: datetime,
    days: int = DAYS,
) -> Impact:
    """Judge the mail of the last ``days`` days by ``tally``; ``now`` is aware.

    What could not be read is in ``remarks``. Raises NotReady where there is no log at all, and what the transport
    raises.
    """
    history = MailHistory(now=now, since=now - timedelta(days=days), utc_offset=_utc_offset(host))
    remarks = read_history(host, log, history, tally.add, days=days)
    return tally.impact(Period.of(history), remarks)


def read_history(
    host: Host, log: LogSource, history: MailHistory, take: Callable[[Event], None], *, days: int = DAYS
) -> tuple[str, ...]:
    """Feed the log's lines of the last ``days`` days to ``history`` and the events to ``take``; returns remarks."""
    lines = _Lines(history, take)
    if not log.path:
        with _bar(host, None) as bar:
            return _read("the journal", host, ("sh", "-c", _JOURNAL, "sh", str(days)), lines, bar.update)
    files = list_log_files(host, log, days=days)
    remarks: list[str] = []
    with _bar(host, sum(file.text_size for file in files)) as bar:
        end = 0
        for file in files:
            end += file.text_size
            argv = ("sh", "-c", _READ, "sh", log.path, file.path, file.inode)
            remarks += _read(file.path, host, argv, lines, partial(_advance, bar, end))
            # What the filter kept back counts as well.
            bar.update(end - bar.n)
    return tuple(remarks)


def list_log_files(host: Host, log: LogSource, *, days: int = DAYS) -> tuple[LogFile, ...]:
    """The log and its rotated siblings that may hold lines of the last ``days`` days, oldest first.

    Raises NotReady where there are none.
    """
    completed = host.run(("sh", "-c", _LIST, "sh", log.path, str(days + 1)), timeout_s=60)
    files = []
    for line in completed.text.splitlines():
        inode, _, rest = line.partition(" ")
        size, _, path = rest.partition(" ")
        if inode.isdigit() and size.isdigit() and _age(log.path, path) is not None:
            files.append(LogFile(path, inode, int(size)))
    if not files:
        raise NotReady(
            f"{host.name} has no mail log {log.path} of the last {days} days, so who would be refused cannot be told",
            left="nothing was touched",
            do="see that syslog runs there and that sendmail logs to the mail facility",
        )
    return tuple(sorted(files, key=lambda file: _age(log.path, file.path) or (0, 0, "")))


def _age(log_path: str, path: str) -> tuple[int, int, str] | None:
    """To sort by, oldest first: dated names by their dates, numbered ones by falling numbers, the log itself last.

    None for a file that is no part of the log.
    """
    suffix = path.removeprefix(log_path)
    if not suffix:
        return (2, 0, "")
    if match := _DATED.fullmatch(suffix):
        return (0, 0, match[1])
    if match := _NUMBERED.fullmatch(suffix):
        return (1, -int(match[1]), suffix)
    return None


def _read(
    what: str, host: Host, argv: tuple[str, ...], lines: _Lines, update: Callable[[int], object]
) -> tuple[str, ...]:
    """Stream one source; what went wrong with it, if anything, as a remark."""

    def take(piece: bytes) -> None:
        lines.take(piece)
        update(len(piece))

    completed = host.stream(argv, take, timeout_s=_TIMEOUT_S)
    lines.end()
    said = completed.stderr.decode("utf-8", "replace").strip()
    if not said and completed.status != 0:
        said = f"status {completed.status}"
    return (f"{what}: {said.splitlines()[-1][:300]}",) if said else ()


class _Lines:
    """Cuts pieces of text into lines."""

    def __init__(self, history: MailHistory, take: Callable[[Event], None]) -> None:
        self._history = history
        self._take = take
        self._rest = b""

    def take(self, piece: bytes) -> None:
        *lines, rest = (self._rest + piece).split(b"\n")
        # Enough to see that it is too long.
        self._rest = rest if len(rest) <= LONGEST_LINE else rest[: LONGEST_LINE + 1]
        for line in lines:
            event = self._history.feed(line)
            if event is not None:
                self._take(event)

    def end(self) -> None:
        """A last line without an end is one too."""
        if self._rest:
            self.take(b"\n")


def _utc_offset(host: Host) -> timedelta:
    """How far the host's clock on the wall is ahead of UTC now; zero where its date cannot say."""
    match = re.fullmatch(r"([+-])(\d\d)(\d\d)", host.run(_ZONE.split(), timeout_s=30).text.strip())
    if match is None:
        return timedelta(0)
    offset = timedelta(hours=int(match[2]), minutes=int(match[3]))
    return -offset if match[1] == "-" else offset


def _advance(bar: tqdm[Never], end: int, size: int) -> None:
    bar.update(min(size, end - bar.n))


def _bar(host: Host, total: int | None) -> tqdm[Never]:
    # Shown on a terminal only.
    return tqdm(desc=f"mail log of {host.name}", total=total, unit="B", unit_scale=True, disable=None, leave=False)
