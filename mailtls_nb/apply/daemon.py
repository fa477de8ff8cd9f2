"""Telling the mail server to read its configuration again, and seeing that it does."""

from __future__ import annotations

from mailtls_nb.apply.journal import Journal
from mailtls_nb.errors import CommandFailed, NotReady
from mailtls_nb.hosts.base import Host
from mailtls_nb.sendmail.cf import Listener
from mailtls_nb.sendmail.layout import Layout

# bash, for /dev/tcp: the one SMTP client that every one of these systems has. greet_pause may hold the greeting back.
_FUNCTIONS = r"""
greeting() {
    bash -c 'exec 3<>"/dev/tcp/$0/$1" && IFS= read -r -t 40 line <&3 || exit
        printf "QUIT\r\n" >&3; printf "%s\n" "$line"' "$1" "$2" 2>/dev/null
}
pid_in() { sed -n '1s/^ *\([0-9][0-9]*\) *$/\1/p' "$1" 2>/dev/null || :; }
command_in() { sed -n 2p "$1" 2>/dev/null || :; }
# Alive and not a zombie ("[sendmail-mta] <defunct>").
is_sendmail() {
    [ -n "$1" ] || return 1
    case `ps -p "$1" -o s= -o args= 2>/dev/null` in Z*) return 1 ;; *sendmail*) return 0 ;; *) return 1 ;; esac
}
"""

# $1: pid file, $2: address, $3: port.
_STATUS = (
    _FUNCTIONS
    + r"""
pid=`pid_in "$1"`
is_sendmail "$pid" || { echo "not running"; exit 0; }
greeting "$2" "$3" || echo "no greeting"
command_in "$1"
"""
)

# $1: pid file, $2: address, $3: port, $4: hup or restart, $5: kind of service, $6: its name, $7: queue runner's pid
# file, $8: the stamp that Debian's make compares with, $9: "revive" when the daemon may hang or be gone, $10: how often
# to look for it, ten times a second.
_RELOAD = (
    _FUNCTIONS
    + r"""
: >"$t/reloading"
pid_file=$1 address=$2 port=$3 kind=$5 name=$6 polls=${10}
old=`pid_in "$pid_file"`
command=`command_in "$pid_file"`
if [ -n "$command" ]; then printf '%s\n' "$command" >"$t/command"; else command=`cat "$t/command" 2>/dev/null || :`; fi

# The daemon's processes. One that is not yet, or never gets, at its work shows its command still.
with_command() {
    [ -n "$command" ] || return 0
    ps -e -o pid= -o args= |
        COMMAND=$command awk '{ p = $1; sub(/^ *[0-9]+ /, ""); if ($0 == ENVIRON["COMMAND"]) print p }'
}
left_over() {
    for pid in "$old" `pid_in "$pid_file"` `with_command`; do
        if is_sendmail "$pid"; then echo "$pid"; fi
    done
}

end_left_over() {
    i=0
    while [ -n "`left_over`" ] && [ $i -lt 50 ]; do
        if [ $i -lt 20 ]; then signal=TERM; else signal=KILL; fi
        kill -$signal `left_over` 2>/dev/null || :
        sleep 0.2 2>/dev/null || sleep 1
        i=$((i + 1))
    done
}

# The daemon writes its pid file once its ports are open. After 2 seconds there must at least be a process.
await() {
    i=0
    while [ $i -lt "$polls" ]; do
        if [ $i -gt 20 ] && [ -z "`left_over`" ]; then return 1; fi
        new=`pid_in "$pid_file"`
        if [ -n "$new" ] && [ "$new" != "$old" ] && is_sendmail "$new"; then
            greeting "$address" "$port" | grep '^220' && return 0
        fi
        sleep 0.1 2>/dev/null || sleep 1
        i=$((i + 1))
    done
    return 1
}
service() {
    case $kind in
    systemd) systemctl "$1" "$name" ;;
    smf) svcadm "$1" -s "$name" ;;
    sysv) "$name" "$1" ;;
    pid-file) if [ "$1" = start ]; then $command; fi ;;
    esac </dev/null >/dev/null 2>&1 9>&-
}

if is_sendmail "$old" && [ "$4" = hup ]; then
    kill -HUP "$old"
    queue=`pid_in "$7"`
    if is_sendmail "$queue"; then kill -HUP "$queue"; fi
    if await; then
        if [ -e "$8" ]; then touch "$8"; fi
        exit 0
    fi
elif [ "$9" != revive ]; then
    # An init script's own restart may end nothing, drop the pid file and start a second daemon without a port
    # (Debian's does, of a daemon that was not started by it).
    case $kind in systemd|smf) service restart || : ;; *) service stop || :; end_left_over; service start || : ;; esac
    await && exit 0
fi
[ "$9" = revive ] || exit 1

# It hangs or is gone.
end_left_over
old=
if [ "$kind" = systemd ] || [ "$kind" = smf ]; then service restart || :; else service start || :; fi
await
"""
)

# Each reply is awaited: sendmail turns away who speaks before the greeting, or before the answer to EHLO. A passphrase
# is asked for on stderr. $1: the cf, $2: sendmail, $3: the mail log. Prints the reply to EHLO.
_CHECK_START = r"""
d=`mktemp -d "$state/check.XXXXXX"`
trap 'rm -rf "$d"' EXIT
: >"$d/out"; : >"$d/err"
await_reply() {
    i=0
    while [ $i -lt 300 ] && ! grep -E "$1" "$d/out" >/dev/null && ! grep -i 'pass phrase' "$d/err" >/dev/null; do
        sleep 0.1 2>/dev/null || sleep 1
        i=$((i + 1))
    done
}
{
    await_reply '^[245]'
    if grep '^220' "$d/out" >/dev/null; then
        printf 'EHLO localhost\r\n'
        await_reply '^250 |^[45]'
        printf 'QUIT\r\n'
    fi
} | "$2" -C "$1" -bs >"$d/out" 2>"$d/err" || :
cat "$d/out"
if ! grep 'STARTTLS' "$d/out" >/dev/null; then
    cat "$d/err"
    tail -n 50 "$3" 2>/dev/null | grep 'STARTTLS' | tail -n 3 || :
fi
"""


def how_to_start(layout: Layout) -> str:
    """The operator's command that starts the daemon."""
    return {
        "systemd": f"systemctl start {layout.service.name}",
        "sysv": f"{layout.service.name} start",
        "smf": f"svcadm enable {layout.service.name}",
        "pid-file": f"{layout.sendmail} -bd -q30m",
    }[layout.service.kind]


def check_running(host: Host, layout: Layout, listener: Listener) -> None:
    """See that the daemon answers before anything is touched; raises NotReady when it does not."""
    argv = ["sh", "-c", _STATUS, "mailtls-nb: status", layout.pid_file, listener.address, str(listener.port)]
    first, _, command = host.run(argv, timeout_s=60).text.partition("\n")
    if not first.startswith("220"):
        raise NotReady(
            f"{host.name}: the mail server does not answer on {listener.address} port {listener.port} "
            f"({first.strip()}; pid file {layout.pid_file})",
            left="nothing was touched",
            do=f"start it and look at its log if it will not: {how_to_start(layout)}",
        )
    if layout.service.kind == "pid-file" and not command.startswith("/"):
        raise NotReady(
            f"{host.name}: the mail server was started as {command.split(' ')[0]!r}, not by its full path, "
            "and cannot re-execute itself",
            left="nothing was touched",
            do=f"stop it and start it as {layout.sendmail} {' '.join(command.split()[1:])}",
        )


def check_start(journal: Journal, layout: Layout, cf: str, *, expect_starttls: bool) -> None:
    """Let a sendmail of its own (``-bs``) read ``cf``, before the daemon does.

    It loads certificate and key as the daemon would, so a key that cannot be used is found while the old daemon still
    runs. Raises CommandFailed.
    """
    completed = journal.run(
        "trying the configuration", _CHECK_START, cf, layout.sendmail, layout.log.path, timeout_s=60
    )
    text = completed.text
    answers = any(line.startswith("220") for line in text.splitlines())
    if answers and (not expect_starttls or "STARTTLS\r\n" in text):
        return
    if "pass phrase" in text:
        problem = "it asks for the passphrase of a key: the mail server would hang at its next start"
    elif answers:
        problem = "it does not offer STARTTLS, so it could not use the certificate or the key"
    else:
        problem = "it does not answer"
    detail = "".join(f"\n  {line}" for line in text.splitlines() if line and not line.startswith("2"))
    raise CommandFailed(f"{journal.host.name}: sendmail was tried with {cf}: {problem}{detail}")


def reload_daemon(journal: Journal, layout: Layout, listener: Listener, *, revive: bool = False) -> str:
    """Have the daemon read its configuration and wait for a new process that greets; returns the greeting.

    HUP goes straight to the daemon where the profile says so and it was started by its full path: it is what the init
    script does, without the script's ``make`` of everything and its 2 seconds of sleep (28 ms against 2.1 s).
    ``revive``: the daemon may hang or be gone; it is then ended and started by its service.
    Raises CommandFailed when no new daemon answers.
    """
    # A relative path cannot be executed again from wherever the daemon stands now.
    full_path = bool(layout.daemon_argv) and layout.daemon_argv[0].startswith("/")
    completed = journal.run(
        "reloading the mail server",
        _RELOAD,
        layout.pid_file,
        listener.address,
        str(listener.port),
        layout.service.reload if full_path else "restart",
        layout.service.kind,
        layout.service.name,
        layout.queue_pid_file,
        layout.make_stamp,
        "revive" if revive else "",
        # Measured: 0.03 s. A sendmail that does not find its own domain waits 60 s before it begins.
        "150" if "." in layout.canonical_name else "900",
        timeout_s=400,
    )
    if completed.status != 0:
        raise CommandFailed(
            f"{journal.host.name}: after the reload no new mail server answers on {listener.address} "
            f"port {listener.port}. {completed.stderr.decode('utf-8', 'replace').strip()}".rstrip(" .")
        )
    return completed.text.strip().splitlines()[-1]
