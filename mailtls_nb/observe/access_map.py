"""The access map of a host as it stands: its text, and the database that sendmail looks things up in."""

from __future__ import annotations

from dataclasses import dataclass, field

from mailtls_nb.errors import NotReady
from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.certificate_files import FileStatus, file_status
from mailtls_nb.sendmail.cf import AccessDatabase

# makemap's error output (makemap.c of 8.15 to 8.18) quotes the key of a bad line, and so a password where a TAB was
# forgotten after AuthInfo. A filter for a host's shell, by which that never leaves the host: of what is about a line
# only "line N: kind" stays. What is about a file passes as it is.
MAKEMAP_SAID = r"""LC_ALL=C sed '
s/^.*: line \([0-9][0-9]*\): no RHS for LHS.*/line \1: no RHS (nothing after the key)/
t
s/^.*: line \([0-9][0-9]*\): .*: duplicate key$/line \1: duplicate key/
t
s/^.*: line \([0-9][0-9]*\): syntax error (leading space).*/line \1: leading space/
t
s/^.*: line \([0-9][0-9]*\): line too long.*/line \1: line too long/
t
s/^.*: line \([0-9][0-9]*\):.*: put error.*/line \1: put error/
t
s/^.*: line \([0-9][0-9]*\):.*/line \1: not taken/
'"""

# $1: kind, $2: the text, $3: the database. An access map may hold passwords (AuthInfo), so only checksums of what
# stands in the two are printed: of each one line, "absent" for a database that is not there.
_COMPARE = rf"""
LC_ALL=C; export LC_ALL
PATH=/usr/sbin:/sbin:/usr/bin:/bin:/usr/lib:$PATH; export PATH
umask 077
state=/var/lib; test -d $state || state=/var
scratch=$state/mailtls-nb-access.$$
rm -rf $scratch
trap 'cd /; rm -rf $scratch' 0
trap 'exit 1' 1 2 13 15
mkdir $scratch && cd $scratch || exit 1
makemap "$1" $scratch/made <"$2" >said 2>&1
made=$?
{MAKEMAP_SAID} <said >&2
test $made -eq 0 || exit 65
makemap -u "$1" $scratch/made >made.text || exit 1
sort made.text | cksum
if test -f "$3"; then makemap -u "$1" "$3" >live.text || exit 1; sort live.text | cksum; else echo absent; fi
"""
_REFUSED = 65
_UNTOUCHED = "nothing was touched"


@dataclass(frozen=True)
class AccessMap:
    """An access map: ``text`` is what a person edits, ``database`` what makemap makes of it.

    ``in_service`` is a checksum over the database's entries; ``is_current``: they are those of the text.
    """

    database: AccessDatabase
    text: bytes = field(repr=False)
    text_status: FileStatus
    database_status: FileStatus | None
    in_service: str
    is_current: bool


def observe_access_map(host: Host, database: AccessDatabase) -> AccessMap:
    """Look at an access map; raises NotReady where its text is missing, or is none that makemap takes."""
    text, status = host.read(database.text), file_status(host, database.text)
    if text is None or status is None:
        raise NotReady(
            f"{host.name}: there is no {database.text}, from which its access map would be made",
            left=_UNTOUCHED,
            do=f"make it (an empty file will do) and its database: makemap {database.kind} {database.database} "
            f"<{database.text}",
        )
    argv = ("sh", "-c", _COMPARE, "sh", database.kind, database.text, database.database)
    completed = host.run(argv, timeout_s=120)
    if completed.status == _REFUSED:
        raise NotReady(
            f"{host.name}: makemap does not take {database.text} as it stands: {_printed(completed.stderr)}",
            left=_UNTOUCHED,
            do="mend those lines: what is in service is older than this text",
        )
    lines = completed.check(f"comparing {database.text} with its database", left=_UNTOUCHED).text.split("\n")
    return AccessMap(
        database=database,
        text=text,
        text_status=status,
        database_status=file_status(host, database.database) if lines[1] != "absent" else None,
        in_service=lines[1],
        is_current=lines[0] == lines[1],
    )


def _printed(stderr: bytes) -> str:
    return "; ".join(line.strip() for line in stderr.decode("utf-8", "replace").splitlines() if line.strip())
