"""The docs: every page is in the site, links and commands are real, the site builds."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.main import get_command

from ixt_data.cli.app import build

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def pages(nav: object) -> list[str]:
    """The files in a nav of mkdocs.yml."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in pages(part)]


def test_every_page_is_in_the_site() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert set(pages(nav)) == there


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_the_project_lead_somewhere(name: str) -> None:
    links = re.findall(r"\]\(([^)#]+)[^)]*\)", (ROOT / name).read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (ROOT / link).exists()] == []


@pytest.mark.slow
def test_the_site_builds_without_a_warning(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(tmp_path)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    html = (tmp_path / "index.html").read_text()
    # Nothing is fetched from elsewhere when a page is opened.
    assert re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="https?://', html) == []


def commands(text: str) -> list[str]:
    """Command lines of ixt in a page: in fences, where a line may go on, and in running text."""
    fenced = "".join(re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    lines = fenced.replace("\\\n", " ").splitlines()
    inline = re.findall(r"`(ixt [^`]*)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    found = [re.split(r"[;|&#>]", line)[0] for line in lines + inline]
    return [line.strip().removeprefix("$ ") for line in found if re.match(r"\s*(\$ )?ixt ", line)]


PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_every_command_in_the_docs_exists(page: Path) -> None:
    for line in commands(page.read_text()):
        command: Any = get_command(build())
        _, *words = line.split()
        while hasattr(command, "commands") and words:
            name = words.pop(0)
            if not re.fullmatch("[a-z][a-z-]*", name):
                break
            assert name in command.commands, f"{page.name}: {line}"
            command = command.commands[name]
        known = {option for one in command.params for option in (*one.opts, *one.secondary_opts)}
        for word in words:
            if option := re.match(r"--?[a-z][a-z-]*", word):
                assert option[0] in {*known, "--help"}, f"{page.name}: {line}"
