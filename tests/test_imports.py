"""The import rules: layers, front doors, one importer per library, a light start."""

import ast
import importlib
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from layers import MAX_LINES, LayerReport, check, exported_modules, module_files

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = {
    "ixt_data": "ixt_data",
    "ixt_train": "ixt_train",
    "ixt_inspector": "tools/ixt_inspector",
    "ixt_tools": "tools/ixt_tools",
}

# Floors of packages, lowest first. A package imports lower floors only, never its own floor.
LAYERS = [
    ("ixt_schemas",),
    ("ixt_data",),
    ("ixt_data.console", "ixt_data.storage", "ixt_data.mds"),
    ("ixt_data.log",),
    ("ixt_data.sql", "ixt_data.search"),
    ("ixt_data.store",),
    ("ixt_data.ingestion", "ixt_data.critics", "ixt_data.mix", "ixt_data.export"),
    ("ixt_data.critique_runs",),
    ("ixt_data.maintenance",),
    ("ixt_data.analysis",),
    ("ixt_data.cli",),
    ("ixt_train",),
    ("ixt_train.config",),
    ("ixt_train.conditioning", "ixt_train.runs"),
    ("ixt_train.stream",),
    ("ixt_train.inference",),
    ("ixt_train.evaluation",),
    ("ixt_train.trainer",),
    ("ixt_train.scaling",),
    ("ixt_train.cli",),
    ("ixt_inspector",),
    ("ixt_tools",),
    ("benchmarks", "experiments", "dev"),
]

# Only command lines import a command line, and the scripts that document or drive them.
CLI_CALLERS = (
    "ixt_data.cli",
    "ixt_train.cli",
    "ixt_inspector.cli",
    "ixt_tools.cli",
    "ixt_tools.curate.curate_verbs",
    "ixt_tools.curate.distill_verb",
    "ixt_tools.curate.ensemble_verb",
    "ixt_tools.demo.main",
    "experiments",
    "dev",
)


def modules(package: str) -> list[Path]:
    return sorted((ROOT / PACKAGES[package]).rglob("*.py"))


@pytest.fixture(scope="module")
def report() -> LayerReport:
    return check(ROOT, LAYERS, CLI_CALLERS)


def test_layers_hold(report: LayerReport) -> None:
    assert report.problems() == []
    assert report.modules > 270
    assert report.longest <= MAX_LINES


def imports(path: Path) -> Iterator[tuple[str, bool]]:
    """Yield every imported module and whether at module level; not under TYPE_CHECKING."""
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
    """Return the files of a package that import a library, each with "at module level"."""
    found: dict[str, list[bool]] = {}
    for path in modules(package):
        for name, top in imports(path):
            if name == library or name.startswith(library + "."):
                found.setdefault(path.relative_to(ROOT).as_posix(), []).append(top)
    return found


# What a package may never import, by any path.
FORBIDDEN = [
    ("ixt_data", "composer"),
    ("ixt_data", "transformers"),
    ("ixt_data", "torch"),
    ("ixt_data", "pandas"),
    ("ixt_data", "streaming"),
    ("ixt_train", "duckdb"),
    ("ixt_inspector", "composer"),
    ("ixt_tools", "composer"),
    ("ixt_tools", "duckdb"),
]


@pytest.mark.parametrize(("package", "library"), FORBIDDEN)
def test_library_is_not_imported(package: str, library: str) -> None:
    assert importers(package, library) == {}


# A library, and the one place that imports it.
HOMES = [
    ("ixt_data", "duckdb", "ixt_data/sql/"),
    ("ixt_data", "aiohttp", "ixt_data/critics/vllm/client.py"),
    ("ixt_data", "boto3", "ixt_data/storage/s3.py"),
    ("ixt_data", "prometheus_client", "ixt_data/critique_runs/prometheus.py"),
    ("ixt_data", "ray", "ixt_data/critique_runs/ray_cluster.py"),
    ("ixt_train", "composer", "ixt_train/trainer/"),
    ("ixt_train", "streaming", "ixt_train/stream/"),
]


@pytest.mark.parametrize(("package", "library", "home"), HOMES)
def test_library_has_one_importer(package: str, library: str, home: str) -> None:
    found = importers(package, library)
    assert found
    assert [path for path in found if not path.startswith(home)] == []


@pytest.mark.parametrize("library", ["httpx", "requests", "urllib3"])
def test_no_second_http_client(library: str) -> None:
    assert importers("ixt_data", library) == importers("ixt_train", library) == {}


# A statement, and what it must not load.
LIGHT = [
    ("import ixt_data", ["torch", "duckdb", "streaming", "pyarrow", "aiohttp", "typer"]),
    ("import ixt_train", ["torch", "duckdb", "streaming", "composer", "transformers"]),
    ("import ixt_data.cli.app", ["torch", "streaming", "pandas", "altair", "aiohttp"]),
    ("from ixt_data.sql import Catalog", ["torch", "streaming", "pandas"]),
    ("import ixt_train.cli.train_verbs", ["torch", "streaming", "composer", "transformers"]),
    ("import ixt_tools.cli, ixt_inspector.cli", ["torch", "starlette", "altair", "moto"]),
    ("from ixt_train.config import load_train_config", ["torch", "composer"]),
    ("from ixt_train.conditioning import sample_texts", ["torch", "transformers"]),
    ("from ixt_train.runs import read_metrics, read_train_run", ["torch", "composer"]),
]


@pytest.mark.parametrize(("statement", "heavy"), LIGHT)
def test_import_is_light(statement: str, heavy: list[str]) -> None:
    code = f"import sys; {statement}; print(*(set(sys.modules) & set({heavy})))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.split() == []


@pytest.mark.parametrize("package", sorted(PACKAGES))
def test_front_doors_resolve(package: str) -> None:
    files = module_files(ROOT)
    for name, path in files.items():
        if name.split(".")[0] != package or path.name != "__init__.py":
            continue
        module = importlib.import_module(name)
        assert module.__doc__, name
        if not path.with_suffix(".pyi").exists():
            continue
        for exported in module.__all__:
            assert getattr(module, exported) is not None, f"{name}.{exported}"
        # A submodule of that name would hide what the package exports.
        inner = {found.rpartition(".")[2] for found in files if found.startswith(f"{name}.")}
        offered = exported_modules(name, files)
        assert (set(module.__all__) & inner) - offered == set(), name


def test_no_module_defines_a_function_of_its_name() -> None:
    clashes = []
    for name, path in module_files(ROOT).items():
        for node in ast.parse(path.read_text()).body:
            is_definition = isinstance(node, ast.FunctionDef | ast.ClassDef)
            if is_definition and node.name == name.rpartition(".")[2]:
                clashes.append(name)
    assert clashes == []
