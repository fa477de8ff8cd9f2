"""The shell of the journal: what runs on the host that is changed. See ``mailtls_nb.apply.journal``."""

from __future__ import annotations

STATE = "/var/lib/mailtls-nb"

# A lock of a runner that cannot be asked (another machine) is given up after this long without a sign of life.
LEASE_MINUTES = 15

LOCK_LOST = b"mailtls-nb: the lock is no longer ours"
REFUSED = b"mailtls-nb: refused: "
OVERTAKEN = b"mailtls-nb: changed: "

SETTINGS = rf"""
set -eu
umask 077
LC_ALL=C; export LC_ALL
PATH=/usr/gnu/bin:/usr/sbin:/sbin:/usr/bin:/bin:/usr/ccs/bin:/usr/sfw/bin:$PATH; export PATH
state={STATE}
t=$state/transaction
"""

TAKE_GUARD = r"""
exec 9>>"$state/guard"
if command -v flock >/dev/null; then flock -w 60 9; fi
"""

# $1: our line for the lock. $2: the line of a holder known to be gone, or empty.
ACQUIRE = (
    SETTINGS
    + r"""
mkdir -p "$state"
chown 0:0 "$state"; chmod 0700 "$state"
"""
    + TAKE_GUARD
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

# Before each change. $1: our line of the lock; $2: "links" where symbolic links themselves may be changed; then a count
# and as many pairs of path and expected content; then a count and as many pairs of number and path that are about to
# be changed.
PRELUDE = (
    SETTINGS
    + r"""
lock_lost() { echo "mailtls-nb: the lock is no longer ours" >&2; exit 75; }
[ -d "$state" ] || lock_lost
"""
    + TAKE_GUARD
    + r"""
[ "`cat "$state/lock" 2>/dev/null`" = "$1" ] || lock_lost
touch "$state/lock"
links=$2
shift 2

# Every file is made under this name beside its place, then renamed.
new_name() { printf '%s.mailtls-nb-new' "$1"; }
state_of() { stat -c '%a %u %g %Y' -- "$1"; }
mode_and_owner() { stat -c '%a %u %g' -- "$1"; }
refuse() { echo "mailtls-nb: refused: $*" >&2; exit 76; }
path_of() { path=`cat "$1/path"; printf x`; path=${path%x}; }
# The SHA-256 of a file's content, or what is there instead of a file.
content_of() {
    if [ -h "$1" ]; then echo "link `readlink "$1"`"
    elif [ -f "$1" ]; then openssl dgst -sha256 <"$1" | sed 's/^.*= *//'
    elif [ -e "$1" ]; then echo other
    else echo absent
    fi
}

# register NUMBER PATH: keep what stands at PATH. "wrote" tells what our last change left there, so that an edit by
# somebody else is known from it; while a change goes on, and after one that was cut off, there is none.
register() {
    if [ -d "$t/$1" ]; then rm -f "$t/$1/wrote"; return 0; fi
    rm -rf "$t/new"; mkdir "$t/new"
    printf '%s' "$2" >"$t/new/path"
    if [ -h "$2" ]; then
        [ "$links" = links ] || refuse "$2 is a symbolic link"
        readlink "$2" >"$t/new/content"; echo link >"$t/new/kind"
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

note_what_we_wrote() {
    for d in $changing; do
        path_of "$t/$d"
        if content_of "$path" >"$t/wrote" && [ -s "$t/wrote" ]; then mv -f "$t/wrote" "$t/$d/wrote"; fi
    done
}

left=$1; shift
while [ "$left" -gt 0 ]; do
    [ "`content_of "$1"`" = "$2" ] || { echo "mailtls-nb: changed: $1" >&2; exit 77; }
    shift 2; left=$((left - 1))
done
left=$1; shift
changing=
while [ "$left" -gt 0 ]; do
    register "$1" "$2"
    changing="$changing $1"
    shift 2; left=$((left - 1))
done
if [ -n "$changing" ]; then trap 'status=$?; set +e; note_what_we_wrote; exit $status' 0; fi
"""
)

ROLL_BACK = r"""
rm -rf "$t/new"
# Whether somebody else changed $path after our last change, whose entry is $1.
overtaken() {
    [ -s "$1/wrote" ] || return 1
    now=`content_of "$path"`
    if [ -z "$now" ] || [ "$now" = "`cat "$1/wrote"`" ]; then return 1; fi
    case `cat "$1/kind"` in
    absent) [ "$now" != absent ] ;;
    file) ! cmp -s -- "$1/content" "$path" ;;
    link) [ "$now" != "link `cat "$1/content"`" ] ;;
    *) return 1 ;;
    esac
}
# What the change made goes first: on a full disk that gives back the room for the rest.
for d in `ls -r "$t"`; do
    [ -f "$t/$d/kind" ] || continue
    path_of "$t/$d"
    rm -f -- "`new_name "$path"`" || :
    if overtaken "$t/$d"; then continue; fi
    if [ "`cat "$t/$d/kind"`" = absent ] && { [ ! -d "$path" ] || [ -h "$path" ]; }; then rm -f -- "$path" || :; fi
done
for d in `ls -r "$t"`; do
    [ -f "$t/$d/kind" ] || continue
    path_of "$t/$d"
    kind=`cat "$t/$d/kind"`
    if overtaken "$t/$d"; then printf 'overtaken %s %s %s\n' "$d" "$kind" "$path"; continue; fi
    case $kind in
    absent)
        # A directory that we made, and in which somebody else keeps something now, stays with it.
        if [ -d "$path" ] && ! rmdir -- "$path" 2>/dev/null && [ -n "`ls -A "$path"`" ]; then
            printf 'kept %s\n' "$path"
            continue
        fi
        [ ! -e "$path" ] || printf 'bad %s\n' "$path" ;;
    file)
        if [ ! -f "$path" ] || ! cmp -s -- "$t/$d/content" "$path" \
            || [ "`state_of "$t/$d/content"`" != "`state_of "$path"`" ]; then
            { cp -p -- "$t/$d/content" "`new_name "$path"`" && mv -f -- "`new_name "$path"`" "$path"; } || :
        fi
        { cmp -s -- "$t/$d/content" "$path" && [ "`state_of "$t/$d/content"`" = "`state_of "$path"`" ]; } \
            || printf 'bad %s\n' "$path" ;;
    link)
        if [ "`content_of "$path"`" != "link `cat "$t/$d/content"`" ]; then
            { rm -f -- "$path" && ln -s -- "`cat "$t/$d/content"`" "$path"; } || :
        fi
        [ "`content_of "$path"`" = "link `cat "$t/$d/content"`" ] || printf 'bad %s\n' "$path" ;;
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

FINISH = r"""
mv "$t" "$state/done.$$"
rm -f "$state/lock"
rm -rf "$state/done.$$"
"""
