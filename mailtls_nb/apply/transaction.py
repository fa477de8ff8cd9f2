"""One change on one host: all of it, or nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Self

from mailtls_nb.apply.daemon import check_running, check_start, how_to_start, reload_daemon
from mailtls_nb.apply.journal import Journal, Undone
from mailtls_nb.apply.journal_scripts import STATE
from mailtls_nb.errors import (
    ChangeFailed,
    CommandFailed,
    FileAccessFailed,
    MailTLSError,
    NotReady,
    StaleApproval,
    sentence_of,
)
from mailtls_nb.hosts.base import Completed, Host
from mailtls_nb.sendmail.cf import differing_options, m4_errors, m4_remarks, options, smtp_listener
from mailtls_nb.sendmail.layout import Layout

# $1: path, $2: owner, $3: mode, $4: size. The size tells a whole file from one whose sender was killed.
_WRITE = r"""
new=`new_name "$1"`
rm -f -- "$new"
cat >"$new"
[ "`wc -c <"$new" | tr -d ' '`" = "$4" ] || { rm -f -- "$new"; echo "only a part arrived" >&2; exit 1; }
set_owner_and_mode "$new" "$2" "$3"
# The same again is left alone: a newer time would make an operator's make build what it has built.
if [ -f "$1" ] && cmp -s -- "$new" "$1" && [ "`mode_and_owner "$new"`" = "`mode_and_owner "$1"`" ]; then
    rm -f -- "$new"
    exit 0
fi
sync "$new" 2>/dev/null || :
mv -f -- "$new" "$1"
"""

_MAKE_DIRECTORY = r"""
[ -d "$1" ] || mkdir -- "$1"
set_owner_and_mode "$1" "$2" "$3"
"""

# $1: the link, $2: what it leads to. A rename onto a link to a directory would end in that directory.
_LINK = r"""
[ ! -d "$1" ] || { echo "$1 is or leads to a directory" >&2; exit 1; }
new=`new_name "$1"`
rm -f -- "$new"
ln -s -- "$2" "$new"
mv -f -- "$new" "$1"
"""

_MOVE = r"""
[ ! -d "$1" ] && [ ! -d "$2" ] || { echo "$1 or $2 is or leads to a directory" >&2; exit 1; }
mv -f -- "$1" "$2"
"""

_REMOVE = r"""
rm -f -- "$1"
"""

# The shell keeps the guard while the command runs, the command does not inherit it: it may leave a process behind.
_RUN = r"""
"$@" 9>&-
"""

# $1: live cf, $2: scratch cf, $3: the .mc to append as comments or empty, $4: directory, then m4's argv. Prints m4's
# status and whether the cf is a new one, the options set, an empty line, and m4's messages. The copy gives the scratch
# cf owner and mode of the live one. Lines with ##### say who built a cf, when and where (makeinfo.sh).
_BUILD = r"""
cf=$1 scratch=$2 append=$3
cd "$4"
shift 4
cp -p -- "$cf" "$scratch"
status=0
"$@" >"$scratch" 2>"$t/m4.errors" </dev/null || status=$?
if [ -n "$append" ]; then
    { echo "### $append ###"; sed -e 's/^/# /' "$append"; } >>"$scratch"
fi
as_built() { sed '/^#####/d' "$1" | cksum; }
if [ "`as_built "$cf"`" = "`as_built "$scratch"`" ]; then echo "$status same"; else echo "$status new"; fi
grep '^O[ \t]' "$scratch" || :
echo
cat "$t/m4.errors"
"""


# $1: scratch cf, $2: live cf, $3: the .mc. A changed .mc that builds the same cf must not be the younger of the two.
_KEEP = r"""
rm -f -- "$1"
if [ "$3" -nt "$2" ]; then touch -- "$2"; fi
"""


class Transaction:
    """A change on one host, as a context manager; leaving it without an exception makes the change count.

    Entering takes the host's lock, undoes what an interrupted run left (then named in ``healed``) and sees that the
    mail server answers; NotReady otherwise. On any exception inside, interruption included, everything is put back and
    compared with its copy, the mail server reloads and answers, and ChangeFailed says what failed and what was put
    back. With ``keep`` False all this is done at the end in any case: the change lasts as long as the context.
    """

    def __init__(self, host: Host, layout: Layout, *, keep: bool = True) -> None:
        self.host = host
        self.layout = layout
        self._keep = keep
        self.healed: tuple[str, ...] = ()
        self.remarks: list[str] = []
        self._journal = Journal(host)
        self._checked_cf = False

    def __enter__(self) -> Self:
        try:
            self._journal.acquire()
            if self._journal.interrupted:
                self._heal()
            self._listener = smtp_listener(self._live_options())
            self._check_running()
        except BaseException:
            self._journal.abandon()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._journal.has_entries and (error is not None or not self._keep):
            self._roll_back(error)
            return
        try:
            self._journal.finish()
        except BaseException as failure:
            if isinstance(failure, ChangeFailed) or not self._journal.finished():
                self._roll_back(failure)
            else:
                self.remarks.append(
                    f"the connection failed at the very end ({sentence_of(failure)}), but the change counts"
                )

    def make_directory(self, path: str, *, mode: int, owner: str) -> None:
        """Make a directory, or give an existing one this mode and owner (``user:group``). Its parent must exist."""
        self._step(f"making the directory {path}", _MAKE_DIRECTORY, path, owner, f"{mode:04o}", changes=[path])

    def write(self, path: str, data: bytes, *, mode: int, owner: str, expected: str | None = None) -> None:
        """Replace a file in one step, its old content kept for the way back.

        ``expected``: the SHA-256 (hex) of what the plan saw there, or "absent"; StaleApproval when it is not so now.
        """
        arguments = (path, owner, f"{mode:04o}", str(len(data)))
        wanted = {} if expected is None else {path: expected}
        self._step(f"writing {path}", _WRITE, *arguments, changes=[path], expected=wanted, stdin=data)

    def link(self, path: str, target: str, *, expected: str | None = None) -> None:
        """Make, or replace in one step, the symbolic link ``path``; ``target`` is what it names, absolute or beside it.

        ``expected`` as for ``write``, "link TARGET" for a link.
        """
        wanted = {} if expected is None else {path: expected}
        self._step(f"linking {path}", _LINK, path, target, changes=[path], expected=wanted, links=True)

    def move(self, path: str, to: str, *, expected: str | None = None) -> None:
        """Rename a file or a symbolic link, in place of what stands at ``to``; ``expected`` is for ``path``."""
        wanted = {} if expected is None else {path: expected}
        self._step(f"renaming {path}", _MOVE, path, to, changes=[path, to], expected=wanted, links=True)

    def remove(self, path: str, *, expected: str | None = None) -> None:
        """Remove a file, or a symbolic link and not what it leads to; ``expected`` as for ``link``."""
        wanted = {} if expected is None else {path: expected}
        self._step(f"removing {path}", _REMOVE, path, changes=[path], expected=wanted, links=True)

    def run(
        self,
        argv: Sequence[str],
        *,
        changes: Sequence[str],
        expected: Mapping[str, str] | None = None,
        stdin: bytes = b"",
        timeout_s: float = 60,
    ) -> Completed:
        """Run a command that makes or replaces the files ``changes``; its exit status is data.

        ``expected`` as for ``write``, for each path that is to be compared.
        """
        doing = f"running {argv[0]}"
        return self._journal.run(
            doing, _RUN, *argv, changes=changes, expected=expected, stdin=stdin, timeout_s=timeout_s
        )

    def build(self, expected: Mapping[str, str]) -> bool:
        """Build sendmail.cf from the .mc; True when that changed it.

        The result must set the ``expected`` options (name in the cf: value). It is made beside the live file,
        checked, tried by a sendmail of its own, and only then renamed over it, so there is always one whole cf. m4 is
        run as the vendor's Makefile runs it, rather than the Makefile itself, which renames whatever m4 left; the
        new cf is younger than the .mc, so that a later ``make`` finds it done. Raises CommandFailed, and NotReady where
        the .mc did not build the cf in use before.
        """
        # A layout observed before healing tells of the interrupted change.
        if not self.healed:
            self.layout.refuse_drift(self.host.name)
        cf, scratch = self.layout.cf, self.layout.cf + ".mailtls-nb"
        m4 = self.layout.build
        append = self.layout.mc if m4.appends_mc else ""
        built = self._step(
            "building sendmail.cf", _BUILD, cf, scratch, append, m4.directory, *m4.m4_argv, changes=[scratch]
        )
        head, _, rest = built.stdout.partition(b"\n")
        status, _, sameness = head.decode("ascii").partition(" ")
        new_options, _, printed = rest.partition(b"\n\n")
        messages = printed.decode("utf-8", "replace")
        if errors := m4_errors(messages):
            raise CommandFailed(f"{self.host.name}: {self.layout.mc} does not build: " + "; ".join(errors))
        if status != "0":
            raise CommandFailed(
                f"{self.host.name}: {self.layout.mc} does not build: m4 ended with {status}: {messages}"
            )
        if differing := differing_options(new_options, expected):
            raise CommandFailed(
                f"{self.host.name}: {self.layout.mc} builds a sendmail.cf with other settings: " + "; ".join(differing),
                do=f"look for what overrules the managed block in {self.layout.mc} or in a file that it includes",
            )
        self.remarks += m4_remarks(messages)
        check_start(self._journal, self.layout, scratch, expect_starttls="ServerCertFile" in expected)
        self._checked_cf = True
        if sameness == "new":
            self._listener = smtp_listener(new_options)
            self._step("putting sendmail.cf in place", 'mv -f -- "$1" "$2"\n', scratch, cf, changes=[scratch, cf])
        else:
            self._step("keeping the sendmail.cf in use", _KEEP, scratch, cf, self.layout.mc, changes=[scratch, cf])
        return sameness == "new"

    def reload(self) -> None:
        """Have the mail server read its configuration, certificates and keys; a new process must answer with 220.

        Without a ``build`` before, a sendmail of its own tries the live cf first. Raises CommandFailed.
        """
        if not self._checked_cf:
            live = self._live_options()
            self._listener = smtp_listener(live)
            check_start(self._journal, self.layout, self.layout.cf, expect_starttls="ServerCertFile" in options(live))
        reload_daemon(self._journal, self.layout, self._listener)

    def _step(
        self,
        doing: str,
        script: str,
        *arguments: str,
        changes: Sequence[str],
        expected: Mapping[str, str] | None = None,
        links: bool = False,
        stdin: bytes = b"",
    ) -> Completed:
        completed = self._journal.run(
            doing, script, *arguments, changes=changes, expected=expected, links=links, stdin=stdin
        )
        if completed.status != 0:
            printed = completed.stderr.decode("utf-8", "replace").strip()
            raise FileAccessFailed(f"{doing} on {self.host.name} failed: {printed}")
        return completed

    def _live_options(self) -> bytes:
        completed = self.host.run(["grep", "^O", self.layout.cf], timeout_s=30)
        if completed.status > 1:
            completed.check(f"reading {self.layout.cf}")
        return completed.stdout

    def _check_running(self) -> None:
        try:
            check_running(self.host, self.layout, self._listener)
        except NotReady as error:
            if not self.healed:
                raise
            raise ChangeFailed(error.what, left="; ".join(self.healed), do=error.do) from error

    def _reload_old(self, undone: Undone) -> str:
        """Have the mail server read the files that were put back, whatever it is at; returns its greeting."""
        if not undone.whole:
            check_start(self._journal, self.layout, self.layout.cf, expect_starttls=False)
        listener = smtp_listener(self._live_options())
        return reload_daemon(self._journal, self.layout, listener, revive=True)

    def _heal(self) -> None:
        what = f"{self.host.name}: an interrupted change could not be undone"
        try:
            undone = self._journal.roll_back()
        except (MailTLSError, OSError) as error:
            raise self._not_back(what, error) from error
        self.remarks += _kept(undone)
        self.healed = tuple(f"{path}: put back after an interrupted change" for path in undone.back)
        failure: CommandFailed | None = None
        try:
            # Also where the interrupted run had not told it: whoever restarted it since had it read the change.
            self._reload_old(undone)
        except CommandFailed as error:
            failure = error
        except (MailTLSError, OSError) as error:
            raise self._not_back(what, error) from error
        if not undone.whole:
            raise self._not_back(what, failure, undone)
        self._journal.finish(release=False)
        if failure:
            raise ChangeFailed(
                f"{self.host.name}: an interrupted change was undone, but the mail server does not answer: "
                f"{failure.what}",
                left="; ".join(self.healed),
                do=f"start it and look at its log if it will not: {how_to_start(self.layout)}",
            ) from failure
        self.healed += ("the mail server was reloaded and answers",)

    def _roll_back(self, error: BaseException | None) -> None:
        failed = "the change failed: " + sentence_of(error) if error else "the temporary change was not taken back"
        what = f"{self.host.name}: {failed}"
        try:
            undone = self._journal.roll_back()
            greeting = self._reload_old(undone) if undone.reloaded else ""
            if undone.whole:
                self._journal.finish()
        except BaseException as second:
            self._journal.abandon()
            raise self._not_back(what, second) from error
        if not undone.whole:
            self._journal.abandon()
            raise self._not_back(what, None, undone) from error
        self.remarks += _kept(undone)
        if error is None:
            return
        overtaken = isinstance(error, StaleApproval)
        left = "what somebody else changed was kept; everything else" if overtaken else "everything"
        left += f" was put back and compared with its copy ({len(undone.back)} paths)"
        left += "; the mail server was reloaded and answers" if greeting else "; the mail server was not touched"
        left += "".join(f"; {remark}" for remark in _kept(undone))
        do = error.do if isinstance(error, MailTLSError) else ""
        if not do:
            asked = isinstance(error, KeyboardInterrupt)
            do = "run this again when it suits" if asked else "cure what failed, then run this again"
        raise ChangeFailed(what, left=left, do=do) from error

    def _not_back(self, what: str, error: BaseException | None, undone: Undone | None = None) -> ChangeFailed:
        problems, ways_out = [], ["cure that"]
        if undone:
            bad = (*undone.bad, *(path.problem for path in undone.overtaken))
            problems.append(f"not as before: {', '.join(bad)}")
            ways_out = (["cure that"] if undone.bad else []) + [path.way_out for path in undone.overtaken]
        if error:
            problems.append(f"putting everything back failed: {sentence_of(error)}")
        return ChangeFailed(
            what,
            left=f"{'; '.join(problems)}. The copies are kept in {STATE}/transaction on {self.host.name}",
            do="; ".join(ways_out)
            + "; then start any run that changes this host: it finishes the way back before anything else",
        )


def _kept(undone: Undone) -> list[str]:
    return [f"the directory {path} stays: somebody else keeps files in it" for path in undone.kept]


def heal(host: Host, layout: Layout) -> tuple[str, ...]:
    """Undo what an interrupted run left on the host, and say what was put back; to be called before it is observed.

    Nothing is done where ``layout.interrupted`` is not set. Raises NotReady when a run is at work there now, and
    ChangeFailed when not everything could be put back.
    """
    if not layout.interrupted:
        return ()
    with Transaction(host, layout) as change:
        return change.healed
