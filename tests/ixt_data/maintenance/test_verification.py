from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from small_stores import Length, add_documents
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.critique_runs.annotation import annotate
from ixt_data.critique_runs.units import publish
from ixt_data.log import commit_log
from ixt_data.log.snapshot import CriticInfo
from ixt_data.maintenance.compaction import compact
from ixt_data.maintenance.garbage_collection import collect_garbage
from ixt_data.maintenance.verification import repair, verify
from ixt_data.records import Critique
from ixt_data.store.store import Store


@pytest.fixture
def full(store: Store) -> Store:
    add_documents(store, [f"text {i}" for i in range(25)])
    annotate(store, "web", Length())
    assert verify(store).to_json()["ok"]
    assert verify(store, fast=True).problems == []
    return store


def flip(path: Path, position: int) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= 1
    path.write_bytes(data)


def shard(store: Store, family: str) -> Path:
    return next(Path(store.root, "shards", family).rglob("shard.00001.mds.zstd"))


DAMAGE: dict[str, tuple[Callable[[Store], Path], Callable[[Path], None], str]] = {
    "a bit in a shard": (lambda s: shard(s, "text"), lambda p: flip(p, 60), "xxh64"),
    "a bit in a Parquet file": (
        lambda s: next(Path(s.root, "meta/critiques").rglob("*.parquet")),
        lambda p: flip(p, 60),
        "sha256",
    ),
    "a bit in a log entry": (
        lambda s: Path(s.root, commit_log.key(2)),
        lambda p: flip(p, 60),
        "checksum",
    ),
    "a deleted shard": (lambda s: shard(s, "critique"), Path.unlink, "missing"),
    "a truncated index": (
        lambda s: next(Path(s.root, "shards/text").rglob("index.json")),
        lambda p: p.write_bytes(p.read_bytes()[:-40]),
        "truncated",
    ),
    "a deleted log entry": (
        lambda s: Path(s.root, commit_log.key(2)),
        Path.unlink,
        "newer entries exist",
    ),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_verify_names_every_damage_by_path(full: Store, name: str) -> None:
    place, damage, what = DAMAGE[name]
    path = place(full)
    damage(path)
    problems = verify(Store.open(full.root)).problems
    named = [p for p in problems if p.path == path.relative_to(full.root).as_posix()]
    assert named, problems
    assert what in named[0].problem
    assert named[0].remedy


def test_verify_reports_the_same_with_any_number_of_workers(full: Store) -> None:
    shard(full, "critique").unlink()
    flip(shard(full, "text"), 60)
    one, many = (verify(full, workers=n).to_json() for n in (1, 4))
    assert one == many
    assert len(one["problems"]) == 2


def one_row_short(store: Store) -> str:
    """Publish critiques of a text shard without the last one; return the shard's path."""
    text = store.snapshot().text_shards()[0]
    info = CriticInfo("short-0", "short", {})
    ids = store.shard(text).column("doc_id")
    publish(store, text, info, [Critique(doc_id) for doc_id in ids[:-1]])
    short = store.snapshot().aligned(text.path, "critique/short-0")
    assert short is not None
    return short.path


@pytest.mark.parametrize("output", ["json", "text"])
@pytest.mark.parametrize("name", [*DAMAGE, "a critique shard one row short"])
def test_verify_verb_names_every_damage_by_path(
    full: Store, name: str, output: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if name in DAMAGE:
        place, damage, what = DAMAGE[name]
        file = place(full)
        damage(file)
        path = file.relative_to(full.root).as_posix()
    else:
        path, what = one_row_short(full), "9 samples"
    monkeypatch.setenv("COLUMNS", "400")
    done = CliRunner().invoke(build(), ["verify", "--store", full.root, "--output", output])
    assert done.exit_code == 1
    if output == "text":
        assert any(path in line and what in line for line in done.stdout.splitlines())
        return
    found = orjson.loads(done.stdout)
    assert not found["ok"]
    assert [p["problem"] for p in found["problems"] if p["path"] == path and what in p["problem"]]


def ixt(*words: str) -> Any:
    done = CliRunner().invoke(build(), [*words, "--output", "json"], catch_exceptions=False)
    return orjson.loads(done.stdout)


def test_verify_checks_files_of_tagged_versions(full: Store) -> None:
    full.tag("before")
    old = next(path for path in full.snapshot().rows if path.startswith("meta/critiques"))
    compact(full, min_files=2)
    full.untag("before")
    collect_garbage(full, keep=timedelta(0), keep_versions=1)
    assert verify(full).to_json()["ok"]
    assert verify(full).orphans == []
    # The same, with the tag.
    add_documents(full, [f"more {i}" for i in range(25)])
    annotate(full, "web", Length())
    full.tag("again")
    old = next(path for path in full.snapshot().rows if path.startswith("meta/critiques"))
    compact(full, min_files=2, full=True)
    collect_garbage(full, keep=timedelta(0), keep_versions=1)
    assert old not in full.snapshot().rows
    assert verify(full).orphans == []
    flip(Path(full.root, old), 60)
    (problem,) = verify(full).problems
    assert (problem.path, "only older snapshots" in problem.problem) == (old, True)
    assert verify(full, at=full.snapshot().version).problems == []
    (problem,) = verify(full, at="again").problems
    assert ixt("verify", "--store", full.root, "--at", "again")["problems"][0]["path"] == old


def test_verify_names_entries_missing_at_the_end(store: Store) -> None:
    for i in range(50):
        add_documents(store, [f"{i}"])
    Path(store.root, commit_log.key(50)).unlink()
    found = [
        p.problem for p in verify(Store.open(store.root)).problems if p.path == commit_log.key(50)
    ]
    assert found[0] == "missing, but _log/_last refers to it"
    assert verify(Store.open(store.root)).orphans == []


def test_verify_names_a_truncated_pin(full: Store) -> None:
    full.tag("one", at=1)
    Path(full.root, "_pins/one.json").write_text("{}")
    assert [p.path for p in verify(full).problems] == ["_pins/one.json"]
    Path(full.root, "_pins/one.json").write_text('{"version": 99, "expires": null}')
    assert [p.problem for p in verify(full).problems] == ["pins version 99, which does not exist"]


def test_verify_names_only_the_short_critique_shard(full: Store) -> None:
    path = one_row_short(full)
    for fast in (True, False):
        assert {problem.path for problem in verify(full, fast=fast).problems} == {path}


def test_repair_rebuilds_the_index_and_requeues_the_unit(full: Store) -> None:
    index = next(Path(full.root, "shards/text").rglob("index.json"))
    before = orjson.loads(index.read_bytes())
    index.write_bytes(b"{")
    lost = shard(full, "critique")
    lost.unlink()
    report = repair(full, verify(full))
    assert len(report.repaired) == len(report.problems)
    assert orjson.loads(index.read_bytes()) == before
    assert annotate(full, "web", Length()).documents == 10
    assert verify(full).problems == []
    rows = "SELECT count(*) AS n, count(DISTINCT doc_id) AS d FROM critiques"
    assert full.sql(rows).arrow().to_pylist() == [{"n": 25, "d": 25}]


def test_repair_leaves_what_it_cannot_rebuild(full: Store) -> None:
    path = shard(full, "text")
    flip(path, 60)
    damaged = path.read_bytes()
    report = repair(full, verify(full))
    assert report.repaired == []
    assert path.read_bytes() == damaged
    assert report.problems[0].documents == 10


def test_repair_rebuilds_a_checkpoint(store: Store) -> None:
    for i in range(51):
        add_documents(store, [f"{i}"])
    files = next(Path(store.root, "_checkpoint").rglob("files.parquet"))
    flip(files, 30)
    report = verify(Store.open(store.root))
    assert [p.path for p in report.problems] == [files.relative_to(store.root).as_posix()]
    # In a process of its own, which cannot read the state from it.
    assert ixt("verify", "--repair", "--store", store.root)["repaired"] == [report.problems[0].path]
    assert verify(Store.open(store.root)).problems == []
    assert Store.open(store.root).snapshot().corpora["web"].documents == 51


def test_verify_lists_orphans(full: Store) -> None:
    txn = full.begin("ingest")
    (txn.scratch / "half").write_text("x")
    report = verify(full)
    assert len(report.orphans) == 1
    assert report.problems == []
