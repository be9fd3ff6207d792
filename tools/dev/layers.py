"""Check the layers: no import against them, no circle, no import past a front door.

Run `python tools/dev/layers.py [--output json] [ROOT]`. The layers are data in
tests/test_imports.py. Imports inside functions and under TYPE_CHECKING count like any other.
"""

import argparse
import ast
import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import networkx

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = {
    "ixt_data": "ixt_data",
    "ixt_train": "ixt_train",
    "ixt_inspector": "tools/ixt_inspector",
    "ixt_tools": "tools/ixt_tools",
    "ixt_schemas": "schemas",
    "benchmarks": "tools/benchmarks",
    "experiments": "tools/experiments",
    "dev": "tools/dev",
}
"""Top-level package: its folder. The last three are folders of scripts outside the wheel."""
SCRIPTS = ("benchmarks", "experiments", "dev")
MAX_LINES = 400


@dataclass(frozen=True)
class Import:
    """One name that one module imports from another one of ours.

    Attributes:
        source: the importing module.
        target: the module that the statement names.
        name: the imported name; empty for `import target`.
        line: line in the file of `source`.
    """

    source: str
    target: str
    name: str
    line: int


@dataclass
class LayerReport:
    """Everything that breaks a rule; empty lists where all is well."""

    modules: int = 0
    edges: int = 0
    back_edges: list[str] = field(default_factory=list)
    cycles: list[list[str]] = field(default_factory=list)
    cli_importers: list[str] = field(default_factory=list)
    past_front_doors: list[str] = field(default_factory=list)
    unmapped: list[str] = field(default_factory=list)
    too_long: list[str] = field(default_factory=list)
    longest: int = 0

    def problems(self) -> list[str]:
        """Return one line per broken rule."""
        return [
            *(f"back edge: {edge}" for edge in self.back_edges),
            *(f"cycle: {' -> '.join(cycle)}" for cycle in self.cycles),
            *(f"a library imports a command line: {edge}" for edge in self.cli_importers),
            *(f"past a front door: {edge}" for edge in self.past_front_doors),
            *(f"in no layer of tests/test_imports.py: {module}" for module in self.unmapped),
            *(f"over {MAX_LINES} lines: {module}" for module in self.too_long),
        ]


def module_files(root: Path) -> dict[str, Path]:
    """Return the file of every module; scripts are named `benchmarks.store` and the like."""
    files: dict[str, Path] = {}
    for package, folder in PACKAGES.items():
        for path in sorted((root / folder).rglob("*.py")):
            parts = (package, *path.relative_to(root / folder).with_suffix("").parts)
            files[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return files


def imports_of(module: str, path: Path, files: Mapping[str, Path]) -> Iterator[Import]:
    """Yield all imports of our own modules in a file, wherever they stand in it."""
    top = module.split(".")[0]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            for alias in node.names:
                target = _resolved(alias.name, top, files)
                if target is not None and target != module:
                    yield Import(module, target, "", node.lineno)
        elif isinstance(node, ast.ImportFrom):
            if node.level:
                raise ValueError(f"{path}:{node.lineno}: relative import; write it in full")
            base = _resolved(node.module or "", top, files)
            if base is None:
                continue
            for alias in node.names:
                inner = f"{base}.{alias.name}"
                yield Import(module, inner if inner in files else base, alias.name, node.lineno)


def _resolved(name: str, top: str, files: Mapping[str, Path]) -> str | None:
    """Return our module of a dotted name; a script imports its siblings by their bare names."""
    if name in files:
        return name
    if name.split(".")[0] in PACKAGES:
        while name and name not in files:
            name = name.rpartition(".")[0]
        return name or None
    for folder in (top, *SCRIPTS) if top in SCRIPTS else ():
        if f"{folder}.{name}" in files:
            return f"{folder}.{name}"
    return None


def package_of(module: str, files: Mapping[str, Path]) -> str:
    """Return the package of a module in the layers: `ixt_data.log`, `ixt_tools`, `ixt_data`."""
    parts = module.split(".")
    two = ".".join(parts[:2])
    if parts[0] in ("ixt_data", "ixt_train") and len(parts) > 1:
        return two if files[two].name == "__init__.py" else parts[0]
    return parts[0]


def front_door(module: str, files: Mapping[str, Path]) -> str | None:
    """Return the package through which others import a module; None for a root module."""
    parts = module.split(".")
    two = ".".join(parts[:2])
    if parts[0] in SCRIPTS or len(parts) < 2 or files[two].name != "__init__.py":
        return None
    return two


def exported_modules(package: str, files: Mapping[str, Path]) -> set[str]:
    """Return the submodules that a front door offers by name (`from . import x`)."""
    stub = files[package].with_suffix(".pyi")
    if not stub.exists():
        return set()
    nodes = ast.parse(stub.read_text()).body
    return {
        alias.name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.module is None
        for alias in node.names
    }


def check(
    root: Path,
    layers: Sequence[Sequence[str]],
    cli_callers: Sequence[str],
    max_lines: int = MAX_LINES,
) -> LayerReport:
    """Check a checkout.

    Args:
        root: the checkout.
        layers: floors of packages, lowest first; packages of one floor do not import each other.
        cli_callers: packages and modules that may import a command line.
        max_lines: the most lines of a module.
    """
    files = module_files(root)
    floors = {package: i for i, floor in enumerate(layers) for package in floor}
    report = LayerReport(modules=len(files))
    edges: set[tuple[str, str]] = set()
    for module, path in files.items():
        lines = len(path.read_text().splitlines())
        report.longest = max(report.longest, lines)
        if lines > max_lines:
            report.too_long.append(f"{module} ({lines})")
        own = package_of(module, files)
        if own not in floors:
            report.unmapped.append(module)
            continue
        for found in imports_of(module, path, files):
            other = package_of(found.target, files)
            edges.add((module, found.target))
            where = f"{module}:{found.line} imports {found.target}"
            is_stub = path.name == "__main__.py"
            if other != own and floors.get(other, len(layers)) >= floors[own] and not is_stub:
                report.back_edges.append(where)
            may_call = is_stub or any(_is_in(module, caller) for caller in cli_callers)
            if _is_cli(found.target) and other != own and not may_call:
                report.cli_importers.append(where)
            door = front_door(found.target, files)
            if door is not None and door != front_door(module, files) and found.target != door:
                inside = found.target.removeprefix(f"{door}.")
                if inside not in exported_modules(door, files):
                    report.past_front_doors.append(where)
    report.edges = len(edges)
    report.cycles = circles(edges)
    return report


def _is_cli(module: str) -> bool:
    return "cli" in module.split(".")[1:3]


def _is_in(module: str, package: str) -> bool:
    return module == package or module.startswith(f"{package}.")


def circles(edges: set[tuple[str, str]]) -> list[list[str]]:
    """Return the circles of modules: strongly connected components of two or more."""
    components = networkx.strongly_connected_components(networkx.DiGraph(edges))
    return sorted(sorted(component) for component in components if len(component) > 1)


def declared(root: Path) -> tuple[list[tuple[str, ...]], tuple[str, ...]]:
    """Read LAYERS and CLI_CALLERS from tests/test_imports.py without importing it."""
    values: dict[str, object] = {}
    for node in ast.parse((root / "tests/test_imports.py").read_text()).body:
        if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            if name in ("LAYERS", "CLI_CALLERS"):
                values[name] = ast.literal_eval(node.value)
    return values["LAYERS"], values["CLI_CALLERS"]  # type: ignore[return-value]


def main() -> None:
    """Print the report; exit 1 if a rule is broken."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("root", nargs="?", type=Path, default=ROOT)
    parser.add_argument("--output", choices=["text", "json"], default="text")
    arguments = parser.parse_args()
    report = check(arguments.root, *declared(arguments.root))
    if arguments.output == "json":
        record = asdict(report)
        for name in ("back_edges", "cycles", "cli_importers", "past_front_doors", "unmapped"):
            record[f"{name}_list"] = record[name]
            record[name] = len(record[name])
        print(json.dumps(record))
    else:
        for problem in report.problems():
            print(problem)
        print(
            f"{report.modules} modules, {report.edges} imports, "
            f"{len(report.problems())} problems; the longest module has {report.longest} lines"
        )
    sys.exit(1 if report.problems() else 0)


if __name__ == "__main__":
    main()
