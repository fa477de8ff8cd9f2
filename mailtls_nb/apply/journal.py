"""The journal of one change, kept on the host that is changed: what stood there before, and who is at work.

``/var/lib/mailtls-nb`` (root only) holds ``lock``, one line that says who holds it, and ``transaction``, one numbered
directory for each path about to be changed (``path``, ``kind``, ``content``). A path is entered there, whole and by one
rename, before it is touched, so a run that is killed at any moment leaves behind all that is needed to undo it. A
change counts from the moment ``transaction`` is renamed away; the copies, which may hold keys, are then deleted.

Every command that changes something runs inside one script that first takes ``guard`` (flock) and looks whether the
lock is still its own. So a command whose runner was killed has ended before the next run undoes it, or finds that it no
longer may.
"""

from __future__ import annotations

import os
import shlex
import socket
import uuid
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mailtls_nb.apply.journal_scripts import (
    ACQUIRE,
    FINISH,
    LEASE_MINUTES,
    LOCK_LOST,
    OVERTAKEN,
    PRELUDE,
    REFUSED,
    ROLL_BACK,
    STATE,
)
from mailtls_nb.errors import ChangeFailed, CommandFailed, MailTLSError, NotReady, StaleApproval
from mailtls_nb.hosts.base import Completed, Host

_PROC = Path("/proc")

# Lines of locks that this process could not give back; only this process knows that nobody holds them.
_abandoned: set[str] = set()


@dataclass(frozen=True)
class Overtaken:
    """A path that somebody else changed after our change, with its entry: ``kind`` is file, link or absent."""

    path: str
    number: str
    kind: str

    @property
    def problem(self) -> str:
        """Which path, and where its copy is."""
        kept = f"{STATE}/transaction/{self.number}/content"
        copies = {"file": f"the copy is {kept}", "link": f"it was a link to what {kept} names"}
        copy = copies.get(self.kind, "it was not there")
        return f"{self.path} (somebody else changed it since, so it was left alone; before the change {copy})"

    @property
    def way_out(self) -> str:
        """The two commands of which one finishes it."""
        entry, path = f"{STATE}/transaction/{self.number}", shlex.quote(self.path)
        commands = {
            "file": f"cp -p -- {entry}/content {path}",
            "link": f'rm -f -- {path}; ln -s -- "$(cat {entry}/content)" {path}',
        }
        back = commands.get(self.kind, f"rm -- {path}")
        return f"to keep {self.path} as it is now: `rm -r {entry}`, or to have it as before the change: `{back}`"


@dataclass(frozen=True)
class Undone:
    """What a roll-back did.

    Paths proved to be as before; paths that are not; paths that somebody else changed, left alone; directories that
    stay because of what somebody else put there; and whether the daemon had been told.
    """

    back: tuple[str, ...]
    bad: tuple[str, ...]
    overtaken: tuple[Overtaken, ...]
    kept: tuple[str, ...]
    reloaded: bool

    @property
    def whole(self) -> bool:
        return not self.bad and not self.overtaken


def _identity() -> str:
    """One line that names this process so that another on the same machine can tell whether it still lives."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
        namespace = str(Path("/proc/self/ns/pid").readlink())
        started = _start_time(os.getpid())
    except OSError:
        boot, namespace, started = "-", "-", "-"
    return " ".join((uuid.uuid4().hex, boot, namespace, str(os.getpid()), started or "-", socket.gethostname()))


def _start_time(pid: int) -> str | None:
    """Field 22 of /proc/PID/stat (proc(5)): with the pid it names a process for good. None for one that has ended."""
    fields = (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    return None if fields[0] in ("Z", "X") else fields[19]


def _is_gone(line: str) -> bool:
    """Whether the holder ran on this machine and has ended; False whenever that cannot be known."""
    if line in _abandoned:
        return True
    fields, ours = line.split(" ", 5), _identity().split(" ", 5)
    if len(fields) != 6 or ours[1] == "-" or fields[1:3] != ours[1:3]:
        return False
    pid = int(fields[3])
    try:
        return _start_time(pid) != fields[4]
    except OSError:
        # With hidepid (proc(5)) others' processes cannot be seen there, but the kernel tells whether there is one.
        pass
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    except OSError:
        return False
    return False


class Journal:
    """The lock and the journal on one host, held by this process. ``interrupted``: an earlier change waits there."""

    def __init__(self, host: Host) -> None:
        self.host = host
        self._line = _identity()
        self._numbers: dict[str, str] = {}
        self.interrupted = False

    def acquire(self) -> None:
        """Take the lock; raises NotReady when another run is at work on the host."""
        gone = ""
        for _ in range(3):
            answer, _, holder = self._acquire(gone).partition("\n")
            if answer in ("acquired", "interrupted"):
                self.interrupted = answer == "interrupted"
                return
            holder = holder.strip()
            if answer == "held" and not _is_gone(holder):
                break
            gone = holder
        fields = holder.split(" ", 5)
        who = f"process {fields[3]} on {fields[5]}" if len(fields) == 6 else "an unknown process"
        raise NotReady(
            f"{self.host.name}: another run is changing this host ({who})",
            left="nothing was touched",
            do="wait for it to end. A run that died on another machine is passed over after "
            f"{LEASE_MINUTES} minutes; if you know that it is dead, remove {STATE}/lock on {self.host.name}: "
            "what it left is then put back first",
        )

    def _acquire(self, gone: str) -> str:
        argv = ["sh", "-c", ACQUIRE, "mailtls-nb: taking the lock", self._line, gone]
        completed = self.host.run(argv, timeout_s=90)
        _check(completed, f"taking the lock in {STATE}")
        return completed.text

    def run(
        self,
        doing: str,
        script: str,
        *arguments: str,
        changes: Sequence[str] = (),
        expected: Mapping[str, str] | None = None,
        links: bool = False,
        stdin: bytes = b"",
        timeout_s: float = 90,
    ) -> Completed:
        """Run a script that changes something, after each path of ``changes`` is in the journal; its status is data.

        ``doing`` names it in process lists and records. ``expected``: the SHA-256 (hex) of what must stand at a path,
        "link TARGET" or "absent", compared right before. ``links``: a path may be a symbolic link, and is then changed
        itself. Raises StaleApproval when something else stands there, with nothing done;
        CommandFailed when a path cannot be entered in the journal, ChangeFailed when the lock is no longer ours.
        """
        untouched = not self.has_entries
        added = [path for path in dict.fromkeys(changes) if path not in self._numbers]
        for path in added:
            self._numbers[path] = f"{len(self._numbers) + 1:04}"
        entries = [word for path in dict.fromkeys(changes) for word in (self._numbers[path], path)]
        wanted = [word for pair in (expected or {}).items() for word in pair]
        argv = ["sh", "-c", PRELUDE + script, f"mailtls-nb: {doing}", self._line, "links" if links else ""]
        argv += [str(len(wanted) // 2), *wanted, str(len(entries) // 2), *entries, *arguments]
        completed = self.host.run(argv, stdin=stdin, timeout_s=timeout_s)
        if OVERTAKEN in completed.stderr:
            for path in added:
                del self._numbers[path]
            changed = completed.stderr.partition(OVERTAKEN)[2].decode("utf-8", "replace").strip()
            raise StaleApproval(
                f"{changed} on {self.host.name} was changed since the plan was made",
                left="nothing was touched" if untouched else "",
                do="run again: the plan is made anew",
            )
        if LOCK_LOST in completed.stderr:
            raise ChangeFailed(
                f"{self.host.name}: another run has taken over the lock while {doing}",
                left="the other run has put back, or will put back, what this one changed",
                do="look at the host with 07-check-host, then run this again",
            )
        if REFUSED in completed.stderr:
            problem = completed.stderr.partition(REFUSED)[2].decode("utf-8", "replace").strip()
            raise CommandFailed(f"{doing} on {self.host.name}: {problem}; such a thing is not changed")
        return completed

    @property
    def has_entries(self) -> bool:
        """Whether anything may have been changed."""
        return bool(self._numbers) or self.interrupted

    def roll_back(self) -> Undone:
        """Put everything back and look whether it is: content, mode, owner and time."""
        completed = self.run("putting everything back", ROLL_BACK, timeout_s=300)
        _check(completed, "putting everything back")
        lines = completed.text.splitlines()

        def named(word: str) -> tuple[str, ...]:
            return tuple(line.removeprefix(word) for line in lines if line.startswith(word))

        overtaken = tuple(
            Overtaken(path, number, kind) for number, kind, path in (line.split(" ", 2) for line in named("overtaken "))
        )
        bad = named("bad ")
        back = tuple(path for path in named("back ") if path not in bad)
        return Undone(back, bad, overtaken, named("kept "), "reloaded" in lines)

    def finish(self, *, release: bool = True) -> None:
        """Drop the journal: the change counts, or is undone. Then give the lock back, or begin a new journal."""
        script = (
            FINISH if release else 'rm -rf "$t/new"; mv "$t" "$state/done.$$"; mkdir "$t"; rm -rf "$state/done.$$"\n'
        )
        _check(self.run("closing the journal", script), "closing the journal")
        self._numbers.clear()
        self.interrupted = False

    def finished(self) -> bool:
        """Whether a ``finish`` that failed, or whose answer was lost, was carried out; asks once."""
        script = 'if [ -d "$t" ]; then echo open; else rm -f "$state/lock"; fi\n'
        try:
            completed = self.run("asking whether the change counts", script)
        except ChangeFailed:
            # The lock is given back by nobody but us, after the journal is closed.
            return True
        except (MailTLSError, OSError):
            return False
        return completed.status == 0 and "open" not in completed.text

    def abandon(self) -> None:
        """Give the lock back and leave the journal: the next run undoes what is in it."""
        _abandoned.add(self._line)
        # The host may be out of reach by now; this process then passes over its own lock, another over a dead one's.
        with suppress(MailTLSError, OSError):
            self.run("giving the lock back", 'rmdir "$t" 2>/dev/null || :\nrm -f "$state/lock"\n')


def _check(completed: Completed, doing: str) -> None:
    if completed.status != 0:
        printed = completed.stderr.decode("utf-8", "replace").strip()
        raise CommandFailed(f"{doing} on {completed.host} ended with status {completed.status}: {printed}")
