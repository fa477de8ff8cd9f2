"""A browser for each test file, and a tab for each page."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, sync_playwright

from tests.browser.opened import ARGUMENTS, Opened, executable

OpenPage = Callable[..., Opened]


# Not for the whole session: while playwright's event loop is there, notebooks cannot be run in the same thread.
@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """A headless Chromium; it fails, rather than being skipped, where there is none."""
    with sync_playwright() as playwright:
        chromium = playwright.chromium
        browser = chromium.launch(executable_path=executable(chromium.executable_path), args=list(ARGUMENTS))
        yield browser
        browser.close()


@pytest.fixture
def open_page(browser: Browser) -> Iterator[OpenPage]:
    """Opens a file in a tab: ``scheme`` light or dark, ``width`` in pixels, ``script`` whether scripts may run."""
    contexts = []

    def open_page(
        path: Path, *, scheme: str = "light", width: int = 1400, script: bool = True, fragment: str = ""
    ) -> Opened:
        assert scheme in {"light", "dark"}
        context = browser.new_context(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
            java_script_enabled=script,
        )
        contexts.append(context)
        opened = Opened(context.new_page())
        opened.go(path, fragment)
        return opened

    yield open_page
    for context in contexts:
        context.close()
