"""Styles and scripts that stand in a page, as the page's content security policy names them. Pure."""

from __future__ import annotations

import base64
import hashlib


def inner(page: str, tag: str) -> str:
    """What stands between the page's only ``<tag>`` and its end; raises ValueError where there is none."""
    start = page.index(f"<{tag}>") + len(tag) + 2
    return page[start : page.index(f"</{tag}>", start)]


def hash_source(text: str) -> str:
    """What allows exactly this style or script: ``sha256-...`` (Content Security Policy 2, section 4.2.2)."""
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
