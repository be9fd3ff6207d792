"""Saved selections: versioned in the log, seen by queries, taken by mixes."""

import hashlib
import json
from pathlib import Path

import orjson
import pytest
from small_stores import Length, add_documents

from ixt_data.analysis.snapshot_diff import diff
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import ConfigError, MixError, QueryError, StoreError
from ixt_data.log import checkpoint, commit_log
from ixt_data.log.commit_log import Log
from ixt_data.log.snapshot import Entry, Snapshot
from ixt_data.mix import Mix, load_mix, plan_mix, render_plan
from ixt_data.store.selections import drop_selection, save_selection, selection_history
from ixt_data.store.store import Store

TEXTS = ["a" * n for n in range(1, 11)]


@pytest.fixture
def critiqued(store: Store) -> Store:
    add_documents(store, TEXTS)
    annotate(store, "web", Length())
    return store


def names(store: Store, sql: str, at: int | None = None) -> list:
    return store.sql(sql, at=at).arrow().column(0).to_pylist()


def test_a_snapshot_has_each_as_it_was_saved_last(critiqued: Store) -> None:
    first = save_selection(critiqued, "good", "score >= 0.8", note="for pretraining")
    assert (first.documents, first.critic, first.note) == (3, "length", "for pretraining")
    second = save_selection(critiqued, "good", "score >= 0.5 -- wider")
    assert (second.version, second.documents) == (first.version + 1, 6)
    gone = drop_selection(critiqued, "good")
    fresh = Store.open(critiqued.root)
    assert fresh.snapshot().selections == {}
    assert fresh.snapshot(first.version).selections == {"good": first}
    assert fresh.snapshot(second.version).selections == {"good": second}
    sql = "SELECT n_chars FROM selected.good ORDER BY 1"
    assert names(fresh, sql, first.version) == [8, 9, 10]
    assert names(fresh, sql, second.version) == [5, 6, 7, 8, 9, 10]
    with pytest.raises(QueryError, match="good does not exist"):
        fresh.sql(sql).arrow()
    kept = [c.selection and c.selection.documents for c in selection_history(fresh, "good")]
    assert kept == [3, 6, None]
    changes = diff(fresh, first.version, second.version)["selections"]
    assert [(c["name"], c["change"]) for c in changes] == [("good", "changed")]
    assert diff(fresh, second.version, gone)["selections"][0]["change"] == "dropped"


def test_the_view_lists_them(critiqued: Store) -> None:
    save_selection(critiqued, "short", "n_chars < 4")
    (row,) = critiqued.sql("SELECT * EXCLUDE (created) FROM selections").arrow().to_pylist()
    expected = {"name": "short", "predicate": "n_chars < 4", "critic": None, "note": ""}
    assert row == {**expected, "documents": 3, "version": 3}


def test_one_can_build_on_another(critiqued: Store) -> None:
    save_selection(critiqued, "good", "score >= 0.8")
    save_selection(critiqued, "best", "doc_id IN (SELECT doc_id FROM selected.good) AND score = 1")
    assert names(critiqued, "SELECT n_chars FROM selected.best") == [10]
    with pytest.raises(QueryError):
        save_selection(critiqued, "loop", "doc_id IN (SELECT doc_id FROM selected.loop)")
    # A name without a selection stays the user's own.
    assert names(critiqued, "SELECT selected.x FROM (SELECT 1 AS x) AS selected") == [1]


def test_save_selection_validates_the_predicate(critiqued: Store) -> None:
    before = critiqued.log.newest()
    with pytest.raises(QueryError, match=r"'scor >= 1' is refused: .* Did you mean \"score\""):
        save_selection(critiqued, "bad", "scor >= 1")
    with pytest.raises(QueryError, match="is refused: syntax error"):
        save_selection(critiqued, "bad", "true); COPY documents TO 'x.csv'; SELECT (1")
    with pytest.raises(StoreError, match="selection 'no good'"):
        save_selection(critiqued, "no good", "true")
    with pytest.raises(StoreError, match=r"no critiques by 'quality'.*critics: length"):
        save_selection(critiqued, "good", "score > 0", critic="quality")
    annotate(critiqued, "web", Length(name="other"))
    with pytest.raises(StoreError, match="needs critiques; critiques by length, other: choose one"):
        save_selection(critiqued, "good", "score > 0")
    with pytest.raises(StoreError, match=r"no selection 'good'.*ixt select save good"):
        drop_selection(critiqued, "good")
    assert critiqued.snapshot().selections == {}
    assert critiqued.log.newest() == before + 1


def mix(*selections: dict, **more: object) -> Mix:
    return Mix.model_validate({"critic": "length", "selections": selections} | more)


def test_a_mix_takes_one_by_name_and_keeps_what_it_was(critiqued: Store) -> None:
    saved = save_selection(critiqued, "good", "score >= 0.8")
    pinned = mix({"use": "good", "weight": 1}, snapshot=saved.version)
    plan = plan_mix(pinned, store=critiqued)
    (figures,) = plan.summary()["selections"]
    assert (figures["name"], figures["documents"]) == ("good", 3)
    assert (figures["where"], figures["use"]) == ("score >= 0.8", f"good@{saved.version}")
    assert f"score >= 0.8, saved as good@{saved.version}" in render_plan(plan)
    again = save_selection(critiqued, "good", "score >= 0.5")
    assert plan_mix(pinned, store=critiqued).digest == plan.digest
    assert plan_mix(plan.mix, store=critiqued).digest == plan.digest
    newest = plan_mix(mix({"use": "good"}, snapshot=again.version), store=critiqued)
    assert newest.documents == 6
    # The definition of then over the documents of now.
    old = plan_mix(mix({"use": f"good@{saved.version}"}, snapshot=again.version), store=critiqued)
    assert old.documents == 3
    assert len({plan.digest, newest.digest, old.digest}) == 3


def test_mixes_without_saved_selections_keep_their_digest() -> None:
    content = mix({"name": "high", "where": "score >= 0.8"}).content()
    assert "use" not in content["selections"][0]


def test_a_mix_says_what_does_not_fit(critiqued: Store, tmp_path: Path) -> None:
    saved = save_selection(critiqued, "good", "score >= 0.8")
    short = save_selection(critiqued, "short", "n_chars < 4")
    with pytest.raises(MixError, match=r"'god': use: no selection 'god'.*selections: good, short"):
        plan_mix(mix({"use": "god"}), store=critiqued)
    with pytest.raises(MixError, match=rf"version {short.version} .* did not save .*'good'"):
        plan_mix(mix({"use": f"good@{short.version}"}), store=critiqued)
    changed = {"name": "x", "use": f"good@{saved.version}", "where": "score > 0"}
    with pytest.raises(MixError, match=r"was saved as 'score >= 0.8', and the mix has 'score > 0'"):
        plan_mix(mix(changed), store=critiqued)
    with pytest.raises(MixError, match="for critiques by 'length', and the mix specifies 'o'"):
        plan_mix(mix({"use": "good", "critic": "o"}), store=critiqued)
    with pytest.raises(MixError, match="critic: missing, but selection 'short' was saved without"):
        plan_mix(mix({"use": "short"}, critic=None), store=critiqued)
    assert plan_mix(mix({"use": "good"}, critic=None), store=critiqued).documents == 3
    path = tmp_path / "mix.yaml"
    path.write_text("critic: length\nselections: [{use: good, where: score > 1}]\n")
    with pytest.raises(ConfigError, match=r"where: given, but `use: good` gives the predicate"):
        load_mix(path)


def test_checkpoints_carry_them_and_older_ones_have_none(critiqued: Store) -> None:
    saved = save_selection(critiqued, "good", "score >= 0.8")
    for i in range(60):
        critiqued.log.commit(Entry(0, f"{i}", "critique"), critiqued.log.newest())
    fresh = Log(critiqued.storage)
    assert checkpoint.read(critiqued.storage, 50).selections == {"good": saved}
    assert fresh.snapshot().selections == {"good": saved}
    # As it was written before there were any.
    path = Path(critiqued.root, checkpoint.key(50, "state.json"))
    state = json.loads(path.read_text())
    del state["selections"]
    path.write_text(json.dumps(state))
    assert checkpoint.read(critiqued.storage, 50).selections == {}


def test_log_entry_with_unknown_fields_is_refused(store: Store) -> None:
    line = orjson.dumps({"version": 1, "txn": "t", "op": "x", "dreams": [1]})
    digest = hashlib.sha256(line).hexdigest().encode()
    store.storage.create(commit_log.key(1), line + b"\n" + digest + b"\n")
    with pytest.raises(
        StoreError, match=r"another version of ixt: .* unknown fields dreams. Upgrade ixt"
    ):
        Log(store.storage).snapshot()


def test_a_copy_moves_on_by_itself(critiqued: Store) -> None:
    state = Snapshot()
    copy = state.copy()
    save_selection(critiqued, "good", "true")
    copy.apply(critiqued.log.read(critiqued.log.newest()))
    assert (state.selections, list(copy.selections)) == ({}, ["good"])
