"""The list of runs, in a browser: every run is there, and each filter leaves the runs that it should."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timedelta
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from mailtls_nb.audit.pages.index_page import index_page
from mailtls_nb.audit.run_summary import NOT_ENDED, RunSummary
from tests.browser.opened import Opened

OpenPage = Callable[..., Opened]

FINGERPRINT = "SHA256:uVbGfUUDnpUzC3lLw0jqfl1b5mC0aTfZkQ4tq1O6nXk"
MADE = "2026-12-01T00:00:00Z"


def run(begun: str, runbook: str, hosts: tuple[str, ...], outcome: str, operator: str, signed: str = "") -> RunSummary:
    folder = f"{begun.replace('-', '').replace(':', '')}-{runbook}"
    return RunSummary(folder, runbook, hosts, outcome, begun, "" if outcome == NOT_ENDED else begun, operator, signed)


RUNS = (
    run("2026-11-01T08:00:00Z", "01-create-ca", (), "changed", "anna", FINGERPRINT),
    run("2026-11-03T23:59:59Z", "02-issue-certificate", ("ssh://mx1.example.org",), "changed", "anna", FINGERPRINT),
    run("2026-11-02T09:00:00Z", "02-issue-certificate", ("ssh://mx2.example.org",), "failed", "ben"),
    run("2026-11-04T00:00:00Z", "04-enforce-access", ("ssh://mx1.example.org", "local"), "planned", "ben", FINGERPRINT),
    run("2026-11-05T10:00:00Z", "02-issue-certificate", ("ssh://mx1.example.org",), NOT_ENDED, "Café <b>"),
)


@pytest.fixture
def page(open_page: OpenPage, tmp_path: Path) -> Page:
    (tmp_path / "index.html").write_text(index_page(RUNS, made=MADE), encoding="utf-8")
    return open_page(tmp_path / "index.html").page


def shown(page: Page) -> list[str]:
    """The days of the runs that can be seen, as they stand in the list."""
    return [text[8:10] for text in page.locator("#runs tr:visible td:first-child").all_inner_texts()]


def test_every_run_is_there_the_newest_first(page: Page) -> None:
    assert shown(page) == ["05", "04", "03", "02", "01"]
    expect(page.locator("#count")).to_have_text("5 runs")
    assert page.locator("#count").get_attribute("aria-live") == "polite"
    row = page.get_by_role("row").nth(2)
    assert row.get_by_role("cell").all_inner_texts() == [
        "2026-11-04 00:00:00", "ssh://mx1.example.org, local", "planned", "ben", "yes",
    ]  # fmt: skip
    assert page.get_by_title(FINGERPRINT).count() == 3
    counts = page.locator(".summary div").all_inner_texts()
    assert [count.split("\n") for count in counts] == [
        ["runs", "5"],
        ["failed", "1"],
        ["not ended", "1"],
        ["unsigned", "2"],
    ]
    assert page.get_by_role("listitem").all_inner_texts() == [f"{FINGERPRINT}: 3 runs"]


def test_each_row_leads_to_its_run(open_page: OpenPage, tmp_path: Path) -> None:
    """Whatever its folder is called; a run that has not ended has no page."""
    hostile = replace(RUNS[0], folder='2026 %41?#"é&<')
    (tmp_path / hostile.folder).mkdir()
    (tmp_path / hostile.folder / "notebook.html").write_text("<title>here</title>")
    (tmp_path / "index.html").write_text(index_page([hostile, RUNS[4]], made=MADE), encoding="utf-8")
    page = open_page(tmp_path / "index.html").page
    links = page.get_by_role("table").get_by_role("link")
    assert links.first.get_attribute("href") == f"{RUNS[4].folder}/"
    links.last.click()
    expect(page).to_have_title("here")


@pytest.mark.parametrize(
    ("filters", "days"),
    [
        ({"Host or any text": "mx1"}, ["05", "04", "03"]),
        ({"Host or any text": "MX1 anna"}, ["03"]),
        ({"Host or any text": "café <b>"}, ["05"]),
        ({"Host or any text": "no such host"}, []),
        ({"Runbook": "02-issue-certificate"}, ["05", "03", "02"]),
        ({"Outcome": "failed"}, ["02"]),
        ({"Outcome": "not ended"}, ["05"]),
        ({"Outcome": "changed"}, ["03", "01"]),
        ({"Signed": "no"}, ["05", "02"]),
        ({"Begun from": "2026-11-03"}, ["05", "04", "03"]),
        ({"Begun to": "2026-11-03"}, ["03", "02", "01"]),
        ({"Begun from": "2026-11-03", "Begun to": "2026-11-03"}, ["03"]),
        ({"Host or any text": "mx1", "Runbook": "02-issue-certificate", "Outcome": "changed"}, ["03"]),
        ({"Host or any text": "mx1", "Outcome": "failed"}, []),
    ],
)
def test_filters(page: Page, filters: dict[str, str], days: list[str]) -> None:
    for label, value in filters.items():
        field = page.get_by_label(label)
        if label in {"Runbook", "Outcome", "Signed"}:
            field.select_option(value)
        else:
            field.fill(value)
    assert shown(page) == days
    expect(page.locator("#count")).to_have_text(f"{len(days)} of 5 runs")
    # What is seen can be kept as a bookmark: a reload, and the address in another tab, show the same.
    page.reload()
    assert shown(page) == days
    for label, value in filters.items():
        expect(page.get_by_label(label)).to_have_value(value)
    page.get_by_role("button", name="Show all").click()
    expect(page.locator("#count")).to_have_text("5 runs")
    assert len(shown(page)) == 5
    page.reload()
    assert len(shown(page)) == 5


def test_a_link_to_a_filtered_list(open_page: OpenPage, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(index_page(RUNS, made=MADE), encoding="utf-8")
    opened = open_page(tmp_path / "index.html", fragment="#outcome=failed&unknown=x")
    assert shown(opened.page) == ["02"]
    opened.page.evaluate("location.hash = '#text=mx1&to=2026-11-04'")
    expect(opened.page.locator("#count")).to_have_text("2 of 5 runs")
    assert shown(opened.page) == ["04", "03"]
    assert opened.said == []


def test_without_scripts_the_whole_list_is_there(open_page: OpenPage, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(index_page(RUNS, made=MADE), encoding="utf-8")
    page = open_page(tmp_path / "index.html", script=False, fragment="#outcome=failed").page
    assert len(shown(page)) == 5
    expect(page.locator("form")).to_be_hidden()
    expect(page.locator("#count")).to_have_text("5 runs")


def test_only_the_pages_own_script_runs(open_page: OpenPage, tmp_path: Path) -> None:
    """One that is changed, or that came in with a name, does not: the list is then as without scripts."""
    hostile = replace(RUNS[1], hosts=("<script>document.title = 'run'</script>",), operator="</tbody><img src=x>")
    (tmp_path / "index.html").write_text(index_page([hostile], made=MADE), encoding="utf-8")
    opened = open_page(tmp_path / "index.html")
    expect(opened.page).to_have_title("Runs of mailtls-nb")
    assert "<script>document.title" in opened.page.get_by_role("table").inner_text()
    assert opened.page.locator("img").count() == 0
    assert opened.elsewhere == []

    changed = index_page(RUNS, made=MADE).replace('"use strict";', '"use strict"; document.title = "run";')
    (tmp_path / "index.html").write_text(changed, encoding="utf-8")
    held = open_page(tmp_path / "index.html")
    expect(held.page).to_have_title("Runs of mailtls-nb")
    assert "Content Security Policy" in "".join(held.said)
    expect(held.page.locator("form")).to_be_hidden()


@pytest.mark.parametrize("width", [380, 1400])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_list_is_accessible_and_fits(open_page: OpenPage, tmp_path: Path, scheme: str, width: int) -> None:
    (tmp_path / "index.html").write_text(index_page(RUNS, made=MADE), encoding="utf-8")
    opened = open_page(tmp_path / "index.html", scheme=scheme, width=width)
    assert opened.violations() == []
    assert opened.hanging_over == 0
    assert opened.elsewhere == []
    # Rows that are laid out as grids are still rows of a table for who cannot see them.
    assert opened.page.get_by_role("row").count() == 6
    assert opened.page.get_by_role("rowheader").count() == 5


def test_a_list_without_runs(open_page: OpenPage, tmp_path: Path) -> None:
    (tmp_path / "index.html").write_text(index_page([], made=MADE), encoding="utf-8")
    opened = open_page(tmp_path / "index.html")
    expect(opened.page.locator("#count")).to_have_text("0 runs")
    assert opened.violations() == []


def test_on_paper_there_is_the_list_without_the_form(page: Page) -> None:
    page.get_by_label("Outcome").select_option("failed")
    page.emulate_media(media="print")
    assert shown(page) == ["02"]
    expect(page.locator("form")).to_be_hidden()
    assert page.locator("#runs tr:visible").evaluate("(row) => getComputedStyle(row).display") == "table-row"


def test_five_thousand_runs(open_page: OpenPage, tmp_path: Path) -> None:
    begin = datetime.fromisoformat("2026-01-01T00:00:00Z")
    runs = [
        run(f"{begin + timedelta(hours=number):%Y-%m-%dT%H:%M:%SZ}", RUNS[number % 5].runbook, (f"mx{number % 40}",),
            "failed" if number % 100 == 0 else "changed", "anna", FINGERPRINT)
        for number in range(5000)
    ]  # fmt: skip
    (tmp_path / "index.html").write_text(index_page(runs, made=MADE), encoding="utf-8")
    page = open_page(tmp_path / "index.html").page
    expect(page.locator("#count")).to_have_text("5,000 runs")
    assert page.locator("#runs tr").count() == 5000
    page.get_by_label("Host or any text").fill("mx7")
    expect(page.locator("#count")).to_have_text("125 of 5,000 runs")
    page.get_by_label("Host or any text").fill("")
    page.get_by_label("Outcome").select_option("failed")
    expect(page.locator("#count")).to_have_text("50 of 5,000 runs")
    assert page.locator("#runs tr:visible").count() == 50
