"""The rules of the host's access map that would refuse the partner's mail once its CA is no longer trusted."""

from __future__ import annotations

import re
from collections.abc import Sequence

from cryptography import x509

from mailtls_nb.names import sendmail_dn
from mailtls_nb.sendmail.access.block import managed_groups
from mailtls_nb.sendmail.access.entries import EXEMPT, Entry, access_entries
from mailtls_nb.sendmail.access.requirement import parse_requirement


def rules_that_need(
    gone: Sequence[x509.Certificate],
    access: bytes,
    *,
    partner: str,
    staying: Sequence[x509.Certificate],
    name: str,
) -> tuple[tuple[Entry, ...], tuple[Entry, ...]]:
    """Those of the partner's group in the managed block, and those elsewhere; the order is the file's.

    Of the partner's own each that asks for a verified certificate, unless of another root CA, one of ``staying``; of
    all others each that asks for one of these CAs by name (``CI:``). Raises NotReady when the block, in the file
    ``name``, is damaged.
    """
    own = managed_groups(access, name=name).get(partner, ())
    own_lines = {entry.line for entry in own}
    names = _names(gone)
    other_roots = _names([ca for ca in staying if ca.issuer == ca.subject]) - names
    of_partner = [entry for entry in own if entry.is_tls and _needs_verification(entry, other_roots)]
    elsewhere = [e for e in access_entries(access) if e.line not in own_lines and _asks_for(e, names)]
    return tuple(of_partner), tuple(elsewhere)


def rules_that_name(gone: Sequence[x509.Certificate], access: bytes) -> tuple[Entry, ...]:
    """Every rule that asks for a certificate of one of these CAs by its name (``CI:``), in the managed block or not."""
    names = _names(gone)
    return tuple(entry for entry in access_entries(access) if _asks_for(entry, names))


def _names(certificates: Sequence[x509.Certificate]) -> set[str]:
    """Their subjects as in ``CI:``, in both spellings: sendmail's depends on the OpenSSL that it runs with."""
    return {sendmail_dn(ca.subject, before_openssl_3=older) for ca in certificates for older in (False, True)}


def _needs_verification(entry: Entry, other_roots: set[str]) -> bool:
    if entry.value == EXEMPT:
        return False
    requirement = parse_requirement(entry.value)
    issuers = {extension.value for extension in requirement.extensions if extension.kind == "CI"}
    return requirement.level == "VERIFY" and not issuers & other_roots


def _asks_for(entry: Entry, names: set[str]) -> bool:
    # An operator's own value need not be one that we would write.
    asked = "|".join(map(re.escape, names))
    return entry.is_tls and re.search(rf"CI:(?:{asked})(?=\+\+|\s|\Z)", entry.value, re.IGNORECASE) is not None
