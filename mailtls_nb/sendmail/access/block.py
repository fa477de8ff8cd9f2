"""The managed block of an access map: all that our runbooks write stands between two marker lines.

In the block each partner has a group: a comment line with its name, then its entries. What stands outside is the
operator's and stays as it is, byte for byte.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

from mailtls_nb.errors import BadParameter, NotReady
from mailtls_nb.names import hostname
from mailtls_nb.sendmail.access.entries import EXEMPT, Entry, Line, access_entries, is_loopback, read_access
from mailtls_nb.sendmail.access.requirement import BadRequirement, parse_requirement

BEGIN = b"# BEGIN mailtls-nb: TLS rules written by its runbooks; do not edit between the markers"
END = b"# END mailtls-nb"

# The group of the bare tags, which hold everyone without a rule of their own. It is no host name.
EVERYONE = "everyone"

_BEGIN_LINE = re.compile(rb"^# BEGIN mailtls-nb\b[^\n]*(?:\n|\Z)", re.MULTILINE)
_END_LINE = re.compile(rb"^# END mailtls-nb\b[^\n]*(?:\n|\Z)", re.MULTILINE)
_GROUP_LINE = re.compile(rb"# partner: ([a-z0-9.-]+)\r?\n?")


def with_partner(access: bytes, partner: str, entries: Sequence[Entry], *, name: str) -> bytes:
    """``access`` with exactly these entries in the group of ``partner``; without any, the group is removed.

    ``partner`` is a host name, or EVERYONE.

    ``name`` is the file's, for messages. Raises BadParameter for an entry that is none of ours, NotReady when the block
    is damaged or a key is already there outside the group: makemap would take the first and leave the other.
    """
    if partner != EVERYONE:
        partner = hostname("partner", partner)
    groups = dict(managed_groups(access, name=name))
    for entry in entries:
        _check(entry)
    _refuse_doubles(access, groups, partner, entries, name)
    if entries:
        groups[partner] = tuple(entries)
    else:
        groups.pop(partner, None)
    return _with_block(access, _block_lines(groups), name)


def managed_block(access: bytes, *, name: str) -> bytes:
    """The block with its marker lines, empty where there is none: what a diff may show."""
    span = _block_span(access, name)
    return b"" if span is None else access[span[0] : span[1]]


def managed_groups(access: bytes, *, name: str) -> Mapping[str, tuple[Entry, ...]]:
    """The entries in the block by partner, in their order. Raises NotReady when the block is damaged."""
    lines = _inner_lines(access, name)
    groups: dict[str, list[Entry]] = {}
    keys: set[str] = set()
    group: list[Entry] | None = None
    for line in lines:
        if (match := _GROUP_LINE.fullmatch(line.raw)) and (partner := match[1].decode("ascii")) not in groups:
            group = groups.setdefault(partner, [])
        elif group is not None and line.entry is not None and line.entry.key not in keys and _is_ours(line.entry):
            keys.add(line.entry.key)
            group.append(line.entry)
        else:
            raise NotReady(
                f"{name}, line {line.number}: the managed block was changed by hand; this line is not one of its own",
                left="nothing was touched",
                do="put what is yours outside the markers, remove this line, then run this again",
            )
    return {partner: tuple(found) for partner, found in groups.items()}


def without_managed_block(access: bytes, *, name: str) -> bytes:
    """``access`` as it was before a block was put in; raises NotReady when the markers do not pair."""
    return _with_block(access, [], name)


def _check(entry: Entry) -> None:
    if not _is_ours(entry) or access_entries(f"{entry}\n".encode("utf-8", "surrogateescape")) != (entry,):
        raise BadParameter("entry", f"{entry.written_key!r} is no entry that the managed block may hold")


def _is_ours(entry: Entry) -> bool:
    if entry.tag == "Try_TLS":
        return entry.value == "NO"
    if entry.is_tls and entry.value == EXEMPT:
        return is_loopback(entry.name)
    try:
        return entry.is_tls and str(parse_requirement(entry.value)) == entry.value
    except BadRequirement:
        return False


def _refuse_doubles(
    access: bytes, groups: Mapping[str, tuple[Entry, ...]], partner: str, entries: Sequence[Entry], name: str
) -> None:
    keys = [entry.key for entry in entries]
    if len(set(keys)) != len(keys):
        raise BadParameter("entries", f"two of them have one key ({', '.join(sorted(keys))})")
    own_lines = {entry.line for entry in groups.get(partner, ())}
    owner = {entry.line: other for other, group in groups.items() for entry in group}
    for there in access_entries(access):
        if there.key in keys and there.line not in own_lines:
            whose = f"of partner {owner[there.line]}" if there.line in owner else "outside the managed block"
            raise NotReady(
                f"{name}, line {there.line}: there is an entry {there.written_key} already, {whose}; "
                "of two entries with one key makemap takes the first, and reports an error",
                left="nothing was touched",
                do="remove that line (or leave that name out), then run this again",
            )


def _block_lines(groups: Mapping[str, tuple[Entry, ...]]) -> list[bytes]:
    if not groups:
        return []
    lines = [BEGIN]
    for partner, entries in groups.items():
        lines += [f"# partner: {partner}".encode("ascii"), *(str(entry).encode("ascii") for entry in entries)]
    return [*lines, END]


def _with_block(access: bytes, lines: list[bytes], name: str) -> bytes:
    span = _block_span(access, name) or (len(access), len(access))
    before, after = access[: span[0]], access[span[1] :]
    if after or not access or access.endswith(b"\n"):
        return before + b"".join(line + b"\n" for line in lines) + after
    # A file without a final newline: the block brings the line break that parts it and again ends without one.
    if span[0] < len(access):
        before = before.removesuffix(b"\n")
    return b"\n".join([before, *lines] if before else lines)


def _block_span(access: bytes, name: str) -> tuple[int, int] | None:
    begins, ends = list(_BEGIN_LINE.finditer(access)), list(_END_LINE.finditer(access))
    if not begins and not ends:
        return None
    if len(begins) == len(ends) == 1 and begins[0].end() <= ends[0].start():
        return begins[0].start(), ends[0].end()
    markers = sorted([*begins, *ends], key=lambda match: match.start())
    raise NotReady(
        f"{name}: the markers of the managed block do not pair (BEGIN: {len(begins)}, END: {len(ends)}; lines "
        f"{', '.join(str(_line_number(access, match.start())) for match in markers)})",
        left="nothing was touched",
        do="remove the marker lines and the entries between them by hand, then run this again",
    )


def _inner_lines(access: bytes, name: str) -> tuple[Line, ...]:
    span = _block_span(access, name)
    if span is None:
        return ()
    lines = read_access(access[span[0] : span[1]], first_line=_line_number(access, span[0]))
    return lines[1:-1]


def _line_number(access: bytes, offset: int) -> int:
    return access.count(b"\n", 0, offset) + 1
