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
import socket
import uuid
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mailtls_nb.errors import ChangeFailed, CommandFailed, MailTLSError, NotReady
from mailtls_nb.hosts.base import Completed, Host

STATE = "/var/lib/mailtls-nb"

# A lock of a runner that cannot be asked (another machine) is given up after this long without a sign of life.
LEASE_MINUTES = 15

_LOCK_LOST = b"mailtls-nb: the lock is no longer ours"
_REFUSED = b"mailtls-nb: refused: "

# Lines of locks that this process could not give back; only this process knows that nobody holds them.
_abandoned: set[str] = set()

_SETTINGS = rf"""
set -eu
umask 077
LC_ALL=C; export LC_ALL
PATH=/usr/gnu/bin:/usr/sbin:/sbin:/usr/bin:/bin:/usr/ccs/bin:$PATH; export PATH
state={STATE}
t=$state/transaction
"""

_TAKE_GUARD = r"""
exec 9>>"$state/guard"
if command -v flock >/dev/null; then flock -w 60 9; fi
"""

# $1: our line for the lock. $2: the line of a holder known to be gone, or empty.
_ACQUIRE = (
    _SETTINGS
    + r"""
mkdir -p "$state"
chown 0:0 "$state"; chmod 0700 "$state"
"""
    + _TAKE_GUARD
    + rf"""
printf '%s\n' "$1" >"$state/lock.new"
if ln "$state/lock.new" "$state/lock" 2>/dev/null; then
    rm -f "$state/lock.new"
elif [ -n "$2" ] && [ "`cat "$state/lock"`" = "$2" ]; then
    mv -f "$state/lock.new" "$state/lock"
else
    rm -f "$state/lock.new"
    if [ -n "`find "$state/lock" -mmin +{LEASE_MINUTES} 2>/dev/null`" ]; then echo silent; else echo held; fi
    cat "$state/lock"
    exit 0
fi
rm -rf "$state"/done.* "$state"/check.*
rmdir "$t" 2>/dev/null || :
if [ -d "$t" ]; then echo interrupted; else mkdir "$t"; echo acquired; fi
"""
)

# Before each change. $1: our line of the lock.
_PRELUDE = (
    _SETTINGS
    + r"""
lock_lost() { echo "mailtls-nb: the lock is no longer ours" >&2; exit 75; }
[ -d "$state" ] || lock_lost
"""
    + _TAKE_GUARD
    + r"""
[ "`cat "$state/lock" 2>/dev/null`" = "$1" ] || lock_lost
touch "$state/lock"
shift

# Every file is made under this name beside its place, then renamed.
new_name() { printf '%s.mailtls-nb-new' "$1"; }
state_of() { stat -c '%a %u %g %Y' -- "$1"; }
mode_and_owner() { stat -c '%a %u %g' -- "$1"; }
refuse() { echo "mailtls-nb: refused: $*" >&2; exit 76; }
path_of() { path=`cat "$1/path"; printf x`; path=${path%x}; }

# register NUMBER PATH: keep what stands at PATH.
register() {
    [ ! -d "$t/$1" ] || return 0
    rm -rf "$t/new"; mkdir "$t/new"
    printf '%s' "$2" >"$t/new/path"
    if [ -h "$2" ]; then refuse "$2 is a symbolic link"
    elif [ -f "$2" ]; then cp -p -- "$2" "$t/new/content"; echo file >"$t/new/kind"
    elif [ -d "$2" ]; then mode_and_owner "$2" >"$t/new/content"; echo directory >"$t/new/kind"
    elif [ -e "$2" ]; then refuse "$2 is neither a file nor a directory"
    else echo absent >"$t/new/kind"
    fi
    sync "$t/new"/* 2>/dev/null || :
    mv "$t/new" "$t/$1"
}
set_owner_and_mode() {
    chown -- "$2" "$1"
    if [ -d "$1" ]; then chmod u-s,g-s -- "$1"; fi
    chmod -- "$3" "$1"
}

entries=$1; shift
while [ "$entries" -gt 0 ]; do register "$1" "$2"; shift 2; entries=$((entries - 1)); done
"""
)

_ROLL_BACK = r"""
rm -rf "$t/new"
# What the change made goes first: on a full disk that gives back the room for the rest.
for d in `ls -r "$t"`; do
    [ -f "$t/$d/kind" ] || continue
    path_of "$t/$d"
    rm -f -- "`new_name "$path"`" || :
    if [ "`cat "$t/$d/kind"`" = absent ] && { [ ! -d "$path" ] || [ -h "$path" ]; }; then rm -f -- "$path" || :; fi
done
for d in `ls -r "$t"`; do
    [ -f "$t/$d/kind" ] || continue
    path_of "$t/$d"
    case `cat "$t/$d/kind"` in
    absent)
        if [ -d "$path" ]; then rmdir -- "$path" || :; fi
        [ ! -e "$path" ] || printf 'bad %s\n' "$path" ;;
    file)
        if [ ! -f "$path" ] || ! cmp -s -- "$t/$d/content" "$path" \
            || [ "`state_of "$t/$d/content"`" != "`state_of "$path"`" ]; then
            { cp -p -- "$t/$d/content" "`new_name "$path"`" && mv -f -- "`new_name "$path"`" "$path"; } || :
        fi
        { cmp -s -- "$t/$d/content" "$path" && [ "`state_of "$t/$d/content"`" = "`state_of "$path"`" ]; } \
            || printf 'bad %s\n' "$path" ;;
    directory)
        set -- `cat "$t/$d/content"`
        if [ "`mode_and_owner "$path"`" != "$*" ]; then
            { chown -- "$2:$3" "$path" && chmod u-s,g-s -- "$path" && chmod -- "$1" "$path"; } || :
        fi
        [ "`mode_and_owner "$path"`" = "$*" ] || printf 'bad %s\n' "$path" ;;
    esac
    printf 'back %s\n' "$path"
done
if [ -e "$t/reloading" ]; then echo reloaded; fi
"""

_FINISH = r"""
mv "$t" "$state/done.$$"
rm -f "$state/lock"
rm -rf "$state/done.$$"
"""


@dataclass(frozen=True)
class Undone:
    """What a roll-back did: paths proved to be as before, paths that are not, and whether the daemon had been told."""

    back: tuple[str, ...]
    bad: tuple[str, ...]
    reloaded: bool


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
    """Field 22 of /proc/PID/stat (proc(5)): with the pid it names a process for good."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in ("Z", "X") else fields[19]


def _is_gone(line: str) -> bool:
    """Whether the holder ran on this machine and has ended; False whenever that cannot be known."""
    if line in _abandoned:
        return True
    fields, ours = line.split(" ", 5), _identity().split(" ", 5)
    if len(fields) != 6 or ours[1] == "-" or fields[1:3] != ours[1:3]:
        return False
    return _start_time(int(fields[3])) != fields[4]


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
        argv = ["sh", "-c", _ACQUIRE, "mailtls-nb: taking the lock", self._line, gone]
        completed = self.host.run(argv, timeout_s=90)
        _check(completed, f"taking the lock in {STATE}")
        return completed.text

    def run(
        self,
        doing: str,
        script: str,
        *arguments: str,
        changes: Sequence[str] = (),
        stdin: bytes = b"",
        timeout_s: float = 90,
    ) -> Completed:
        """Run a script that changes something, after each path of ``changes`` is in the journal; its status is data.

        ``doing`` names it in process lists and records. Raises CommandFailed when a path cannot be entered in the
        journal, ChangeFailed when the lock is no longer ours.
        """
        entries = []
        for path in changes:
            if path not in self._numbers:
                self._numbers[path] = f"{len(self._numbers) + 1:04}"
                entries += [self._numbers[path], path]
        argv = ["sh", "-c", _PRELUDE + script, f"mailtls-nb: {doing}", self._line, str(len(entries) // 2)]
        completed = self.host.run([*argv, *entries, *arguments], stdin=stdin, timeout_s=timeout_s)
        if _LOCK_LOST in completed.stderr:
            raise ChangeFailed(
                f"{self.host.name}: another run has taken over the lock while {doing}",
                left="the other run has put back, or will put back, what this one changed",
                do="look at the host with 07-check-host, then run this again",
            )
        if _REFUSED in completed.stderr:
            problem = completed.stderr.partition(_REFUSED)[2].decode("utf-8", "replace").strip()
            raise CommandFailed(f"{doing} on {self.host.name}: {problem}; such a thing is not changed")
        return completed

    @property
    def has_entries(self) -> bool:
        """Whether anything may have been changed."""
        return bool(self._numbers) or self.interrupted

    def roll_back(self) -> Undone:
        """Put everything back and look whether it is: content, mode, owner and time."""
        completed = self.run("putting everything back", _ROLL_BACK, timeout_s=300)
        _check(completed, "putting everything back")
        lines = completed.text.splitlines()
        bad = tuple(line.removeprefix("bad ") for line in lines if line.startswith("bad "))
        back = tuple(line.removeprefix("back ") for line in lines if line.startswith("back "))
        return Undone(tuple(path for path in back if path not in bad), bad, "reloaded" in lines)

    def finish(self, *, release: bool = True) -> None:
        """Drop the journal: the change counts, or is undone. Then give the lock back, or begin a new journal."""
        script = (
            _FINISH if release else 'rm -rf "$t/new"; mv "$t" "$state/done.$$"; mkdir "$t"; rm -rf "$state/done.$$"\n'
        )
        _check(self.run("closing the journal", script), "closing the journal")
        self._numbers.clear()
        self.interrupted = False

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
