"""A draft of a mix, by keyboard only: wide and narrow, light and dark."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from accessibility import expect_fit, serious_problems
from playwright.sync_api import Browser, Page, expect
from served import served
from shown_store import make_store

from ixt_data.mix import load_mix, plan_mix
from ixt_data.store import save_selection

pytestmark = pytest.mark.browser

LOOKS = [(1280, 800, "light"), (390, 844, "dark")]


@pytest.fixture(scope="module")
def selected(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    store = make_store(tmp_path_factory.mktemp("drafts"))
    save_selection(store, "good", "score >= 0.7", critic="quality")
    save_selection(store, "rest", "score < 0.7", critic="quality")
    with served(store.root) as address:
        yield address


@pytest.fixture(params=LOOKS, ids=["wide-light", "narrow-dark"])
def page(request: pytest.FixtureRequest, browser: Browser) -> Iterator[Page]:
    width, height, scheme = request.param
    context = browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme)
    context.set_default_timeout(20_000)
    yield context.new_page()
    context.close()


def test_draft_is_planned_while_sliders_move(page: Page, selected: str, tmp_path: Path) -> None:
    page.goto(selected + "/draft")
    page.wait_for_load_state("load")
    page.keyboard.press("/")
    number = page.get_by_label("weight of good", exact=True)
    expect(number).to_be_focused()
    page.keyboard.press("Shift+Tab")
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    expect(number).to_have_value("0.03")
    expect(page.locator("#plan")).to_contain_text("Digest")
    expect(page.locator("#status")).to_contain_text("samples, about")
    page.get_by_label("weight of rest", exact=True).focus()
    page.keyboard.type("0.01")
    expect(page.locator("#plan tbody").first).to_contain_text("75.2%")
    page.get_by_label("Conditioned on").focus()
    page.keyboard.type("both")
    expect(page.locator(".control", has_text="<|feedback|>").first).to_be_visible()
    page.wait_for_load_state("networkidle")
    expect(page.locator(".chart svg")).to_have_count(1)
    assert "weight.good=0.03" in page.url
    expect_fit(page)
    shown = page.locator(".facts").inner_text()
    assert serious_problems(page) == []
    page.goto(page.url)
    assert page.locator(".facts").inner_text() == shown
    with page.expect_download() as loading:
        page.get_by_role("link", name="Download draft.yaml").press("Enter")
    loading.value.save_as(tmp_path / "draft.yaml")
    assert plan_mix(load_mix(tmp_path / "draft.yaml")).digest in shown


def test_draft_needs_no_scripts(browser: Browser, selected: str) -> None:
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto(selected + "/draft")
    expect(page.locator("input[type=range]").first).to_be_hidden()
    page.get_by_label("weight of good", exact=True).fill("2")
    page.get_by_role("button", name="Plan").click()
    expect(page.locator(".facts")).to_contain_text("Digest")
    page.get_by_text("Scores as a table").click()
    expect(page.locator("details table")).to_be_visible()
    context.close()
