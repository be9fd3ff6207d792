"""The inspector as its users meet it. The fixture `page` fails on any violation of the policy."""

import json
import re
import time
from pathlib import Path
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect
from shown_store import CODE, SCRIPT, WEB

pytestmark = pytest.mark.browser

PAGES = {
    "/": "Snapshot 5",
    "/documents": "Documents",
    "/duplicates": "Near-duplicates",
    "/duplicates/difference": "Compare documents",
    "/scores": "Scores by quality",
    "/charts": "Score by quality, by characters",
    "/critics": "quality and style",
    "/mixes": "Mixes",
    "/mixes/best": "Mix best",
    "/draft": "Draft of a mix",
    "/critique-runs": "Critique runs",
    "/train-runs": "Train runs",
    "/train-runs?run=plain": "Train run plain",
    "/snapshots": "Snapshots",
    "/snapshots/diff?from=1&to=5": "From snapshot 1 to 5",
    "/sql": "SQL",
    "/sql?sql=SELECT+1": "SQL",
    "/sql/chart?sql=SELECT+1": "Chart of a query",
}


def ids(page: Page) -> list[str]:
    links = page.locator("#results tbody .wide > a")
    return [str(link.get_attribute("href")).split("?")[0] for link in links.all()]


@pytest.mark.parametrize("path", PAGES)
def test_every_page_opens(page: Page, address: str, path: str) -> None:
    page.goto(address + path)
    expect(page.locator("h1")).to_have_text(PAGES[path])
    expect(page.locator("nav.pages [aria-current=page]")).to_have_count(1)
    assert page.title().endswith(" · IXT")


@pytest.mark.parametrize("path", PAGES)
def test_a_phone_needs_no_sideways_scrolling(browser: Browser, address: str, path: str) -> None:
    context = browser.new_context(viewport={"width": 360, "height": 740}, has_touch=True)
    page = context.new_page()
    page.goto(address + path)
    expect(page.locator("h1")).to_be_visible()
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) == 0
    context.close()


def test_light_and_dark_differ_and_can_be_read(browser: Browser, address: str) -> None:
    colours = {}
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto(address + "/documents")
        for part in ("body", ".lead", "#results td a", "button >> nth=1"):
            colours[scheme, part] = page.locator(part).first.evaluate(CONTRAST)
            assert colours[scheme, part]["contrast"] >= 4.5, (scheme, part, colours[scheme, part])
        context.close()
    assert colours["light", "body"]["back"] != colours["dark", "body"]["back"]


CONTRAST = """element => {
  const channels = colour => colour.match(/[\\d.]+/g).slice(0, 3).map(Number);
  const light = colour => {
    const [r, g, b] = channels(colour).map(c => c / 255)
      .map(c => c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
    return 0.2126 * r + 0.7152 * g + 0.0722 * b;
  };
  let behind = element;
  while (/rgba\\(.*, 0\\)/.test(getComputedStyle(behind).backgroundColor)) {
    behind = behind.parentElement;
  }
  const back = getComputedStyle(behind).backgroundColor;
  const [a, b] = [light(getComputedStyle(element).color), light(back)];
  return {back, contrast: (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)};
}"""


def test_documents_are_filtered_sorted_and_paged(page: Page, address: str) -> None:
    page.goto(address + "/documents")
    expect(page.locator("#results caption")).to_contain_text(f"{WEB + CODE} documents")
    first = ids(page)
    page.get_by_role("link", name="Next", exact=True).click()
    expect(page.locator(".pager")).to_contain_text("51 to 100 of 150")
    assert not set(first) & set(ids(page))
    page.get_by_role("link", name="Previous", exact=True).click()
    expect(page.locator(".pager")).to_contain_text("1 to 50 of 150")
    assert ids(page) == first
    page.get_by_role("link", name="characters").click()
    expect(page.locator("th[aria-sort=descending]")).to_have_text(re.compile("characters"))
    page.get_by_role("combobox", name="Corpus").select_option("code")
    expect(page.locator("#results caption")).to_contain_text(f"{CODE} documents")
    page.get_by_label("Text in the critique").fill("missing")
    expect(page.locator("#results caption")).not_to_contain_text(f"{CODE} documents")
    assert "text=missing" in page.url
    assert "source=" not in page.url
    shared = page.url
    rows = ids(page)
    page.goto(address + "/")
    page.goto(shared)
    assert ids(page) == rows
    page.get_by_label("Where").fill("score < 0.15")
    page.get_by_label("Where").press("Enter")
    expect(page.locator("#results caption")).to_contain_text("4 documents")
    page.go_back()
    expect(page.locator("#results tbody tr")).to_have_count(len(rows))


def test_everything_works_without_scripts(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address + "/documents")
    page.get_by_role("link", name="Next", exact=True).click()
    expect(page.locator(".pager")).to_contain_text("51 to 100 of 150")
    page.get_by_role("combobox", name="Corpus").select_option("code")
    page.get_by_role("button", name="Filter").click()
    expect(page.locator("#results caption")).to_contain_text(f"{CODE} documents")
    page.goto(address + "/mixes/best")
    page.get_by_label("weight of high").fill("0.9")
    page.get_by_role("button", name="Preview").click()
    expect(page.locator("#plan")).to_contain_text("was 59.7%")
    page.goto(address + "/sql")
    page.get_by_label("SQL query").fill(
        "SELECT count(*) FROM range(9000000000) a, range(9000000000) b"
    )
    page.get_by_role("button", name="Run").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#result")).to_contain_text("cancelled after")
    page.get_by_label("Snapshot").select_option("first-judge")
    page.get_by_role("button", name="Show").click()
    assert "at=first-judge" in page.url
    context.close()


def test_a_document_that_is_a_script_is_text(page: Page, address: str) -> None:
    page.goto(f"{address}/documents?{urlencode({'source': SCRIPT})}")
    page.get_by_role("link", name="hostile-7").click()
    # Without the numbers of spans, which stand in the text.
    shown = page.locator(".text").evaluate(
        "text => [...text.querySelectorAll('sup')].map(sup => sup.remove()) && text.textContent"
    )
    assert SCRIPT in shown
    assert "⟨U+202E⟩" in shown
    assert "onload=alert(3)" in shown
    assert page.title().startswith("hostile-7")
    assert page.locator("main script, main img, main svg[onload]").count() == 0
    for path in ("/", "/scores", "/critics", "/critique-runs", "/snapshots"):
        page.goto(address + path)
    sql = "SELECT source, critique FROM documents JOIN critiques USING (doc_id)"
    page.goto(f"{address}/sql?{urlencode({'sql': sql})}")
    expect(page.locator("#result")).to_contain_text(SCRIPT)


def test_a_document_stands_beside_its_critiques(page: Page, address: str) -> None:
    page.goto(f"{address}/documents?text=step&corpus=web")
    page.locator("#results tbody .wide > a").first.click()
    expect(page.locator("mark.wrong")).to_have_count(1)
    expect(page.locator("mark.right")).to_have_count(1)
    expect(page.locator(".quote").first).to_contain_text("a step is missing")
    expect(page.locator(".thinking")).to_contain_text("I read")
    page.locator("mark sup a").first.click()
    expect(page.locator("#span-1")).to_be_in_viewport()
    first = page.url
    page.keyboard.press("]")
    page.wait_for_url(lambda url: url.split("#")[0] != first.split("#")[0])
    page.keyboard.press("[")
    page.wait_for_url(lambda url: url.split("?")[0] == first.split("?")[0])
    page.get_by_role("link", name=re.compile("^style")).click()
    expect(page.locator(".tabs [aria-current]")).to_contain_text("style")
    with page.expect_download() as loading:
        page.get_by_role("link", name="Download the text").click()
    assert loading.value.suggested_filename.endswith(".txt")


def test_keys_are_enough(page: Page, address: str) -> None:
    page.goto(address + "/documents")
    page.keyboard.press("Tab")
    expect(page.locator(".skip")).to_be_focused()
    expect(page.locator(".skip")).to_be_in_viewport()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    page.keyboard.press("/")
    expect(page.get_by_label("Text in the critique")).to_be_focused()
    page.keyboard.type("missing")
    expect(page.locator("#status")).not_to_be_empty()
    page.keyboard.press("Tab")
    expect(page.get_by_label("Where")).to_be_focused()
    outline = "getComputedStyle(document.activeElement).outlineStyle"
    assert page.evaluate(outline) == "solid"
    page.keyboard.press("Escape")
    page.locator("#results tbody a").first.focus()
    page.keyboard.press("]")
    expect(page.locator(".pager")).to_contain_text("51 to")
    page.goto(address + "/sql")
    page.keyboard.press("/")
    page.keyboard.type("SELECT 6 * 7 AS answer")
    page.keyboard.press("Control+Enter")
    expect(page.locator("#result td")).to_have_text("42")


def test_weights_are_tried_out(page: Page, address: str) -> None:
    page.goto(address + "/mixes/best")
    page.get_by_label("weight of high").fill("0.9")
    expect(page.locator("#plan")).to_contain_text("was 59.7%")
    expect(page.locator("#status")).to_contain_text("samples")
    assert "weight.high=0.9" in page.url
    page.get_by_label("Samples").fill("100000")
    page.get_by_label("max repeats of rest").fill("1")
    expect(page.locator("#plan [role=alert]")).to_contain_text("max_repeats limits the run")


def test_sql_cannot_write_or_read_outside(page: Page, address: str, folder: Path) -> None:
    (folder / "secret.txt").write_text("the secret")
    before = sorted(folder.rglob("*"))
    page.goto(address + "/sql")
    for sql in (
        f"COPY documents TO '{folder}/stolen.csv'",
        f"SELECT * FROM read_text('{folder}/secret.txt')",
        f"SELECT * FROM '{folder}/web.jsonl'",
        "CREATE TABLE t AS SELECT 1",
    ):
        page.get_by_label("SQL query").fill(sql)
        page.get_by_role("button", name="Run").click()
        expect(page.locator("#result")).to_have_attribute("data-status", re.compile("Error|only"))
        expect(page.locator("#result [role=alert]")).not_to_contain_text("the secret")
        page.goto(address + "/sql")
    assert sorted(folder.rglob("*")) == before


def test_sql_cannot_hang_the_server(context: BrowserContext, page: Page, address: str) -> None:
    page.goto(address + "/sql")
    # DuckDB looks for interrupts between calls of a function; this one call takes a minute.
    page.get_by_label("SQL query").fill(
        "SELECT levenshtein(repeat('a', 300000 + i), repeat('b', 300000)) FROM range(1) t(i)"
    )
    page.get_by_role("button", name="Run").click()
    expect(page.get_by_role("button", name="Cancel")).to_be_visible()
    other = context.new_page()
    began = time.monotonic()
    other.goto(address + "/documents?sort=length")
    expect(other.locator("#results tbody tr").first).to_be_visible()
    assert time.monotonic() - began < 3
    expect(page.locator("#result [role=alert]")).to_contain_text(re.compile("stopped after|memory"))
    page.get_by_label("SQL query").fill(
        "SELECT count(*) FROM range(9000000000) a, range(9000000000) b"
    )
    page.get_by_role("button", name="Run").click()
    page.get_by_role("button", name="Cancel").click()
    expect(page.locator("#result [role=alert]")).to_contain_text("cancelled after")


def test_rows_are_loaded_as_a_file(page: Page, address: str) -> None:
    page.goto(
        address + "/sql?sql=SELECT+critic,+count(*)+AS+n+FROM+critiques+GROUP+BY+1+ORDER+BY+1"
    )
    with page.expect_download() as loading:
        page.get_by_role("link", name="CSV").click()
    assert loading.value.path().read_text() == "critic,n\nquality,150\nstyle,130\n"


def test_charts_are_drawn_in_the_colors_of_the_theme(browser: Browser, address: str) -> None:
    colors = {}
    for scheme in ("light", "dark"):
        context = browser.new_context(color_scheme=scheme)
        page = context.new_page()
        page.goto(address + "/scores")
        bar = page.locator(".chart svg [aria-roledescription=bar]").first
        expect(bar).to_be_visible()
        colors[scheme] = bar.evaluate("bar => getComputedStyle(bar).fill")
        page.goto(address + "/train-runs")
        expect(page.locator(".chart svg")).to_have_count(4)
        context.close()
    assert colors["light"] != colors["dark"]


def test_page_of_a_run_updates_while_it_trains(page: Page, address: str, folder: Path) -> None:
    page.goto(address + "/train-runs?run=plain")
    expect(page.locator(".facts")).to_contain_text("200 of 300")
    expect(page.locator(".chart svg")).to_have_count(6)
    with (folder / "runs" / "plain" / "metrics.jsonl").open("a") as metrics:
        row = {"step": 220, "tokens": 4096 * 220, "seconds": 24.5, "loss": 2.0}
        metrics.write("\n" + json.dumps(row) + "\n")
    expect(page.locator(".facts")).to_contain_text("220 of 300", timeout=15_000)
    expect(page.locator(".chart svg")).to_have_count(6)


def test_bar_of_a_chart_opens_its_documents(page: Page, address: str) -> None:
    page.goto(address + "/scores")
    page.locator(".chart svg [aria-roledescription=bar]").first.click()
    page.wait_for_url("**/documents?*high=0.04999*")
    expect(page.locator("#results caption")).to_contain_text("14 documents")


def test_numbers_of_charts_are_shown_without_scripts(browser: Browser, address: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(address + "/scores")
    assert page.locator(".chart svg").count() == 0
    page.get_by_text("Histogram as a table").click()
    page.locator("details table a").first.click()
    expect(page.locator("#results caption")).to_contain_text("14 documents")
    context.close()
