"""A real Chromium in front of a real `ixt serve`."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from chromium import find
from playwright.sync_api import (
    Browser,
    BrowserContext,
    ConsoleMessage,
    Dialog,
    Page,
    expect,
    sync_playwright,
)
from shown_store import make_mixes, make_runs, make_store

expect.set_options(timeout=20_000)


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    path = find()
    if path is None:
        pytest.fail("no Chromium is installed: run `make test-browser`, or set IXT_CHROMIUM")
    # A sandbox within a container of root's is not to be had, and the pages are our own.
    options = ["--no-sandbox"] if os.geteuid() == 0 else []
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=path, args=options)
        yield launched
        launched.close()


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("shown")
    make_store(made)
    make_mixes(made / "mixes")
    make_runs(made / "runs")
    return made


@pytest.fixture(scope="session")
def address(folder: Path) -> Iterator[str]:
    command = [sys.executable, "-m", "ixt_data", "serve", "--port", "0", "--output", "json"]
    for name in ("store", "mixes", "runs"):
        command += [f"--{name}", str(folder / name)]
    with subprocess.Popen([*command, "--sql-seconds", "6"], stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline())["url"].rstrip("/")
        server.terminate()
        assert server.wait(20) == 0


@dataclass
class Seen:
    """What a page did that it must not: messages of the console, dialogs, requests elsewhere."""

    address: str
    messages: list[str] = field(default_factory=list)
    expected: int = 0

    def watch(self, page: Page) -> None:
        page.on("console", self._console)
        page.on("pageerror", lambda error: self.messages.append(f"error: {error}"))
        page.on("dialog", self._dialog)
        page.on("request", lambda request: self._request(request.url))

    def _console(self, message: ConsoleMessage) -> None:
        self.messages.append(f"{message.type}: {message.text}")

    def _dialog(self, dialog: Dialog) -> None:
        self.messages.append(f"dialog: {dialog.message}")
        dialog.dismiss()

    def _request(self, url: str) -> None:
        if not url.startswith((self.address, "data:")):
            self.messages.append(f"request: {url}")


@pytest.fixture
def context(browser: Browser) -> Iterator[BrowserContext]:
    opened = browser.new_context(viewport={"width": 1280, "height": 800})
    opened.set_default_timeout(20_000)
    yield opened
    opened.close()


@pytest.fixture
def page(context: BrowserContext, address: str) -> Iterator[Page]:
    """A page on which nothing may go wrong: no violation, no dialog, no request elsewhere."""
    opened, seen = context.new_page(), Seen(address)
    seen.watch(opened)
    yield opened
    assert seen.messages == []
