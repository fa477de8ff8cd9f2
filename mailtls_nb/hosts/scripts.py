"""The shell scripts that run on a host: constants, with every value a positional parameter.

They are POSIX sh and were tried with dash, bash, ksh93 (Solaris 11's /bin/sh), mksh and busybox, those that
can do job control without a terminal also with no setsid on PATH.
"""

from __future__ import annotations

# Seconds between TERM and KILL for a command that has run out of time.
GRACE_S = 2

# Parameters: nonce, limit in whole seconds, argv.
#
# The command runs in its own process group, so that it can be ended with its children; it is a background
# job because only then can the shell be told by a signal to stop waiting. (POSIX: so SIGINT and SIGQUIT are
# ignored in it where setsid is used.) The watchdog has a group of its own too: killing that group leaves no
# sleep behind, and killing it three times also catches a watchdog that has not called setsid yet. The shell's own
# standard error is closed: some shells report there that a job was killed.
RUN = r"""
nonce=$1 limit=$2
shift 2
LC_ALL=C PATH=${PATH:-/usr/bin:/bin}:/usr/sbin:/sbin
export LC_ALL PATH
cd /
exec 3<&0 4>&2 0</dev/null 2>/dev/null
if command -v setsid >/dev/null; then group=setsid; else group=; set -m; fi
expired=
trap 'expired=yes' USR1
printf '\036%s started %s\n' "$nonce" "$$"
printf '\036%s started %s\n' "$nonce" "$$" >&4
$group sh -c 'exec "$@"' sh "$@" <&3 2>&4 3<&- 4>&- &
command=$!
exec 3<&-
$group sh -c 'sleep "$1"; kill -USR1 "$2"' sh "$limit" "$$" >/dev/null 4>&- &
watchdog=$!
[ -n "$expired" ] || wait "$command"
status=$?
if [ -n "$expired" ]; then
  kill -TERM "-$command" || kill -TERM "$command"
  waited=0
  while [ "$waited" -lt 2 ] && kill -0 "-$command"; do
    sleep 1
    waited=$((waited + 1))
  done
  kill -KILL "-$command"
  status=timeout
fi
kill -KILL "-$watchdog"
kill -KILL "$watchdog"
kill -KILL "-$watchdog"
printf '\036%s ended %s\n' "$nonce" "$status"
printf '\036%s ended %s\n' "$nonce" "$status" >&4
"""

# Parameter: the process id of a RUN shell. Ends its command before its time.
END_NOW = 'kill -USR1 "$1"'

# Parameters: argv with every byte outside ASCII, and the backslash, as \0ooo for printf's %b.
DECODE_ARGV = r"""
for argument in "$@"; do
  decoded=$(printf '%b.' "$argument")
  set -- "$@" "${decoded%.}"
  shift
done
exec "$@"
"""

READ_NOT_REGULAR = 3
READ_TOO_LARGE = 4

# Parameters: absolute path, largest size in bytes. What cat says in the C locale tells why it failed: `test -e`
# cannot tell a missing file from a directory that may not be searched.
READ = r"""
if [ -e "$1" ] && [ ! -f "$1" ]; then exit 3; fi
size=$({ wc -c <"$1"; } 2>/dev/null)
if [ -n "$size" ] && [ "$((size))" -gt "$2" ]; then exit 4; fi
exec cat "$1"
"""

WRITE_SYMLINK = 3
WRITE_NOT_REGULAR = 4
WRITE_NO_DIRECTORY = 5
WRITE_SHORT = 6

# Parameters: absolute path, its directory, temporary path, size in bytes, mode in octal, owner; content on
# standard input. The chmod before any content is for directories whose default ACL overrides the umask. The size
# is checked because an interrupted transfer ends like a complete one. Where sync takes no file name, all is synced.
WRITE = r"""
path=$1 directory=$2 temporary=$3 size=$4 mode=$5 owner=$6
if [ -L "$path" ]; then readlink "$path"; exit 3; fi
if [ -e "$path" ] && [ ! -f "$path" ]; then exit 4; fi
if [ ! -d "$directory" ]; then exit 5; fi
umask 077
set -C
trap 'exit 1' HUP INT TERM PIPE
trap 'rm -f "$temporary"' EXIT
: >"$temporary" || exit 1
chmod 600 "$temporary" || exit 1
cat >>"$temporary" || exit 1
written=$(wc -c <"$temporary") || exit 1
if [ "$((written))" -ne "$size" ]; then echo "$((written))"; exit 6; fi
chown "$owner" "$temporary" || exit 1
chmod "$mode" "$temporary" || exit 1
sync "$temporary" 2>/dev/null || sync
mv -f "$temporary" "$path" || exit 1
trap - EXIT
sync "$directory" 2>/dev/null || sync
"""
