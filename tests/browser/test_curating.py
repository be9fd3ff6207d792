"""Columns, counts, near-duplicates, differences and charts, in a real browser."""

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from accessibility import expect_fit, serious_problems
from playwright.sync_api import Browser, Page, expect
from shown_store import make_mixes, make_runs, make_store

from ixt_tools.curate.near_duplicates import mark_near_duplicates

pytestmark = pytest.mark.browser

SIZES = [(1280, 800), (390, 844)]
BY_SOURCE = (
    "SELECT source, critic, avg(score) AS mean FROM documents JOIN critiques USING (doc_id) "
    "GROUP BY ALL ORDER BY ALL"
)


@pytest.fixture(scope="module")
def curated(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """The address of a store with near-duplicates."""
    folder: Path = tmp_path_factory.mktemp("curated")
    mark_near_duplicates(make_store(folder), threshold=0.5, workers=1)
    make_mixes(folder / "mixes")
    make_runs(folder / "runs")
    command = [sys.executable, "-m", "ixt_data", "serve", "--port", "0", "--output", "json"]
    for name in ("store", "mixes", "runs"):
        command += [f"--{name}", str(folder / name)]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline())["url"].rstrip("/")
        server.terminate()
        assert server.wait(20) == 0


@pytest.fixture(params=SIZES, ids=["wide", "narrow"])
def sized(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(20_000)
    messages: list[str] = []
    page = context.new_page()
    page.on("console", lambda message: messages.append(message.text))
    page.on("pageerror", lambda error: messages.append(str(error)))
    yield page
    expect_fit(page)
    assert messages == []
    context.close()


def press(page: Page, key: str) -> None:
    """Press a key of a page, whose script must have run."""
    page.wait_for_load_state("load")
    page.keyboard.press(key)


def follow(page: Page, name: str | re.Pattern[str]) -> None:
    """Open a link by keyboard."""
    page.wait_for_load_state("load")
    page.get_by_role("link", name=name).first.focus()
    page.keyboard.press("Enter")


def test_value_is_chosen_and_removed_by_keyboard(sized: Page, curated: str) -> None:
    page = sized
    page.goto(curated + "/documents?corpus=web")
    follow(page, re.compile(r"^de$"))
    expect(page.locator("#results caption")).to_contain_text("64 documents matching")
    assert "is.lang=de" in page.url
    # The form keeps the value, and so do other filters.
    page.get_by_label("Score from").focus()
    page.keyboard.type("0.5")
    page.keyboard.press("Enter")
    expect(page.locator("#results caption")).not_to_contain_text("64 documents")
    page.wait_for_url(lambda url: "is.lang=de" in url and "low=0.5" in url)
    follow(page, re.compile(r"^de.*remove"))
    page.wait_for_url(lambda url: "is.lang" not in url)
    assert "low=0.5" in page.url


def test_columns_are_chosen_and_sorted_by_keyboard(sized: Page, curated: str) -> None:
    page = sized
    page.goto(curated + "/documents?corpus=web")
    page.get_by_text("Columns", exact=True).focus()
    press(page, "Enter")
    page.get_by_label("start of the text").focus()
    page.keyboard.press("Space")
    page.get_by_role("checkbox", name="lang").focus()
    page.keyboard.press("Space")
    page.get_by_role("checkbox", name="status").focus()
    page.keyboard.press("Space")
    page.get_by_role("button", name="Show columns").focus()
    page.keyboard.press("Enter")
    expect(page.locator("#results thead")).to_contain_text("start of the text")
    expect(page.locator("#results thead")).not_to_contain_text("status")
    expect(page.locator("#results tbody .snippet").first).to_contain_text("Document")
    follow(page, re.compile("^lang"))
    expect(page.locator("#results caption")).to_contain_text("by lang, highest first")
    expect(page.locator("#results tbody .value").first).to_have_text("xx")
    shared = page.url
    page.goto(curated)
    page.goto(shared)
    expect(page.locator("#results tbody .value").first).to_have_text("xx")
    # A document of this table leads back to it.
    follow(page, "hostile-7")
    follow(page, "Back to the table")
    expect(page.locator("#results tbody .value").first).to_have_text("xx")


def test_counts_and_columns_work_without_scripts(browser: Browser, curated: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(curated + "/documents")
    page.get_by_role("link", name=re.compile(r"^de$")).click()
    expect(page.locator("#results caption")).to_contain_text("64 documents matching")
    page.get_by_text("Columns", exact=True).click()
    page.get_by_role("checkbox", name="lang").check()
    page.get_by_role("button", name="Show columns").click()
    expect(page.locator("#results tbody .value").first).to_have_text("de")
    page.get_by_role("link", name=re.compile(r"^de.*remove")).click()
    expect(page.locator("#results caption")).to_contain_text("150 documents")
    page.goto(curated + "/charts")
    page.get_by_label("characters from").fill("100")
    page.get_by_role("button", name="Count documents").click()
    expect(page.locator("#selected")).to_contain_text("in this part")
    context.close()


def test_near_duplicates_are_compared_by_keyboard(sized: Page, curated: str) -> None:
    page = sized
    page.goto(curated + "/duplicates")
    page.locator("#results tbody .wide > a").first.focus()
    press(page, "Enter")
    expect(page.locator("h1")).to_contain_text("near-duplicates")
    follow(page, re.compile("^difference of"))
    expect(page.locator("del").first).to_be_visible()
    expect(page.locator("ins").first).to_be_visible()
    boxes = [page.locator(".sides > section").nth(number).bounding_box() for number in (0, 1)]
    assert boxes[0]
    assert boxes[1]
    is_narrow = (page.viewport_size or {})["width"] < 600
    assert (boxes[1]["y"] > boxes[0]["y"]) is is_narrow
    page.goto(curated + "/documents?corpus=code")
    page.locator("#results tbody .wide > a").first.focus()
    press(page, "Enter")
    page.get_by_label("Compare with").focus()
    page.keyboard.type("page-1")
    page.keyboard.press("Enter")
    expect(page.locator(".sides h2").nth(1)).to_contain_text("page-1")


def test_difference_of_snapshots_leads_to_documents(sized: Page, curated: str) -> None:
    page = sized
    page.goto(curated + "/snapshots/diff?from=1&to=5")
    expect(page.locator("main")).to_contain_text("20 of 20 documents")
    follow(page, re.compile("^file-"))
    expect(page.locator("h1")).to_contain_text("file-")
    assert "at=5" in page.url


def test_chart_of_a_query_is_drawn_and_saved(sized: Page, curated: str) -> None:
    page = sized
    page.goto(curated + "/sql")
    page.get_by_label("SQL query").fill(BY_SOURCE)
    page.keyboard.press("Control+Enter")
    follow(page, re.compile("^Chart$"))
    expect(page.locator(".chart svg [aria-roledescription=bar]").first).to_be_visible()
    page.get_by_label("Color").select_option("critic")
    page.locator("[name=kind]").select_option("bar")
    page.get_by_role("button", name="Draw").focus()
    page.keyboard.press("Enter")
    expect(page.locator(".chart svg")).to_contain_text("style")
    for kind in ("PNG", "SVG", "HTML"):
        with page.expect_download() as loading:
            follow(page, kind)
        assert loading.value.suggested_filename.endswith(kind.lower())


def test_part_of_a_chart_is_chosen_by_keyboard(sized: Page, curated: str) -> None:
    page = sized
    page.goto(curated + "/charts")
    expect(page.locator(".chart svg path").first).to_be_visible()
    page.get_by_label("characters from").focus()
    page.keyboard.type("100")
    page.keyboard.press("Enter")
    expect(page.locator("#selected strong")).to_be_visible()
    n = page.locator("#selected strong").inner_text()
    follow(page, "Show as a table")
    expect(page.locator("#results caption")).to_contain_text(n)


def test_rectangle_in_a_chart_becomes_a_filter(page: Page, curated: str, address: str) -> None:
    page.set_viewport_size({"width": 1280, "height": 1000})
    page.goto(address + "/charts")
    expect(page.locator(".chart svg path").first).to_be_visible()
    box = page.locator(".chart svg").bounding_box()
    assert box
    page.mouse.move(box["x"] + 120, box["y"] + 40)
    page.mouse.down()
    page.mouse.move(box["x"] + 500, box["y"] + 200, steps=8)
    page.mouse.up()
    expect(page.locator("#selected strong")).to_be_visible()
    assert float(page.get_by_label("characters from").input_value()) > 0
    n = page.locator("#selected strong").inner_text()
    page.get_by_role("link", name="Show as a table").click()
    expect(page.locator("#results caption")).to_contain_text(n)


PAGES = (
    "/",
    "/documents",
    "/documents?is.lang=de&show=score&show=text&show=column.lang&sort=column.lang",
    "/documents?find=words",
    "/documents/page-1?critic=quality",
    "/documents/file-1?view=code",
    "/duplicates",
    "/duplicates/difference?a=page-1&b=page-2",
    "/scores",
    "/charts",
    "/charts?x=column.lang",
    "/critics",
    "/mixes",
    "/mixes/best",
    "/critique-runs",
    "/train-runs",
    "/train-runs?run=plain",
    "/snapshots",
    "/snapshots/diff?from=1&to=5",
    "/sql",
    "/sql?sql=SELECT+1",
    "/sql/chart?sql=SELECT+n_chars+FROM+documents",
)


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 390])
def test_pages_have_no_serious_accessibility_problem(
    browser: Browser, curated: str, scheme: str, width: int
) -> None:
    context = browser.new_context(
        color_scheme="dark" if scheme == "dark" else "light",
        viewport={"width": width, "height": 900},
    )
    page, found = context.new_page(), []
    for path in PAGES:
        page.goto(curated + path)
        page.wait_for_load_state("networkidle")
        expect_fit(page)
        found += [(path, *problem) for problem in serious_problems(page)]
    context.close()
    assert found == []
