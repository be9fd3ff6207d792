"""The SQL page by keyboard only: wide and narrow, light and dark."""

import re
from collections.abc import Iterator

import pyarrow.parquet as pq
import pytest
from accessibility import expect_fit, serious_problems
from playwright.sync_api import Browser, Page, expect
from served import served
from shown_store import make_store

pytestmark = pytest.mark.browser

LOOKS = [(1280, 800, "light"), (390, 844, "dark")]
TOKEN = "correct horse battery"


@pytest.fixture(scope="module")
def writable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    store = make_store(tmp_path_factory.mktemp("sql"))
    with served(store.root, "--write", "--token", TOKEN) as address:
        yield address


@pytest.fixture(params=LOOKS, ids=["wide-light", "narrow-dark"])
def page(request: pytest.FixtureRequest, browser: Browser, writable: str) -> Iterator[Page]:
    width, height, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    context.set_default_timeout(20_000)
    opened = context.new_page()
    messages: list[str] = []
    opened.on("console", lambda message: messages.append(message.text))
    opened.on("pageerror", lambda error: messages.append(str(error)))
    opened.goto(f"{writable}/?token={TOKEN}")
    yield opened
    assert messages == []
    context.close()


def test_recipe_is_run_sorted_and_downloaded(page: Page, writable: str) -> None:
    page.goto(writable + "/sql")
    page.get_by_role("link", name="worst", exact=True).press("Enter")
    page.get_by_label("$critic").press_sequentially("quality")
    page.keyboard.press("Enter")
    expect(page.locator("#result tbody tr").first).to_be_visible()
    assert "p.critic=quality" in page.url
    page.get_by_role("link", name="score", exact=True).press("Enter")
    column = page.locator("#result th[aria-sort=descending]")
    expect(column).to_contain_text("score")
    assert "sort=" in page.url
    shown = page.locator("#result tbody tr").count()
    page.goto(page.url)
    expect(page.locator("#result tbody tr")).to_have_count(shown)
    assert serious_problems(page) == []
    with page.expect_download() as loading:
        page.get_by_role("link", name="Parquet").press("Enter")
    table = pq.read_table(loading.value.path())
    assert table.num_rows == shown
    scores = table["score"].to_pylist()
    assert scores == sorted(scores, reverse=True)
    expect_fit(page)


def test_editor_completes_views_and_columns(page: Page, writable: str) -> None:
    page.goto(writable + "/sql")
    page.wait_for_load_state("load")
    page.keyboard.press("/")
    page.keyboard.type("SELECT count(*) AS n FROM documents d WHERE d.source_")
    expect(page.get_by_role("option", name="source_id")).to_be_visible()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("Enter")
    page.keyboard.type(" = 'page-3'")
    editor = page.get_by_label("SQL query")
    expect(editor).to_have_text(re.compile("WHERE d.source_id = 'page-3'$"))
    color = "spans => new Set(spans.map(span => getComputedStyle(span).color)).size"
    assert editor.locator(".cm-line > span").evaluate_all(color) >= 2
    page.keyboard.press("Control+Enter")
    expect(page.locator("#result td")).to_have_text("1")
    page.keyboard.press("Tab")
    expect(page.get_by_role("button", name="Run")).to_be_focused()


def test_query_is_saved_and_shared(page: Page, writable: str) -> None:
    name = f"sources-{(page.viewport_size or {})['width']}"
    page.goto(writable + "/sql")
    page.wait_for_load_state("load")
    page.keyboard.press("/")
    page.keyboard.type("SELECT source, count(*) AS n FROM documents\nWHERE n_chars > $least ")
    page.keyboard.type("GROUP BY source")
    page.keyboard.press("Control+Enter")
    page.get_by_label("$least").press_sequentially("20")
    page.keyboard.press("Enter")
    expect(page.locator("#result tbody tr").first).to_be_visible()
    page.get_by_text("Save, share, or run elsewhere").press("Enter")
    page.get_by_label("Name").press_sequentially(name)
    page.get_by_label("Note").press_sequentially("long ones by source")
    page.keyboard.press("Enter")
    expect(page.locator("#result")).to_contain_text("Saved query")
    page.goto(f"{writable}/sql?saved={name}&p.least=30")
    expect(page.locator("#result tbody tr").first).to_be_visible()
    expect(page.locator("#result")).to_contain_text("long ones by source")
    expect_fit(page)
