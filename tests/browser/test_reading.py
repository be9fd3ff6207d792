"""Search, reading one document after another, and labels: by keyboard only, wide and narrow."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect
from served import served
from shown_store import make_store

pytestmark = pytest.mark.browser

SIZES = [(1280, 800), (390, 844)]
TOKEN = "correct horse battery"


def press(page: Page, key: str) -> None:
    """Press a key of a page, whose script must have run."""
    page.wait_for_load_state("load")
    page.keyboard.press(key)


@pytest.fixture(params=SIZES, ids=["wide", "narrow"])
def sized(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    width, height = request.param
    context = browser.new_context(viewport={"width": width, "height": height})
    context.set_default_timeout(20_000)
    yield context.new_page()
    context.close()


@pytest.fixture(scope="module")
def writable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    folder: Path = tmp_path_factory.mktemp("writable")
    make_store(folder)
    with served(str(folder / "store"), "--write", "--token", TOKEN) as address:
        yield address


def test_search_is_on_every_page_and_hits_are_read_in_order(sized: Page, address: str) -> None:
    page = sized
    page.goto(address + "/critics")
    press(page, "s")
    expect(page.locator("#find")).to_be_focused()
    page.keyboard.type('"some wor*"')
    page.keyboard.press("Enter")
    expect(page.locator("#results caption")).to_contain_text("by relevance")
    expect(page.locator("#results mark").first).to_have_text("some words")
    links = page.locator("#results tbody .wide > a")
    titles = [links.nth(number).inner_text() for number in range(3)]
    links.first.focus()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(titles[0])
    expect(page.locator(".text mark.found").first).to_be_visible()
    press(page, "j")
    expect(page.locator("h1")).to_have_text(titles[1])
    press(page, "j")
    expect(page.locator("h1")).to_have_text(titles[2])
    press(page, "k")
    expect(page.locator("h1")).to_have_text(titles[1])
    wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.evaluate(wide) == 0


def test_documents_are_labeled_by_keyboard(sized: Page, writable: str) -> None:
    page = sized
    is_narrow = (page.viewport_size or {})["width"] < 600
    page.goto(f"{writable}/?token={TOKEN}")
    page.goto(writable + "/documents?corpus=code&sort=id")
    link = page.locator("#results tbody .wide > a").nth(5 if is_narrow else 0)
    title = link.inner_text()
    link.focus()
    page.keyboard.press("Enter")
    expect(page.locator("h1")).to_have_text(title)
    page.evaluate("getSelection().selectAllChildren(document.querySelector('.text'))")
    press(page, "w")
    expect(page.locator("[data-spans]")).to_have_value("wrong: def f" + title[5:] + "():")
    press(page, "7")
    press(page, "e")
    expect(page.get_by_label("Score, 0 to 1")).to_have_value("0.7")
    page.get_by_label("Your name").focus()
    page.keyboard.type("Narrow" if is_narrow else "Wide")
    page.keyboard.press("Control+Enter")
    expect(page.locator("h1")).not_to_have_text(title)
    expect(page.locator("#label")).to_contain_text("as Narrow" if is_narrow else "as Wide")
    press(page, "k")
    expect(page.locator("h1")).to_have_text(title)
    expect(page.get_by_label("Score, 0 to 1")).to_have_value("0.7")
    expect(page.locator(".tabs")).to_contain_text("human")


def test_critique_is_read_first_on_a_phone(browser: Browser, address: str) -> None:
    tops = {}
    for width in (1280, 390):
        context = browser.new_context(viewport={"width": width, "height": 844})
        page = context.new_page()
        page.goto(address + "/documents?corpus=code")
        page.locator("#results tbody .wide > a").first.click()
        boxes = [page.locator(part).bounding_box() for part in (".judgement", ".words", ".side")]
        tops[width] = [box["y"] for box in boxes if box]
        page.get_by_role("link", name="Code", exact=True).click()
        expect(page.locator(".text .line").nth(1)).to_be_visible()
        wide = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
        assert page.evaluate(wide) == 0
        context.close()
    assert tops[390] == sorted(tops[390])
    assert tops[390][0] < 600
    assert tops[1280][0] == tops[1280][1]
