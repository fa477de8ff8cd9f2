"""Ask a host where its sendmail keeps things: one read-only script, one call."""

from __future__ import annotations

import dataclasses

from mailtls_nb.hosts.base import Host
from mailtls_nb.sendmail.layout import Layout, read_drift, read_layout

_ENVIRONMENT = r"""
LC_ALL=C; export LC_ALL
PATH=/usr/sbin:/sbin:/usr/bin:/bin:/usr/ccs/bin:/usr/sfw/bin:$PATH; export PATH
"""

# drift CF DIRECTORY M4...: does the .mc build the cf in use? Prints that, the checksum of the cf as it stands, and that
# of what m4 prints now. Lines with ##### say who built it, when and where; Debian adds the .mc as comments.
_DRIFT = r"""
drift() {
    cf=$1
    live=`sed -e '/^#####/d' -e '/^### .*\.mc ###$/,$d' "$cf" | cksum`
    as_it_stands=`cksum <"$cf"`
    cd "$2"
    shift 2
    built=`"$@" 2>/dev/null </dev/null | sed '/^#####/d' | cksum`
    cd /
    if test "$built" = "$live"; then echo same; else echo differs; fi
    echo "$as_it_stands"
    echo "$built"
}
"""

# One constant script, since each call on a host costs about 100 ms. It reads only; "sendmail -bt" with an empty input
# prints what it was built with and ends. Backquotes, not $(): the shell of old Solaris knows nothing else.
_SCRIPT = (
    _ENVIRONMENT
    + _DRIFT
    + r"""
section() { printf '\n== mailtls-nb %s\n' "$1"; }
real() { readlink -f "$1" 2>/dev/null || echo "$1"; }
where() { command -v "$1" 2>/dev/null; }

section uid;  id -u 2>/dev/null || id | sed 's/^uid=\([0-9]*\).*/\1/'
section user; id | sed 's/^uid=[0-9]*(\([^)]*\)).*/\1/'
section kernel; uname -s
section os-release; cat /etc/os-release 2>/dev/null
section files
for f in /usr/sbin/sendmail /usr/lib/sendmail /etc/mail/sendmail.mc /etc/mail/cf/cf/sendmail.mc \
    /usr/share/sendmail/cf/m4/cf.m4 /usr/share/sendmail-cf/m4/cf.m4 /etc/mail/cf/m4/cf.m4 \
    /etc/init.d/sendmail /run/systemd/system /run/systemd/journal /usr/sbin/svcadm \
    /var/log/mail.log /var/log/maillog /var/log/syslog \
    /usr/sbin/postfix /usr/sbin/exim /usr/sbin/exim4 /usr/bin/msmtp /usr/sbin/ssmtp /usr/sbin/smtpctl \
    /usr/sbin/nullmailer-send /var/qmail; do
    test -e "$f" && echo "$f"
done

sendmail=/usr/sbin/sendmail; test -e $sendmail || sendmail=/usr/lib/sendmail
section sendmail-link; real $sendmail
section identity
identity=`$sendmail -d0.10 -bt </dev/null 2>&1`
printf '%s\n' "$identity" | sed 100q

cf=`printf '%s\n' "$identity" | sed -n 's/^ *Conf file:[ \t]*\([^ ]*\) (selected)$/\1/p' | tail -1`
pid=`printf '%s\n' "$identity" | sed -n 's/^ *Pid file:[ \t]*\([^ ]*\) (selected)$/\1/p' | tail -1`
option=`sed -n 's/^O *PidFile=//p' "${cf:-/etc/mail/sendmail.cf}" 2>/dev/null | tail -1`
section pid-file-option; printf '%s\n' "$option"
section pid-file; cat "${option:-${pid:-/var/run/sendmail.pid}}" 2>/dev/null

section real-paths
mc=
for f in /etc/mail/cf/cf/sendmail.mc /etc/mail/sendmail.mc; do
    test -e $f && mc=`real $f`
done
test -n "$mc" && printf 'mc\t%s\n' "$mc"
test -n "$cf" && cf=`real $cf` && printf 'cf\t%s\n' "$cf"

section drift
if test -f "$cf" && grep 'cf\.m4' "$mc" >/dev/null 2>&1 && where m4 >/dev/null; then
    drift "$cf" "`dirname "$mc"`" m4 "$mc"
fi
section interrupted; ls /var/lib/mailtls-nb/transaction 2>/dev/null
section m4; where m4
section openssl-path; where openssl
section openssl-version; openssl version 2>/dev/null
section end
"""
)


def observe_layout(host: Host) -> Layout:
    """The layout of the host's sendmail, read without changing anything.

    Raises NotReady as ``read_layout`` does, and what the host's transport raises.
    """
    completed = host.run(["sh", "-c", _SCRIPT], timeout_s=120)
    answers: dict[str, str] = {}
    for section in completed.text.split("\n== mailtls-nb ")[1:]:
        name, _, body = section.partition("\n")
        answers[name] = body
    if "end" not in answers:
        completed.check("reading the layout of sendmail", left="nothing was touched")
    layout = read_layout(host.name, answers)
    # Where cf.m4 is named on m4's command line, the command is known only now.
    if layout.build.m4_argv == ("m4", layout.mc) and layout.built_checksum:
        return layout
    return observe_drift(host, layout)


def observe_drift(host: Host, layout: Layout) -> Layout:
    """The layout with ``drifted`` and the two checksums as they are now, by the same m4 command as a build's."""
    script = _ENVIRONMENT + _DRIFT + '\ndrift "$@"\n'
    argv = ["sh", "-c", script, "sh", layout.cf, layout.build.directory, *layout.build.m4_argv]
    completed = host.run(argv, timeout_s=60)
    completed.check(f"comparing {layout.mc} with {layout.cf}", left="nothing was touched")
    drifted, cf_checksum, built_checksum = read_drift(completed.text)
    return dataclasses.replace(layout, drifted=drifted, cf_checksum=cf_checksum, built_checksum=built_checksum)
