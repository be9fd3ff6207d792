"""A package with one plugin per extension point, installed as a user installs it."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[2] / "support/example_plugin"


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder into which pip has installed the example package."""
    folder = tmp_path_factory.mktemp("plugin")
    source = folder / "source"
    # A copy: building writes into the source folder.
    subprocess.run(["cp", "-r", str(PACKAGE), str(source)], check=True)
    target = folder / "site"
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"]
    command += ["--no-build-isolation", "--target", str(target), str(source)]
    subprocess.run(command, check=True, capture_output=True)
    return target


def ixt(
    site: Path, *words: str, cwd: Path | None = None, code: int = 0
) -> subprocess.CompletedProcess[str]:
    paths = [str(site), os.environ.get("PYTHONPATH", "")]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    command = [sys.executable, "-m", "ixt_data", *words]
    done = subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    return done


@pytest.fixture(scope="module")
def store(installed: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("work")
    (folder / "a.jsonl").write_text('{"text": "one"}\n{"text": "two words"}\n')
    ixt(installed, "init", "--store", "S", cwd=folder)
    ixt(installed, "ingest", "--store", "S", "--corpus", "web", "a.jsonl", cwd=folder)
    return folder


def test_a_verb_of_a_plugin_is_in_its_group_of_the_help(installed: Path) -> None:
    text = ixt(installed, "--help").stdout
    assert "Print the number of documents." in text.split("Ask")[1].split("Train")[0]


def test_a_verb_of_a_plugin_runs(installed: Path, store: Path) -> None:
    assert ixt(installed, "count", "--store", "S", cwd=store).stdout.split() == ["2"]


def test_a_critic_of_a_plugin_is_known_by_name(installed: Path, store: Path) -> None:
    command = ["critique", "--store", "S", "--corpus", "web", "--critic", "length", "-o", "json"]
    assert json.loads(ixt(installed, *command, cwd=store).stdout)["ok"] == 2
    query = ["query", "--store", "S", "SELECT critique FROM critiques ORDER BY 1", "-o", "csv"]
    lines = ixt(installed, *query, cwd=store).stdout.splitlines()
    assert lines == ["critique", "3 characters.", "9 characters."]


def test_an_exporter_of_a_plugin_reads_its_options(installed: Path, store: Path) -> None:
    command = ["export", "--store", "S", "ids.txt", "--format", "ids"]
    ixt(installed, *command, "-O", "prefix=id-", cwd=store)
    lines = (store / "ids.txt").read_text().splitlines()
    assert len(lines) == 2
    assert all(line.startswith("id-") for line in lines)
    wrong = ixt(installed, *command, "-O", "prefx=x", cwd=store, code=2)
    assert "prefix" in wrong.stderr


def test_a_broken_plugin_prints_one_line_and_other_verbs_run(installed: Path, store: Path) -> None:
    done = ixt(installed, "count", "--store", "S", cwd=store)
    (line,) = done.stderr.splitlines()
    assert "plugin 'broken' (ixt.verbs) of ixt-example 1.0" in line
    assert "ixt plugins" in line


def test_plugins_lists_points_packages_and_errors(installed: Path) -> None:
    done = ixt(installed, "plugins", "-o", "json", code=1)
    found = {(p["point"], p["name"]): p for p in json.loads(done.stdout)["plugins"]}
    assert found["ixt.critics", "length"]["package"] == "ixt-example 1.0"
    assert found["ixt.critics", "rules"]["package"].startswith("ixt ")
    assert "ModuleNotFoundError" in found["ixt.verbs", "broken"]["error"]
    assert {point for point, _ in found} == {p["point"] for p in json.loads(done.stdout)["points"]}


def test_plugins_that_fail_or_conflict_leave_the_others_usable(tmp_path: Path) -> None:
    entries = {
        "one": "[ixt.verbs]\nends = broken_verbs:end\nraises = broken_verbs:fail\n"
        "[ixt.critics]\nrules = broken_verbs:Critic\n"
        "[ixt.exporters]\nnumber = broken_verbs:NUMBER\n",
        "two": "[ixt.verbs]\nraises = broken_verbs:other\n",
    }
    for name, text in entries.items():
        folder = tmp_path / f"{name}-1.0.dist-info"
        folder.mkdir()
        (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
        (folder / "entry_points.txt").write_text(text)
    (tmp_path / "broken_verbs.py").write_text(
        "import sys\nNUMBER = 3\nCritic = int\ndef end(app):\n    sys.exit(5)\n"
    )
    done = ixt(tmp_path, "plugins", "-o", "json", code=1)
    assert "plugin 'ends' (ixt.verbs) of one 1.0 failed: SystemExit(5)" in done.stderr
    found = {(p["point"], p["name"]): p for p in json.loads(done.stdout)["plugins"]}
    assert "1.0 add 'raises'; uninstall one" in found["ixt.verbs", "raises"]["error"]
    assert "both" in found["ixt.critics", "rules"]["error"]
    assert found["ixt.critics", "vllm"]["error"] == ""
    ixt(tmp_path, "init", "--store", "S", cwd=tmp_path)
    wrong = ixt(tmp_path, "export", "--store", "S", "x", "--format", "number", cwd=tmp_path, code=1)
    assert "is not an ixt_data.export.Exporter" in wrong.stderr


def test_a_reader_of_a_plugin_reads_its_suffix(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "a.pipes").write_text("one? | two | | why? how?")
    ixt(installed, "init", "--store", "S", cwd=tmp_path)
    command = ["ingest", "--store", "S", "--corpus", "c", "a.pipes", "-o", "json"]
    report = json.loads(ixt(installed, *command, cwd=tmp_path).stdout)
    assert (report["documents"], report["quarantined"]) == (3, 1)
    ixt(installed, "enrich", "--store", "S", "--with", "questions", cwd=tmp_path)
    sql = "SELECT n_questions FROM documents ORDER BY 1"
    query = ixt(installed, "query", "--store", "S", sql, "-o", "csv", cwd=tmp_path)
    assert query.stdout.split() == ["n_questions", "0", "1", "2"]
