"""What may not be typed into sendmail -bt is refused before any host is asked."""

from __future__ import annotations

import dataclasses
from typing import Any, cast

import pytest

from mailtls_nb.errors import NotReady
from mailtls_nb.hosts.base import Host
from mailtls_nb.observe.rulesets import ask_rulesets
from mailtls_nb.sendmail.access.case import Case
from mailtls_nb.sendmail.layout import Layout

# Neither is looked at before the cases are.
HOST, LAYOUT = cast(Host, None), cast(Layout, None)
GOOD = Case(
    "recipient",
    "mx.example.test",
    "IPv6:2001:db8:0:0:0:0:0:1",
    "OK",
    256,
    0,
    "peer.test",
    "/C=DE/O=A+20B/CN=peer.test",
    "/O=$a,b;c'd!e&f%g*h|i~j^k`l{m}n[o]p@q?r/CN=x+2By",
    ("*.example.test",),
    "o'user+x=y&z@example.test",
)
BAD = [
    *("\n/quit", "a\nb", "a\rb", "a\x00b", "a\x1bb", "a b", "\t", 'a"b', "a\\b", "a<b", "a(b)", "ä", "ƒ", "a" * 1001)
]
FIELDS = ["peer", "address", "verify", "cn_subject", "cert_subject", "cert_issuer", "recipient"]


def _refused(field: str, value: str) -> None:
    changes: dict[str, Any] = {field: value}
    with pytest.raises(NotReady, match="cannot be put to sendmail's rulesets"):
        ask_rulesets(HOST, LAYOUT, [GOOD, dataclasses.replace(GOOD, **changes)], access=b"")


@pytest.mark.parametrize("field", FIELDS)
@pytest.mark.parametrize("bad", BAD)
def test_what_could_be_misread_is_refused(field: str, bad: str) -> None:
    """Line breaks, control characters, comments, quotes and what no sendmail would put into a macro."""
    for value in (bad, getattr(GOOD, field) + bad, bad + getattr(GOOD, field)):
        _refused(field, value)


@pytest.mark.parametrize("field", ["peer", "address", "verify", "recipient"])
@pytest.mark.parametrize("bad", ["", "#", "a#b", "$j", "a$|b", "a,b", "a;b", "=Sx"])
def test_names_are_names(field: str, bad: str) -> None:
    """Where no distinguished name stands, less is allowed; and nothing may be empty."""
    _refused(field, bad)
