"""Near-duplicates and complaints, on real stores through the command line."""

import json
import random
import sys
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.critics.base import EmbeddedCritic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import ConfigError, MissingExtra, StoreError
from ixt_data.ingestion import ingest
from ixt_data.mix import Mix, plan_mix
from ixt_data.records import Critique, Span
from ixt_data.store.store import Store
from ixt_tools.curate.complaint_terms import complaints
from ixt_tools.curate.minhash import SignedDocuments, clusters, keepers, shingles, signer
from ixt_tools.curate.near_duplicates import dedupe

WORDS = [f"word{i}" for i in range(3000)]


def text(seed: int, n: int = 200) -> list[str]:
    return random.Random(seed).choices(WORDS, k=n)


def changed(words: list[str], places: range) -> list[str]:
    return ["changed" if i in places else word for i, word in enumerate(words)]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """20 documents; of 0 to 3 there is a near copy with more words, and one of 0 in books."""
    store = Store.init(tmp_path / "S")
    originals = [text(i) for i in range(20)]
    copies = [[*changed(originals[i], range(50, 54)), "more", "words"] for i in range(4)]
    half = originals[7][:100] + text(77, 100)
    for corpus, documents in (
        ("web", [*originals, *copies, half]),
        ("books", [originals[5], changed(originals[0], range(10, 12))]),
    ):
        path = tmp_path / f"{corpus}.jsonl"
        lines = [
            json.dumps({"text": " ".join(d), "id": f"{corpus}{i}"}) for i, d in enumerate(documents)
        ]
        path.write_text("\n".join(lines))
        ingest(store, corpus, [path], shard_bytes=9000)
    return store


def run(*arguments: object, code: int = 0) -> dict:
    done = CliRunner().invoke(build(), [*map(str, arguments), "--output", "json"])
    assert done.exit_code == code, done.output
    return json.loads(done.stdout)


def test_near_duplicates_become_columns(store: Store) -> None:
    before = store.snapshot().version
    report = run("dedupe", "--store", store.root)
    assert (report["documents"], report["clusters"], report["duplicates"]) == (26, 4, 5)
    assert report["largest"] == 3
    assert report["columns"] == ["near_dup", "near_dup_keep"]
    rows = (
        store.sql(
            "SELECT list(source_id ORDER BY source_id) AS own, "
            "max(source_id) FILTER (doc_id = near_dup) AS kept, "
            "count(*) FILTER (near_dup_keep) AS n "
            "FROM documents GROUP BY near_dup HAVING count(DISTINCT doc_id) > 1 ORDER BY own"
        )
        .arrow()
        .to_pylist()
    )
    assert [row["own"] for row in rows] == [
        ["books1", "web0", "web20"],
        *(["web1", "web21"], ["web2", "web22"], ["web23", "web3"]),
    ]
    # The copies are longer.
    assert [(row["kept"], row["n"]) for row in rows] == [(f"web2{i}", 1) for i in range(4)]
    # The same text in two corpora is one document, and its own keeper in both.
    both = store.sql(
        "SELECT near_dup_keep AS k FROM documents WHERE source_id IN ('web5', 'books0')"
    ).arrow()
    assert both["k"].to_pylist() == [True, True]
    assert "near_dup" not in store.sql("SELECT * FROM documents", at=before).arrow().column_names
    mix = Mix.model_validate(
        {"condition": {"kind": "none"}, "selections": [{"name": "x", "where": "near_dup_keep"}]}
    )
    assert plan_mix(mix, store=store).documents == 22


def test_it_is_written_anew_by_corpus_and_stays_through_compaction(store: Store) -> None:
    first = dedupe(store)
    again = dedupe(store, ["web"], keep="first", threshold=0.9)
    assert again.documents == 25
    kept = store.sql(
        "SELECT source_id FROM documents WHERE corpus = 'web' AND NOT near_dup_keep"
    ).arrow()
    assert sorted(kept["source_id"].to_pylist()) == ["web20", "web21", "web22", "web23"]
    old = store.sql(
        "SELECT count(*) AS n FROM documents WHERE NOT near_dup_keep", at=first.snapshot
    ).arrow()
    assert old["n"].to_pylist() == [5]
    run("compact", "--store", store.root, "--full")
    columns = store.sql("DESCRIBE documents").arrow().to_pylist()
    kinds = {row["column_name"]: row["column_type"] for row in columns}
    assert (kinds["near_dup"], kinds["near_dup_keep"]) == ("UUID", "BOOLEAN")
    assert run("verify", "--store", store.root)["ok"]


class Grumbler(EmbeddedCritic):
    """Scores by place, and complains in flags, tags, or words alone."""

    def __init__(self, way: str) -> None:
        self.name = self.way = way

    def config(self) -> dict:
        return {"way": self.way}

    def judge(self, document):
        bad = int(document.doc_id[0]) % 2 == 0
        score = document.doc_id[1] / 255
        if self.way == "flags":
            flags = ("spam", "short") if bad else ("dull",)
            return Critique(document.doc_id, critique="no", score=score, flags=flags)
        if self.way == "tags":
            spans = (Span(0, 4, "wrong", "wrong sum"),) if bad else ()
            return Critique(document.doc_id, critique="no", score=score, spans=spans)
        says = "Repetitive boilerplate navigation menus." if bad else "Unsupported medical claims."
        return Critique(document.doc_id, critique=says, score=score)


def test_the_best_of_a_cluster_is_kept_if_asked_for(store: Store) -> None:
    annotate(store, "web", Grumbler("flags"))
    dedupe(store, ["web"], keep="best", column="dup")
    rows = store.sql(
        "SELECT max(score) = max(score) FILTER (dup_keep) AS best FROM documents "
        "JOIN critiques USING (doc_id) WHERE corpus = 'web' GROUP BY dup"
    ).arrow()
    assert set(rows["best"].to_pylist()) == {True}


def test_what_dedupe_refuses(store: Store) -> None:
    with pytest.raises(StoreError, match=r"no corpus 'wbe' .*corpora: web, books"):
        dedupe(store, ["wbe"])
    with pytest.raises(ConfigError, match="column 'source': there is one already"):
        dedupe(store, column="source")
    with pytest.raises(ConfigError, match=r"threshold 1\.5: a similarity from 0\.1 to 0\.99"):
        dedupe(store, threshold=1.5)
    with pytest.raises(StoreError, match="no critiques in"):
        dedupe(store, keep="best")
    version = store.snapshot().version
    assert dedupe(store, dry_run=True).duplicates == 5
    assert store.snapshot().version == version


def test_an_extra_that_is_missing(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(MissingExtra, match=r"pip install 'ixt\[curate\]'"):
        dedupe(store)
    annotate(store, "web", Grumbler("words"))
    monkeypatch.setitem(sys.modules, "sklearn.decomposition", None)
    with pytest.raises(MissingExtra, match="scikit-learn"):
        complaints(store)


def test_signatures_estimate_the_overlap_of_shingles() -> None:
    sign, a = signer(), text(0, 400)
    b = changed(a, range(100, 180))
    one, other = set(shingles(" ".join(a)).tolist()), set(shingles(" ".join(b)).tolist())
    true = len(one & other) / len(one | other)
    found = (sign(" ".join(a)) == sign(" ".join(b))).mean()
    assert abs(found - true) < 0.15
    assert len(shingles("two words")) == len(shingles("!?")) == 1


def test_chains_of_likeness_are_one_cluster() -> None:
    rng = np.random.default_rng(0)
    signatures = rng.integers(0, 1 << 32, (6, 128), np.uint32)
    signatures[3], signatures[5] = signatures[0], signatures[3]
    signatures[3, :10] = signatures[5, 10:20] = 0
    found = SignedDocuments(np.zeros((6, 16), np.uint8), np.arange(6), signatures)
    roots = clusters(found, 0.8)
    assert roots.tolist() == [0, 1, 2, 0, 4, 0]
    assert keepers(roots, [found.lengths]).tolist() == [5, 1, 2, 5, 4, 5]
    assert keepers(roots, []).tolist() == [0, 1, 2, 0, 4, 0]


def test_complaints_by_flag_with_their_lift(store: Store) -> None:
    annotate(store, "web", Grumbler("flags"))
    annotate(store, "books", Grumbler("flags"))
    found = run("complaints", "--store", store.root)
    groups = {one["name"]: one for one in found["groups"]}
    assert groups["spam"]["documents"] + groups["dull"]["documents"] == found["documents"] == 26
    assert groups["spam"]["lift"] == 1
    part = run("complaints", "--store", store.root, "--source", "books.jsonl")
    assert part["documents"] == 2
    lowest = store.sql(
        "SELECT doc_id::VARCHAR AS d FROM critiques WHERE list_contains(flags, 'spam') "
        "ORDER BY score LIMIT 3"
    ).arrow()
    assert groups["spam"]["examples"] == lowest["d"].to_pylist()
    with pytest.raises(StoreError, match=r"no document of source 'x'.*books\.jsonl, web\.jsonl"):
        complaints(store, source="x")


def test_complaints_by_the_tags_of_spans(store: Store) -> None:
    annotate(store, "web", Grumbler("tags"))
    (group,) = complaints(store).groups
    spans = (
        store.sql("SELECT count(*) AS n FROM critiques WHERE n_spans > 0").arrow()["n"].to_pylist()
    )
    assert (group.by, group.name, [group.documents]) == ("tags", "wrong sum", spans)


def test_complaints_by_words_where_there_is_nothing_else(store: Store) -> None:
    annotate(store, "web", Grumbler("words"))
    found = complaints(store, groups=2)
    assert found.sampled == found.documents == sum(one.documents for one in found.groups) == 25
    names = sorted(one.name for one in found.groups)
    assert any(term in names[0] + names[1] for term in ("boilerplate", "navigation"))
    assert any(term in names[0] + names[1] for term in ("medical", "unsupported"))
    done = CliRunner().invoke(build(), ["complaints", "--store", str(store.root), "--groups", "2"])
    assert "25 critiques grouped by their words" in " ".join(done.stdout.split())
    few = complaints(store, below=0.5, by="words")
    assert few.documents < 25
    assert all(one.mean_score is not None and one.mean_score < 0.5 for one in few.groups)
