"""The check of layers reports each kind of violation, also in imports inside functions."""

from pathlib import Path

import pytest
from layers import LayerReport, check, circles

LAYERS = [("ixt_data",), ("ixt_data.low",), ("ixt_data.high",), ("ixt_data.cli",)]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    files = {
        "ixt_data/__init__.py": '"""Root."""\n',
        "ixt_data/low/__init__.py": '"""Low."""\n',
        "ixt_data/low/__init__.pyi": "from .bytes import read as read\n",
        "ixt_data/low/bytes.py": "def read(): ...\n",
        "ixt_data/high/__init__.py": '"""High."""\n',
        "ixt_data/high/store.py": "from ixt_data.low import read\n",
        "ixt_data/cli/__init__.py": '"""Cli."""\n',
        "ixt_data/cli/app.py": "from ixt_data.high import store\n",
    }
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    (tmp_path / "ixt_data/high/__init__.pyi").write_text("from . import store as store\n")
    return tmp_path


def report(tree: Path, module: str, text: str) -> LayerReport:
    (tree / module).write_text(text)
    return check(tree, LAYERS, ["ixt_data.cli"], max_lines=20)


def test_a_clean_tree_has_no_problems(tree: Path) -> None:
    assert check(tree, LAYERS, ["ixt_data.cli"]).problems() == []


@pytest.mark.parametrize(
    "text",
    [
        "from ixt_data.high import store\n",
        "def f():\n    from ixt_data.high import store\n",
        "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import ixt_data.high.store\n",
        "class A:\n    def f(self):\n        import ixt_data.high\n",
    ],
)
def test_a_back_edge_is_reported_wherever_it_is(tree: Path, text: str) -> None:
    found = report(tree, "ixt_data/low/bytes.py", text)
    assert len(found.back_edges) == 1
    assert "ixt_data.low.bytes" in found.back_edges[0]


def test_a_library_that_imports_a_command_line_is_reported(tree: Path) -> None:
    found = report(tree, "ixt_data/high/store.py", "def f():\n    import ixt_data.cli.app\n")
    assert len(found.cli_importers) == 1


def test_an_import_past_a_front_door_is_reported(tree: Path) -> None:
    found = report(tree, "ixt_data/high/store.py", "from ixt_data.low.bytes import read\n")
    assert found.past_front_doors == ["ixt_data.high.store:1 imports ixt_data.low.bytes"]


def test_an_unmapped_module_is_reported(tree: Path) -> None:
    (tree / "ixt_data/new").mkdir()
    (tree / "ixt_data/new/__init__.py").write_text("")
    assert report(tree, "ixt_data/new/thing.py", "").unmapped == [
        "ixt_data.new",
        "ixt_data.new.thing",
    ]


def test_a_long_module_is_reported(tree: Path) -> None:
    assert report(tree, "ixt_data/low/bytes.py", "x = 1\n" * 21).too_long == [
        "ixt_data.low.bytes (21)"
    ]


def test_a_circle_of_modules_is_reported(tree: Path) -> None:
    (tree / "ixt_data/low/other.py").write_text("from ixt_data.low.bytes import read\n")
    found = report(tree, "ixt_data/low/bytes.py", "def read():\n    import ixt_data.low.other\n")
    assert found.cycles == [["ixt_data.low.bytes", "ixt_data.low.other"]]


def test_circles_are_strongly_connected_components() -> None:
    edges = {("a", "b"), ("b", "c"), ("c", "a"), ("c", "d"), ("d", "e"), ("e", "d")}
    assert sorted(circles(edges)) == [["a", "b", "c"], ["d", "e"]]
    assert circles({("a", "b"), ("a", "c"), ("b", "c")}) == []
