"""The oracle: what a host's own sendmail would decide about a peer, with an access map that is not in service yet.

``sendmail -bt`` (Sendmail Installation and Operation Guide, 6.2) runs rulesets on macros that are typed in. It is given
a copy of the cf whose access map is a database of its own, in a directory that only root may enter and that is gone
afterwards; the live map, the live cf and the queue are not touched.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from mailtls_nb.errors import NotReady
from mailtls_nb.hosts.base import Completed, Host
from mailtls_nb.observe.access_map import MAKEMAP_SAID
from mailtls_nb.sendmail.access.case import Case, Decision
from mailtls_nb.sendmail.cf import AccessDatabase, access_database, options, with_access_path
from mailtls_nb.sendmail.layout import Layout

_UNTOUCHED = "nothing was touched"
_TIMEOUT_S = 120

# Known before the directory is, so that the cf can be made here; sendmail opens no map below a directory that others
# may write to, so /tmp will not do.
_PLACE = "mailtls-nb-rulesets-directory"

# "$|" cannot be typed after -bt's prompt, so these ask for us. tls_client is called after STARTTLS and again at MAIL
# (with FEATURE(delay_checks) from check_rcpt, with the same arguments), by cf/README and srvrsmtp.c.
_RULESETS = rb"""
SmailtlsSTARTTLS
R$*	$: $>"tls_client" $&{verify} $| STARTTLS
SmailtlsMAIL
R$*	$: $>"tls_client" $&{verify} $| MAIL
SmailtlsServer
R$*	$: $>"tls_server" $&{verify}
SmailtlsRecipient
R$*	$: $>"tls_rcpt" $1
"""
_CANARY = "mailtls-nb-canary"

# $1: sendmail; $2: the kind of the access map, empty where the live one is asked; $3, $4: how many lines of standard
# input are the cf and the questions; what follows is the text of the access map. Prints only what our own rulesets
# return: the rest of the trace is long and shows entries of the map.
_SCRIPT = rf"""
LC_ALL=C; export LC_ALL
PATH=/usr/sbin:/sbin:/usr/bin:/bin:/usr/lib:$PATH; export PATH
umask 077
state=/var/lib; test -d $state || state=/var
for left in $state/mailtls-nb-rulesets.*; do
    find "$left" -prune -mmin +60 -exec rm -rf {{}} \; 2>/dev/null
done
scratch=$state/mailtls-nb-rulesets.$$
rm -rf $scratch
trap 'cd /; rm -rf $scratch' 0
trap 'exit 1' 1 2 13 15
mkdir $scratch && cd $scratch || exit 1
cat >all || exit 1
questions_end=`expr $3 + $4`
sed "$3q" all | sed "s,{_PLACE},$scratch," >sendmail.cf || exit 1
sed -n "`expr $3 + 1`,${{questions_end}}p" all >questions || exit 1
if test -n "$2"; then
    sed "1,${{questions_end}}d" all >access || exit 1
    makemap "$2" $scratch/access <access 2>said
    made=$?
    {MAKEMAP_SAID} <said >&2
    test $made -eq 0 || exit 65
fi
"$1" -bt -C $scratch/sendmail.cf <questions >answers || {{ cat answers; exit 1; }}
grep '^mailtls[A-Za-z]* *returns:' answers
grep 'map_lookup: access ({_CANARY})' answers
exit 0
"""
_MAKEMAP_REFUSED = 65

_RETURNS = re.compile(r"^mailtls(\w+) +returns:(.*)$", re.MULTILINE)
_ERROR = re.compile(r"\$# error(?: \$@ (?P<status>.*?))? \$: (?P<text>.*)")
_PART = re.compile(r'"((?:[^"\\]|\\.)*)"|(\S+)')
_OPERATORS = frozenset(".:%@!^/[]+()<>,;")  # option OperatorChars, and what always ends a word

# What can be typed after the prompt and means only itself: -bt splits recipients at commas, ends a value at "#" and
# takes "$" for a macro; "\#" and "$$" are themselves (measured on 8.15, 8.17 and 8.18). sendmail encodes spaces, quotes
# and what is no printable ASCII in distinguished names, so nothing else is to be asked for.
_WORD = re.compile(r"[A-Z_]+")
_NAME = re.compile(r"[A-Za-z0-9._:\[\]-]+")
_DN = re.compile(r"[!#-'*+,./0-9:;=?@A-Z\[\]^_`a-z{|}~-]*")
_RECIPIENT = re.compile(r"[A-Za-z0-9_.+=/&'*?^~-]+@[A-Za-z0-9._:\[\]-]+")
_LONGEST = 1000  # sendmail reads lines of at most 2 kB here


def ask_rulesets(
    host: Host, layout: Layout, cases: Sequence[Case], *, access: bytes | None, cf: bytes | None = None
) -> tuple[Decision, ...]:
    """What the host's sendmail decides for each case, in order.

    ``access`` is the text of a candidate access map, None the map as it stands on the host; ``cf`` a candidate
    sendmail.cf, None the one in use. Many cases cost hardly more than one. Raises NotReady where the cf has no access
    map that makemap could make, where makemap refuses the text, and for a case that cannot be typed in unmistakably.
    """
    questions = [_questions(case) for case in cases]
    if cf is None:
        cf = host.read(layout.cf)
    if cf is None:
        raise NotReady(f"{host.name}: there is no {layout.cf}", left=_UNTOUCHED, do="build it, then run this again")
    database = _database(host, layout, cf, candidate=access is not None)
    scratch_cf = cf if access is None else with_access_path(cf, f"{_PLACE}/access")

    decisions: list[Decision | None] = [None] * len(cases)
    compared = _compares_alternative_names(cf)
    names_of = [case.alternative_names if compared else () for case in cases]
    # Names can be added to sendmail's class but not taken out, so cases with other names are another conversation.
    for names in dict.fromkeys(names_of):
        chosen = [position for position, found in enumerate(names_of) if found == names]
        lines = [f".C{{cert_altnames}}{_checked('alternative name', name, _DN)}" for name in names]
        asked = [question for position in chosen for question in questions[position]]
        lines += [line for _, question_lines in asked for line in question_lines]
        answers = _ask(host, layout, scratch_cf, lines, database.kind if access is not None else "", access or b"")
        if [ruleset for ruleset, _ in answers] != [ruleset for ruleset, _ in asked]:
            raise NotReady(
                f"{host.name}: sendmail -bt gave {len(answers)} answers to {len(asked)} questions", left=_UNTOUCHED
            )
        given = iter(answers)
        for position in chosen:
            stages = [_decision(host, next(given)[1]) for _ in questions[position]]
            decisions[position] = next((stage for stage in stages if stage.refused), stages[-1])
    return tuple(decision for decision in decisions if decision is not None)


def _database(host: Host, layout: Layout, cf: bytes, *, candidate: bool) -> AccessDatabase:
    database = access_database(cf)
    if database is None:
        raise NotReady(
            f"{host.name}: {layout.cf} has no access map, so no rule in it would mean anything",
            left=_UNTOUCHED,
            do=f"put FEATURE(`access_db') into {layout.mc} and build the cf, then run this again",
        )
    if candidate and not database.made_by_makemap:
        raise NotReady(
            f"{host.name}: the access map of {layout.cf} is of the kind {database.kind}, which makemap does not make",
            left=_UNTOUCHED,
            do="these runbooks write access maps of the kinds hash, btree, dbm and cdb only",
        )
    return database


def _compares_alternative_names(cf: bytes) -> bool:
    # FEATURE(`check_cert_altnames'), 8.16.1 and later: without the option sendmail leaves the class empty.
    return options(cf).get("SetCertAltnames", "").lower()[:1] in ("t", "y")


def _questions(case: Case) -> list[tuple[str, list[str]]]:
    """For each ruleset to ask: its name (of ours), and the lines to type."""
    checked = {"verify": _checked("verify", case.verify, _WORD)}
    # A client that never does STARTTLS leaves {verify} unset (measured on 8.15, 8.17 and 8.18), and meets tls_client
    # at MAIL only.
    without_tls = case.direction == "server" and case.verify == "NONE"
    if without_tls:
        checked["verify"] = ""
    side = "client" if case.direction == "server" else "server"
    checked[f"{side}_name"] = _checked("peer", case.peer, _NAME)
    checked[f"{side}_addr"] = _checked("address", case.address, _NAME)
    checked["cipher_bits"], checked["auth_ssf"] = str(int(case.bits)), str(int(case.auth_ssf))
    for name in ("cn_subject", "cert_subject", "cert_issuer"):
        checked[name] = _checked(name, getattr(case, name), _DN)
    lines = [f".D{{{name}}}{value}" for name, value in checked.items()]
    if case.direction == "client":
        return [("Server", [*lines, "mailtlsServer x"])]
    if case.direction == "recipient":
        recipient = _checked("recipient", case.recipient, _RECIPIENT)
        return [("Recipient", [*lines, f"mailtlsRecipient {recipient}"])]
    after_starttls = [] if without_tls else [("STARTTLS", [*lines, "mailtlsSTARTTLS x"])]
    return [*after_starttls, ("MAIL", [*lines, "mailtlsMAIL x"])]


def _checked(what: str, value: str, allowed: re.Pattern[str]) -> str:
    if not allowed.fullmatch(value) or len(value) > _LONGEST:
        raise NotReady(
            f"the {what} {value[:_LONGEST]!r} cannot be put to sendmail's rulesets as it stands",
            left=_UNTOUCHED,
            do="see that it is spelt as sendmail spells it (distinguished names: +20 for a space)",
        )
    return value.replace("$", "$$").replace("#", r"\#")


def _ask(
    host: Host, layout: Layout, cf: bytes, questions: Sequence[str], kind: str, access: bytes
) -> list[tuple[str, str]]:
    cf_text = cf + (b"" if cf.endswith(b"\n") else b"\n") + _RULESETS
    question_text = "".join(f"{line}\n" for line in (f"/map access {_CANARY}", *questions)).encode("ascii")
    canary = b"" if not access or access.endswith(b"\n") else b"\n"
    canary += f"{_CANARY}\tfound\n".encode()
    counts = [str(text.count(b"\n")) for text in (cf_text, question_text)]
    argv = ("sh", "-c", _SCRIPT, "sh", layout.sendmail, kind, *counts)
    completed = host.run(argv, stdin=cf_text + question_text + access + canary, timeout_s=_TIMEOUT_S)
    if kind and completed.status == _MAKEMAP_REFUSED:
        raise NotReady(
            f"{host.name}: makemap refuses the access map: {_printed(completed)}",
            left=_UNTOUCHED,
            do="put these lines of the access map right, then run this again",
        )
    completed.check("asking sendmail's rulesets", left=_UNTOUCHED)
    if kind and f"access ({_CANARY}) returns found" not in completed.text:
        raise NotReady(
            f"{host.name}: sendmail -bt does not read the scratch copy of the access map: {_printed(completed)}",
            left=_UNTOUCHED,
        )
    return [(ruleset, returned.strip()) for ruleset, returned in _RETURNS.findall(completed.text)]


def _printed(completed: Completed) -> str:
    text = (completed.stderr + completed.stdout).decode("utf-8", "replace")
    return re.sub(r"/\S*/mailtls-nb-rulesets\.\d+/", "", text).strip()[:2000]


def _decision(host: Host, returned: str) -> Decision:
    """Read what a ruleset returned, by the rules of rscheck() in sendmail's srvrsmtp.c and envelope.c."""
    if not returned.startswith("$#"):
        return Decision("")
    error = _ERROR.fullmatch(returned)
    if error is None or (error["status"] or "").strip() == "quarantine":
        raise NotReady(f"{host.name}: its TLS rulesets answer neither yes nor no but {returned!r}", left=_UNTOUCHED)
    status = (error["status"] or "").replace(" ", "")
    text = " ".join(_joined(error["text"]).split())
    code = re.match(r"([45])\d\d\b", text)
    deciding = code[1] if code else "4" if status.startswith("4") or status.lower() == "tempfail" else "5"
    reply = f"{text[:3]} {status} {text[4:]}" if code and "." in status else text
    return Decision("temporary" if deciding == "4" else "permanent", reply)


def _joined(printed: str) -> str:
    """The text of what -bt prints with spaces in between; sendmail puts one only between two words."""
    joined, after_word = "", False
    for quoted, bare in _PART.findall(printed):
        is_word = bool(bare) and bare not in _OPERATORS
        joined += (" " if after_word and is_word else "") + (quoted or bare)
        after_word = is_word
    return joined
