"""Ask a host where its sendmail keeps things: one read-only script, one call."""

from __future__ import annotations

from mailtls_nb.hosts.base import Host
from mailtls_nb.sendmail.layout import Layout, read_layout

# One constant script, since each call on a host costs about 100 ms. It reads only; "sendmail -bt" with an empty input
# prints what it was built with and ends. Backquotes, not $(): the shell of old Solaris knows nothing else.
_SCRIPT = r"""
LC_ALL=C; export LC_ALL
PATH=/usr/sbin:/sbin:/usr/bin:/bin:/usr/ccs/bin:/usr/sfw/bin:$PATH; export PATH
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

# Does the .mc build the cf in use? Lines with ##### say who built it and when; Debian adds the .mc as comments.
section built-from-mc
if test -f "$cf" && grep 'cf\.m4' "$mc" >/dev/null 2>&1 && where m4 >/dev/null; then
    built=`cd /etc/mail && m4 "$mc" 2>/dev/null </dev/null | sed '/^#####/d' | cksum`
    live=`sed -e '/^#####/d' -e '/^### .*\.mc ###$/,$d' "$cf" | cksum`
    if test "$built" = "$live"; then echo same; else echo differs; fi
fi
section interrupted; ls /var/lib/mailtls-nb/transaction 2>/dev/null
section m4; where m4
section openssl-path; where openssl
section openssl-version; openssl version 2>/dev/null
section end
"""


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
    return read_layout(host.name, answers)
