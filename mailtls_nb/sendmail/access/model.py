"""What sendmail decides for a peer, given the access map: the lookups, and then what the value found demands.

Sources: the rulesets tls_client, tls_server, tls_rcpt, D, A, F, U and E of cf/m4/proto.m4 (8.15.2, 8.17.1, 8.18.1),
and real sendmail of these releases, row by row (tests/sendmail).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

from mailtls_nb.sendmail.access.case import Case, Decision, Direction
from mailtls_nb.sendmail.access.connection import Release, Rulesets, default_decision, fold, judge
from mailtls_nb.sendmail.access.entries import Entry

TAG_OF: Mapping[Direction, str] = {"server": "TLS_Clt", "client": "TLS_Srv", "recipient": "TLS_Rcpt"}


@dataclass(frozen=True)
class Lookup:
    """One key that sendmail looks up. ``skippable``: the value SKIP ends this walk (FEATURE(access_db), ``skip``)."""

    key: str
    skippable: bool = False


def decide(
    entries: Iterable[Entry], case: Case, *, release: Release, skip: bool = True, alternative_names: bool = False
) -> Decision:
    """What sendmail of this ``release`` decides for ``case``; of entries with one key the first counts.

    ``skip`` and ``alternative_names`` say what the cf was built with, as in `Rulesets`; the defaults are Debian's.
    """
    rulesets = Rulesets(release, skip, alternative_names)
    values = access_values(entries)
    found = find(values, case, skip=rulesets.skip)
    if found is None:
        return default_decision(case, rulesets)
    return judge(values[found], case, rulesets, lookup=lambda key: values.get(fold(key)))


def access_values(entries: Iterable[Entry]) -> dict[str, str]:
    """The map that makemap builds: value by folded key, the first of several."""
    values: dict[str, str] = {}
    for entry in entries:
        values.setdefault(entry.key, entry.value)
    return values


def find(values: Mapping[str, str], case: Case, *, skip: bool = True) -> str | None:
    """The key of the entry that counts for ``case``: the first hit in the order of `lookups`, or None."""
    for walk in lookups(case):
        for lookup in walk:
            value = values.get(lookup.key)
            # "?" is what the rulesets take for "not found".
            if value is None or value == "?":
                continue
            if skip and lookup.skippable and fold(value) == "skip":
                break
            return lookup.key
    return None


def lookups(case: Case) -> Iterator[tuple[Lookup, ...]]:
    """The keys that sendmail looks up for ``case``, in order, as walks: by name, by address, the bare tag.

    For a recipient: the mail address, the user, the domain, the bare tag. SKIP ends a walk, and the next one goes on.
    """
    tag = TAG_OF[case.direction]
    if case.direction == "recipient":
        yield from _recipient_walks(tag, case.recipient)
    else:
        yield _walk(tag, name_and_parents(case.peer))
        yield _walk(tag, address_and_prefixes(case.address))
    yield (Lookup(fold(f"{tag}:")),)


def name_and_parents(name: str) -> Iterator[str]:
    """A host name, then its parent domains; of a name in brackets, which is an address, its shorter prefixes."""
    if name.startswith("[") and name.endswith("]"):
        yield from (f"[{prefix}]" for prefix in address_and_prefixes(name[1:-1]))
        return
    while name:
        yield name
        name = name.partition(".")[2]


def address_and_prefixes(address: str) -> Iterator[str]:
    """An address as sendmail writes it, then without its last octet or group, and so on."""
    while address:
        yield address
        separator = max(address.rfind(":"), address.rfind("."))
        address = address[: max(separator, 0)].removesuffix(":")


def _walk(tag: str, names: Iterable[str]) -> tuple[Lookup, ...]:
    return tuple(Lookup(fold(f"{tag}:{name}"), skippable=True) for name in names)


def _recipient_walks(tag: str, recipient: str) -> Iterator[tuple[Lookup, ...]]:
    user, at, domain = recipient.strip("<>").rpartition("@")
    if not at:
        user, domain = domain, ""
    domain = domain.removesuffix(".")
    users = _user_and_details(user)
    if domain:
        yield tuple(Lookup(fold(f"{tag}:{one}@{domain}")) for one in users)
    yield tuple(Lookup(fold(f"{tag}:{one}@")) for one in users)
    yield _walk(tag, name_and_parents(domain))


def _user_and_details(user: str) -> tuple[str, ...]:
    """user+detail, then user+*, then user; a user without a detail is alone."""
    bare, plus, _ = user.partition("+")
    return (user, f"{bare}+*", bare) if plus and bare else (user,)
