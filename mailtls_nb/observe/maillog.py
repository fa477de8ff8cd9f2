"""The lines that a host's mail log gained since a mark."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from mailtls_nb.errors import NotReady
from mailtls_nb.hosts.base import Host
from mailtls_nb.sendmail.layout import LogSource

_MARK = 'if test -n "$1"; then wc -c < "$1"; else journalctl -n 0 --show-cursor -q --no-pager; fi'
# A log that became shorter was rotated: everything in the new file is newer than the mark.
_SINCE = 'size=$(wc -c < "$1") || exit; from=$2; test "$size" -ge "$from" || from=0; tail -c +$((from + 1)) -- "$1"'
_JOURNAL_SINCE = "journalctl --no-pager -q -o short-iso --after-cursor"
_WAIT_S = 15.0
_PAUSE_S = 0.2


@dataclass(frozen=True)
class LogMark:
    """A place in a host's mail log: a size in bytes, or a cursor of systemd's journal."""

    host: Host
    log: LogSource
    position: str

    def lines(self) -> tuple[str, ...]:
        """The lines written after the mark."""
        argv: tuple[str, ...]
        if self.log.path:
            argv = ("sh", "-c", _SINCE, "sh", self.log.path, self.position)
        else:
            argv = (*_JOURNAL_SINCE.split(), self.position)
        completed = self.host.run(argv, timeout_s=30).check(f"reading {self.log.path or 'the journal'}")
        return tuple(completed.stdout.decode("utf-8", "replace").splitlines())

    def wait_for(self, found: Callable[[tuple[str, ...]], str], *, wait_s: float = _WAIT_S) -> str:
        """Read until ``found`` returns a word for what the lines show; ``nothing logged`` after ``wait_s`` seconds."""
        end = time.monotonic() + wait_s
        while True:
            word = found(self.lines())
            if word or time.monotonic() >= end:
                return word or "nothing logged"
            time.sleep(_PAUSE_S)


def mark_log(host: Host, log: LogSource) -> LogMark:
    """Remember where the mail log ends now; raises NotReady when it cannot be read."""
    completed = host.run(("sh", "-c", _MARK, "sh", log.path), timeout_s=30)
    position = completed.text.strip().removeprefix("-- cursor: ")
    if completed.status != 0 or not position:
        raise NotReady(
            f"the mail log of {host.name} ({log.path or 'the journal'}) cannot be read, so nothing could be proved",
            left="nothing was touched",
            do="see that syslog runs there and that sendmail logs to the mail facility",
        )
    return LogMark(host, log, position)
