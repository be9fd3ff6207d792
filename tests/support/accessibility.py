"""Problems of accessibility that axe-core finds in a page."""

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page


def serious_problems(page: Page) -> list[tuple[str, str, list[str]]]:
    """Return the serious problems: name, help, and the first elements."""
    return [
        (problem["id"], problem["help"], [node["html"][:200] for node in problem["nodes"][:3]])
        for problem in Axe().run(page).response["violations"]
        if problem["impact"] in ("serious", "critical")
    ]


def expect_fit(page: Page) -> None:
    """Fail if the page is wider than its window; a swap of a part may be in progress."""
    width = "document.documentElement.scrollWidth - document.documentElement.clientWidth"
    page.wait_for_function(f"({width}) === 0")
