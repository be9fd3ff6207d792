"""A curator's work in an installation without extras: `pip install ixt`, without torch."""

import json
import os
import subprocess
import urllib.request
from pathlib import Path

import pytest
import yaml

pytestmark = pytest.mark.light

DOCUMENTS = [f"Document {i} says something about the number {i * i}. " * 5 for i in range(40)]
MIX = {
    "store": "S",
    "critic": "rules",
    "condition": {"kind": "critique"},
    "selections": [
        {"name": "good", "use": "good", "weight": 2},
        {"name": "all", "where": "TRUE", "weight": 1},
    ],
}


@pytest.fixture(scope="module")
def home() -> Path:
    return Path(os.environ["IXT_LIGHT_HOME"]) / "bin"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("light")
    lines = "".join(json.dumps({"text": text}) + "\n" for text in DOCUMENTS)
    (folder / "mine.jsonl").write_text(lines)
    (folder / "mix.yaml").write_text(yaml.safe_dump(MIX))
    return folder


def run(home: Path, folder: Path, command: str, code: int = 0) -> str:
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "IXT_STORE": "S"}
    words = [home / "ixt", *command.split()]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True)
    assert done.returncode == code, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def test_installation_has_neither_torch_nor_what_needs_it(home: Path) -> None:
    listed = subprocess.run(
        [home / "python", "-m", "pip", "list", "--format", "json"], capture_output=True, check=True
    )
    names = {one["name"].lower() for one in json.loads(listed.stdout)}
    assert "duckdb" in names
    assert not names & {"torch", "mosaicml", "mosaicml-streaming", "transformers", "scipy"}


def test_curator_works_from_documents_to_an_export(home: Path, folder: Path) -> None:
    run(home, folder, "init")
    run(home, folder, "ingest --corpus mine mine.jsonl")
    run(home, folder, "critique --corpus mine --critic rules")
    found = run(home, folder, "query --output csv TABLE/**/critiques")
    assert found.count("rules") >= len(DOCUMENTS)
    run(home, folder, "select save good score>=0 --critic rules")
    assert json.loads(run(home, folder, "mix plan mix.yaml --output json"))["digest"]
    for name in ("good.jsonl", "good.parquet"):
        run(home, folder, f"export {name} --selection good")
    assert len((folder / "good.jsonl").read_text().splitlines()) == len(DOCUMENTS)
    for command in ("verify", "compact", "gc", "log", "diff 1", "doctor", "report", "tag v1"):
        run(home, folder, command)


def test_store_is_served(home: Path, folder: Path) -> None:
    words = [home / "ixt", "serve", "--store", "S", "--port", "0", "--output", "json"]
    with subprocess.Popen(words, cwd=folder, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        address = json.loads(server.stdout.readline())["url"]
        with urllib.request.urlopen(address) as page:
            assert b"mine" in page.read()
        server.terminate()


@pytest.mark.parametrize(
    ("command", "extra"),
    [
        ("train run.yaml", "train"),
        ("tokenize --tokenizer .", "train"),
        ("dedupe", "curate"),
        ("distill --corpus mine --critic rules", "curate"),
        ("ingest --corpus mine s3://bucket/a.jsonl", "remote"),
    ],
)
def test_verb_of_an_extra_names_it(home: Path, folder: Path, command: str, extra: str) -> None:
    run_config = {"mix": "mix.yaml", "run_folder": "runs/a", "tokenizer": {"train": {}}}
    run_config |= {"model": {"config": {"model_type": "llama"}}, "duration": "1ba"}
    (folder / "run.yaml").write_text(yaml.safe_dump(run_config))
    said = run(home, folder, command, code=1)
    assert f"pip install 'ixt[{extra}]'" in said
    assert "Traceback" not in said
