"""The import rules of docs/design/001: one direction, and the command line answers at once."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {"ixt_data": "ixt_data", "ixt_train": "ixt_train", "ixt_tools": "tools"}


def modules(package: str) -> list[Path]:
    return sorted((ROOT / PACKAGES[package]).rglob("*.py"))


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Every (module, at module level) that a file imports; type checking only does not count."""
    yield from _imports(ast.parse(path.read_text()), top=True)


def _imports(node: ast.AST, top: bool) -> Iterator[tuple[str, bool]]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, top) for alias in child.names)
        elif isinstance(child, ast.ImportFrom):
            assert child.level == 0, f"relative import in line {child.lineno}"
            yield child.module or "", top
        elif isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield from _imports(other, top)
        else:
            inside = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from _imports(child, top and not inside)


def importers(package: str, library: str) -> dict[str, list[bool]]:
    """Which modules of a package import a library, each with "at module level" per import."""
    found: dict[str, list[bool]] = {}
    for path in modules(package):
        for name, top in imports(path):
            if name == library or name.startswith(library + "."):
                found.setdefault(path.relative_to(ROOT).as_posix(), []).append(top)
    return found


@pytest.mark.parametrize(
    "library", ["ixt_train", "ixt_tools", "composer", "transformers", "torch", "pandas"]
)
def test_data_knows_nobody_above(library: str) -> None:
    assert importers("ixt_data", library) == {}


@pytest.mark.parametrize("package", ["ixt_data", "ixt_train"])
def test_nothing_imports_the_tools(package: str) -> None:
    assert importers(package, "ixt_tools") == {}


def test_data_reaches_streaming_through_one_module_and_late() -> None:
    found = importers("ixt_data", "streaming")
    assert set(found) <= {"ixt_data/shards.py"}
    assert not any(top for tops in found.values() for top in tops)


@pytest.mark.parametrize("package", ["ixt_data", "ixt_train", "ixt_tools"])
def test_duckdb_lives_in_the_catalog(package: str) -> None:
    # Benchmarks compare with DuckDB used directly.
    found = {
        path for path in importers(package, "duckdb") if not path.startswith("tools/benchmarks/")
    }
    assert found <= {"ixt_data/catalog.py"}


@pytest.mark.parametrize("library", ["aiohttp", "httpx", "requests", "boto3", "prometheus_client"])
def test_each_network_client_lives_in_one_module(library: str) -> None:
    assert len(importers("ixt_data", library)) <= 1
    assert importers("ixt_train", library) == {}


def test_tools_reach_composer_through_the_trainer() -> None:
    assert importers("ixt_tools", "composer") == {}


def test_every_module_stays_a_room() -> None:
    long = {
        path.relative_to(ROOT).as_posix(): lines
        for package in PACKAGES
        for path in modules(package)
        if (lines := len(path.read_text().splitlines())) > 450
    }
    assert long == {}


@pytest.mark.parametrize(
    "statement",
    [
        "import ixt_data.cli",
        "import ixt_data.sql.catalog",
        "import ixt_train.cli.train_verbs, ixt_tools.cli",
    ],
)
def test_the_command_line_starts_light(statement: str) -> None:
    heavy = ["torch", "streaming", "transformers", "composer", "pandas", "altair", "moto"]
    code = f"import sys; {statement}; print(*(set(sys.modules) & set({heavy})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
