"""The page of a run, in a browser: readable, complete, the same for everyone, and it asks nobody for anything."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from playwright.sync_api import expect

from tests.browser.executed import DIGEST, FINGERPRINT, KINDS, LONG_LINE, make_page
from tests.browser.opened import Opened

OpenPage = Callable[..., Opened]


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A page of each kind of run."""
    return {kind: make_page(kind, tmp_path_factory.mktemp(kind)) for kind in KINDS}


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_accessible(pages: dict[str, Path], open_page: OpenPage, kind: str, scheme: str) -> None:
    assert open_page(pages[kind], scheme=scheme).violations() == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_is_accessible_on_a_narrow_screen(pages: dict[str, Path], open_page: OpenPage, kind: str) -> None:
    assert open_page(pages[kind], width=380).violations() == []


@pytest.mark.parametrize(
    ("planted", "rule"),
    [
        ('<p style="color:#999;background:#fff">pale</p>', "serious color-contrast"),
        ('<img src="data:image/png;base64,">', "critical image-alt"),
        ('<button tabindex="0"></button>', "critical button-name"),
    ],
)
def test_a_violation_would_be_found(pages: dict[str, Path], open_page: OpenPage, planted: str, rule: str) -> None:
    """In the folds too."""
    opened = open_page(pages["changed"])
    opened.page.evaluate("(html) => document.querySelector('details').insertAdjacentHTML('beforeend', html)", planted)
    # The page's policy takes the style away from HTML; a script of the browser's own may set it.
    opened.page.evaluate(
        "document.querySelectorAll('details p').forEach((p) => { p.style.cssText = 'color:#999;background:#fff'; })"
    )
    assert any(found.startswith(rule) for found in opened.violations())


@pytest.mark.parametrize("width", [380, 900, 1400])
@pytest.mark.parametrize("kind", KINDS)
def test_the_page_never_scrolls_sideways(pages: dict[str, Path], open_page: OpenPage, kind: str, width: int) -> None:
    opened = open_page(pages[kind], width=width)
    assert opened.hanging_over == 0
    opened.page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    assert opened.hanging_over == 0


def test_what_is_too_wide_would_be_noticed(pages: dict[str, Path], open_page: OpenPage) -> None:
    opened = open_page(pages["changed"], width=380)
    opened.page.evaluate("document.querySelector('main').style.width = '500px'")
    assert opened.hanging_over > 0


@pytest.mark.parametrize("kind", KINDS)
def test_the_page_asks_nobody_for_anything(pages: dict[str, Path], open_page: OpenPage, kind: str) -> None:
    opened = open_page(pages[kind])
    opened.violations()
    assert opened.elsewhere == []
    assert opened.said == []


def test_what_a_page_asks_for_would_be_noticed(pages: dict[str, Path], open_page: OpenPage, tmp_path: Path) -> None:
    """And a picture planted in a page of ours is stopped by its policy, before anything is asked for."""
    page = pages["changed"].read_text()
    image = '<img src="https://example.net/i.png" alt="">'
    (tmp_path / "held.html").write_text(page.replace("</main>", f"{image}</main>"))
    held = open_page(tmp_path / "held.html")
    assert "Content Security Policy" in "".join(held.said)

    without_policy = re.sub(r"<meta http-equiv[^>]*>", "", page)
    (tmp_path / "asking.html").write_text(without_policy.replace("</main>", f"{image}</main>"))
    asking = open_page(tmp_path / "asking.html")
    assert asking.elsewhere == ["https://example.net/i.png"]


def test_no_script_runs_and_no_foreign_style_counts(
    pages: dict[str, Path], open_page: OpenPage, tmp_path: Path
) -> None:
    planted = '<p id="planted" style="color:#010203">x</p><script>document.title = "run"</script></main>'
    (tmp_path / "planted.html").write_text(pages["changed"].read_text().replace("</main>", planted))
    page = open_page(tmp_path / "planted.html").page
    assert page.title() == "10-try: changed"
    assert page.locator("#planted").evaluate("(p) => getComputedStyle(p).color") != "rgb(1, 2, 3)"


def test_the_head_says_what_the_record_says(pages: dict[str, Path], open_page: OpenPage) -> None:
    head = open_page(pages["changed"]).page.get_by_role("banner")
    assert head.get_by_role("heading", level=1).inner_text() == "Changed: the plan was carried out and proved"
    text = head.inner_text()
    for fact in (
        "ssh://admin@mx1.example.org?sudo=yes",
        "root, from sudo:anna ssh:192.0.2.7",
        "ops.example.org",
        "2026-11-28 14:12:13 UTC",
        "2026-11-28 14:14:18 UTC, after 2 min 5 s",
        "given for exactly this plan, by its digest",
        "ticket <4711>",
        "1 of 2 hold, 1 were tried live",
        f"by the key {FINGERPRINT}, in record.json.sig",
        DIGEST,
        "0123" * 16,
        "fa4f462e30b23df8df512feb43b4eabef32d15de",
        "Python 3.12.1, OpenSSH 9.9p1",
    ):
        assert fact in text, fact
    for name in ("notebook.ipynb", "commands.jsonl"):
        digest = subprocess.run(
            ["sha256sum", pages["changed"].parent / name], capture_output=True, text=True, check=True
        )
        assert digest.stdout.split()[0] in text


def test_a_plan_tells_how_to_apply_it(pages: dict[str, Path], open_page: OpenPage) -> None:
    head = open_page(pages["planned"]).page.get_by_role("banner")
    assert "the plan waits for approval" in head.get_by_role("heading", level=1).inner_text()
    command = head.locator("pre").inner_text()
    assert command == f"mailtls-nb run 10-try -p host 'ssh://admin@mx1.example.org?sudo=yes' -p approve {DIGEST}"


def test_a_failed_run_says_why_before_anything_else(pages: dict[str, Path], open_page: OpenPage) -> None:
    page = open_page(pages["failed"]).page
    head = page.get_by_role("banner").inner_text()
    assert head.index("the CA is <not> there") < head.index("nothing was touched") < head.index("run 01 first")
    assert head.index("run 01 first") < head.index("ops.example.org")
    assert "unsigned: there is no key" in head
    assert "papermill's mark" not in page.content()

    errors = page.locator(".output")
    expect(errors).to_have_count(2)
    ours = errors.first.inner_text()
    assert re.search(r"the CA is <not> there\n+State\s+nothing was touched\s+Next\s+run 01 first", ours), ours
    assert errors.last.inner_text().startswith("ZeroDivisionError: division by zero")
    for error in errors.all():
        traceback = error.get_by_text("Traceback (most recent call last)")
        expect(traceback).to_be_hidden()
        error.locator("summary").click()
        expect(traceback).to_be_visible()


def test_findings_and_claims_stand_out(pages: dict[str, Path], open_page: OpenPage) -> None:
    page = open_page(pages["checked"]).page
    assert page.get_by_role("heading", level=1).inner_text() == "1 error, 1 warning, 1 note: nothing was changed"
    colours = [
        page.get_by_role("cell", name=re.compile(f"^{word}:")).evaluate("(cell) => getComputedStyle(cell).color")
        for word in ("error", "warning", "note")
    ]
    assert len(set(colours)) == 3
    page = open_page(pages["changed"]).page
    assert page.get_by_role("cell", name="NO", exact=True).get_attribute("class") == "bad"
    assert page.get_by_role("cell", name="yes", exact=True).get_attribute("class") == "good"


def test_a_narrow_screen_has_each_cell_beside_its_heading(pages: dict[str, Path], open_page: OpenPage) -> None:
    cell = open_page(pages["changed"], width=380).page.get_by_role("cell", name="rejected (5xx)")
    assert cell.evaluate("(cell) => getComputedStyle(cell, '::before').content") == '"expected"'


def test_long_output_is_folded_and_opens(pages: dict[str, Path], open_page: OpenPage) -> None:
    page = open_page(pages["changed"]).page
    last = page.get_by_text(f"{LONG_LINE}199")
    expect(last).to_be_hidden()
    page.get_by_text("200 lines: ").click()
    expect(last).to_be_visible()
    expect(page.get_by_text("z" * 500)).to_be_visible()


def test_code_is_folded_and_opens(pages: dict[str, Path], open_page: OpenPage) -> None:
    page = open_page(pages["planned"]).page
    code = page.get_by_text("from mailtls_nb.display import plan_report")
    expect(code).to_be_hidden()
    page.get_by_text("Code [3]").click()
    expect(code).to_be_visible()
    for words in ("Parameters and their defaults", "Values given for this run"):
        expect(page.get_by_text(words)).to_be_visible()


def test_the_lines_of_a_diff_have_colours_and_signs(pages: dict[str, Path], open_page: OpenPage) -> None:
    """By their place: a line that was taken away and began with dashes is no name of a file."""
    page = open_page(pages["planned"]).page
    lines = page.locator("pre.diff").first.locator("span")
    kinds = [line.get_attribute("class") for line in lines.all()]
    assert kinds == ["file", "file", "hunk", "deleted", "added", "added"]
    assert [line.inner_text().strip()[0] for line in lines.all()] == ["-", "+", "@", "-", "+", "+"]
    colours = [line.evaluate("(line) => getComputedStyle(line).color") for line in lines.all()]
    assert len(set(colours)) == 4
    text = page.locator("pre.diff").last.evaluate("(diff) => diff.textContent")
    assert "+O Option7=new <b>\n" in text


def test_links_that_lead_nowhere_are_plain_text(pages: dict[str, Path], open_page: OpenPage) -> None:
    page = open_page(pages["changed"]).page
    expect(page.get_by_text("runbook", exact=True)).to_be_visible()
    expect(page.get_by_role("main").get_by_role("link")).to_have_count(0)


def test_on_paper_nothing_is_folded(pages: dict[str, Path], open_page: OpenPage, tmp_path: Path) -> None:
    page = open_page(pages["changed"], scheme="dark").page
    last = page.get_by_text(f"{LONG_LINE}199")
    assert last.evaluate("(pre) => pre.checkVisibility({ contentVisibilityAuto: true })") is False
    page.emulate_media(media="print")
    assert last.evaluate("(pre) => pre.checkVisibility({ contentVisibilityAuto: true })") is True
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    folded = len(re.findall(rb"/Type /Page\b", page.pdf()))
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.open = true; })")
    assert len(re.findall(rb"/Type /Page\b", page.pdf())) == folded
    page.evaluate("document.querySelectorAll('details').forEach((details) => { details.remove(); })")
    assert len(re.findall(rb"/Type /Page\b", page.pdf())) < folded
