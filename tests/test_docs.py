"""The docs: pages, links and commands are real; what the code offers has its place in them."""

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import nbclient
import nbformat
import pytest
import yaml
from typer.main import get_command

import ixt_data
import ixt_train
from ixt_data.cli import build
from ixt_data.critics.vllm.failures import FailureStatus
from ixt_data.mix import Mix
from ixt_data.plugins import EXTENSION_POINTS, find_plugins
from ixt_data.records import OK
from ixt_data.store import Store
from ixt_train.config import TrainConfig

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"


def pages(nav: object) -> list[str]:
    """Return the files in a nav of mkdocs.yml."""
    if isinstance(nav, str):
        return [nav]
    parts = nav.values() if isinstance(nav, dict) else nav
    return [page for part in parts for page in pages(part)]


def test_every_page_is_in_the_site() -> None:
    nav = yaml.safe_load((ROOT / "mkdocs.yml").read_text())["nav"]
    there = {path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md")}
    assert set(pages(nav)) == there


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "CHANGELOG.md"])
def test_links_of_the_project_resolve(name: str) -> None:
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
    # A page fetches nothing from other hosts.
    assert re.findall(r'<(?:script|link|img)[^>]*(?:src|href)="https?://', html) == []


def commands(text: str) -> list[str]:
    """Return command lines of ixt in a page: in fences, where lines may continue, and inline."""
    fenced = "".join(re.findall(r"^```.*?\n(.*?)^```", text, re.MULTILINE | re.DOTALL))
    lines = fenced.replace("\\\n", " ").splitlines()
    inline = re.findall(r"`(ixt [^`]*)`", re.sub(r"^```.*?^```", "", text, flags=re.M | re.S))
    found = [re.split(r"[;|&#>]", line)[0] for line in lines + inline]
    return [line.strip().removeprefix("$ ") for line in found if re.match(r"\s*(\$ )?ixt ", line)]


PAGES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]


def test_the_notebook_runs_and_shows_html() -> None:
    notebook = nbformat.read(DOCS / "notebook.ipynb", 4)
    assert not any(cell.get("outputs") for cell in notebook.cells)
    nbclient.NotebookClient(notebook, timeout=120, kernel_name="python3").execute()
    pages = [
        output["data"]["text/html"]
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "text/html" in output.get("data", {})
    ]
    shown = "".join(pages)
    # Two progress bars, the store, two results, a document, a plan.
    assert len(pages) == 7
    for part in ("<progress", "snapshot 2", "rules: score", "digest"):
        assert part in shown


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


def rows(page: str, heading: str | None = None) -> dict[str, list[str]]:
    """Return the table rows of a page, or of one of its sections, by their first code span."""
    text = (DOCS / page).read_text()
    if heading is not None:
        text = re.split(r"^#+ ", text.split(f"\n## {heading}\n")[1], flags=re.MULTILINE)[0]
    found = {}
    for line in re.findall(r"^\|(.*)\|$", text, re.MULTILINE):
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line)]
        for name in re.findall(r"`([^`]+)`", cells[0]):
            found[name] = cells[1:]
    return found


def test_every_column_of_a_view_is_documented_with_its_type(tmp_path: Path) -> None:
    catalog = Store.init(tmp_path / "S").catalog()
    for view, columns in catalog.columns.items():
        documented = rows("views.md", view)
        if view == "critiques_all":
            columns = {"generation": columns["generation"]}
        assert {name: cells[0] for name, cells in documented.items()} == columns, view
    overview = rows("querying.md")
    assert set(catalog.columns) <= set(overview)


def test_every_status_is_documented() -> None:
    assert {OK, *FailureStatus} <= set(rows("critics.md"))


def test_every_metric_is_documented() -> None:
    source = (ROOT / "ixt_data/critique_runs/prometheus.py").read_text()
    names = set(re.findall(r'"(ixt_[a-z_]+)"', source))
    assert names
    documented = {re.sub("_total$|_info$", "", name) for name in rows("critics.md")}
    assert {re.sub("_total$|_info$", "", name) for name in names} <= documented


def test_every_extension_point_is_documented() -> None:
    assert set(rows("plugins.md")) == set(EXTENSION_POINTS)


def test_every_format_is_documented_with_its_test() -> None:
    text = (DOCS / "formats.md").read_text()
    rows = dict(re.findall(r"^\| `(\w+)` \|.* `([\w/]+\.py)` \|$", text, re.M))
    formats = find_plugins("ixt.readers") | find_plugins("ixt.exporters")
    assert set(rows) == {name for name, plugin in formats.items() if "ixt " in plugin.package}
    for test in re.findall(r"`([\w/]+/test_\w+\.py)` \|$", text, re.M):
        assert any((ROOT / "tests" / part / test).exists() for part in ("", "ixt_data"))


def test_every_public_name_is_in_the_api_reference() -> None:
    page = (DOCS / "api.md").read_text()
    shown = {line.split(".")[-1] for line in re.findall(r"^::: (\S+)", page, re.MULTILINE)}
    names = {*ixt_data.__all__, *ixt_train.__all__} - {"__version__", "IxtError", "TrainConfig"}
    assert names <= shown
    assert "ixt_data.errors" in page


def test_every_config_key_and_verb_is_in_the_references() -> None:
    keys = rows("config.md")
    for model in (Mix, TrainConfig):
        assert set(model.model_fields) <= {key.split(".")[0] for key in keys}
    cli = (DOCS / "cli.md").read_text()
    for command in get_command(build()).commands.values():  # type: ignore[attr-defined]
        assert f"### ixt {command.name}" in cli
