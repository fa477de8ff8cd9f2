"""Proving 03: what the host's sendmail and its OpenSSL make of the partner, and of a stranger."""

from __future__ import annotations

from collections.abc import Iterator

from mailtls_nb.observe.maillog import mark_log
from mailtls_nb.observe.message import logged_handshake
from mailtls_nb.observe.strange_client import seen_as_stranger
from mailtls_nb.procedures.procedure import Context
from mailtls_nb.procedures.trust.observation import Seen, TrustBefore
from mailtls_nb.procedures.trust.wish import TrustWish
from mailtls_nb.verdict import Claim

_OK, _FAIL = "verify=OK", "verify=FAIL"
_VERIFIED, _NOT_VERIFIED = "verified", "not verified"


def trust_claims(
    context: Context, wish: TrustWish, before: TrustBefore, after: Seen, *, earlier: Seen | None
) -> tuple[Claim, ...]:
    """What is seen ``after``, as claims; ``earlier`` is what was seen before a change, None where there was none.

    Of the partner itself only where its certificate leads to the CA that this is about: other than that, nothing about
    it depends on that CA.
    """
    claims = list(_store_claims(wish, after, earlier))
    if before.leads == "OK":
        claims += _partner_claims(wish, before, after, earlier)
    if wish.trusts:
        claims += _stranger_claims(context, wish, before, after)
    return tuple(claims)


def _store_claims(wish: TrustWish, after: Seen, earlier: Seen | None) -> Iterator[Claim]:
    instrument = f"openssl verify on {wish.host}, by CACertFile and CACertPath"
    was = earlier.in_store if earlier else ""
    if wish.trusts:
        yield Claim(
            "the CA offered is one that sendmail trusts",
            "OK",
            after.in_store,
            "inspection",
            instrument,
            fails_when=f"before the change: {was}" if was not in ("", "OK") else "",
        )
        return
    yield Claim(
        "the CA is none that sendmail trusts",
        "refused",
        "OK" if after.in_store == "OK" else "refused",
        "inspection",
        instrument,
        negative=True,
        fails_when="before the change the same command said OK" if was == "OK" else "",
    )
    if earlier and earlier.own_in_store == "OK":
        yield Claim(
            "the host's own certificate verifies as before",
            "OK",
            after.own_in_store,
            "inspection",
            instrument,
            fails_when="for the CA that went the same command said no" if after.in_store != "OK" else "",
        )


def _partner_claims(wish: TrustWish, before: TrustBefore, after: Seen, earlier: Seen | None) -> Iterator[Claim]:
    negative = not wish.trusts

    def claim(text: str, expected: str, observed: str, instrument: str, was: str) -> Claim:
        fails_when = f"before the change: {was}" if was and was != expected else ""
        return Claim(text, expected, observed, "live", instrument, negative=negative, fails_when=fails_when)

    def word(seen: Seen) -> str:
        return _VERIFIED if seen.verifies else f"{_NOT_VERIFIED}: {seen.presented.verified or seen.presented.problem}"

    yield claim(
        f"the certificate of {wish.partner} on port 25, seen from the host",
        _VERIFIED if wish.trusts else _NOT_VERIFIED,
        word(after) if wish.trusts or after.verifies else _NOT_VERIFIED,
        f"openssl s_client from {wish.host}, by what its sendmail trusts",
        word(earlier) if earlier else "",
    )
    log = f"the mail log of {wish.host}"
    expected = _OK if wish.trusts else _FAIL
    if after.as_client:
        was = earlier.as_client if earlier else ""
        yield claim(f"a message to {wish.partner}", expected, after.as_client, f"{log}, the sending side", was)
    # A client that shows no certificate is logged verify=NO, whoever is trusted.
    if after.as_server not in ("", "verify=NO") or before.seen.as_server not in ("", "verify=NO"):
        was = earlier.as_server if earlier else ""
        yield claim(f"a message from {wish.partner}", expected, after.as_server, f"{log}, the receiving side", was)


def _stranger_claims(context: Context, wish: TrustWish, before: TrustBefore, after: Seen) -> Iterator[Claim]:
    """A client whose certificate is of a CA that nobody trusts; on a real host only where it can be reached."""
    look = before.host
    if not look.is_server:
        return
    probe = context.probe(wish.probe_from)
    mark = mark_log(context.host(wish.host), look.layout.log)
    seen_as = seen_as_stranger(probe, look.layout.canonical_name)
    if not seen_as and not wish.is_testbed:
        return
    yield Claim(
        "a client with a certificate of an unknown CA",
        _FAIL,
        logged_handshake(mark, seen_as, _FAIL),
        "live",
        f"the mail log of {wish.host}, for a connection from {wish.probe_from or 'here'}",
        negative=True,
        fails_when=f"a message from {wish.partner} was logged {_OK}" if after.as_server == _OK else "",
    )
