"""A page of ours in a real browser, and what is asked of every one of them."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

ARGUMENTS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
NAMES = ("chromium", "chromium-browser", "google-chrome")


@dataclass
class Opened:
    """A page in a tab, with every address that it asked for and all that the browser said of it."""

    page: Page
    asked_for: list[str] = field(default_factory=list)
    said: list[str] = field(default_factory=list)

    def go(self, path: Path, fragment: str = "") -> None:
        """Open a file; what is asked for and said from now on is kept."""
        self.page.on("request", lambda request: self.asked_for.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(path.as_uri() + fragment)

    @property
    def elsewhere(self) -> list[str]:
        """What was asked for apart from the page itself and what lies in it."""
        own = self.page.url.partition("#")[0]
        return [url for url in self.asked_for if url.partition("#")[0] != own and not url.startswith("data:")]

    @property
    def hanging_over(self) -> int:
        """By how many pixels the document is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - document.documentElement.clientWidth"))

    def violations(self) -> list[str]:
        """What axe finds, each as ``impact rule: element``, with everything unfolded: what is hidden is not judged."""
        self.page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
        answer: dict[str, Any] = Axe().run(self.page).response
        return [
            f"{violation['impact']} {violation['id']}: {node['html']}"
            for violation in answer["violations"]
            for node in violation["nodes"]
        ]


def executable(of_playwright: str) -> str:
    """The system's browser, else playwright's own; raises FileNotFoundError where there is neither."""
    found = next((path for name in NAMES if (path := shutil.which(name))), None)
    if found is None and Path(of_playwright).exists():
        found = of_playwright
    if found is None:
        raise FileNotFoundError(
            f"no browser: none of {', '.join(NAMES)} is on PATH. Run .ci/set-up as root (it installs Debian's "
            "chromium), or: python -m playwright install chromium"
        )
    return found
