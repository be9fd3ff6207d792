"""The scope of a plan of pairs: their better answers only."""

from pathlib import Path

import pytest
from answered_prompts import write_store

from ixt_data.errors import MixError
from ixt_data.export import MatchedDocuments, PairTable, write_pairs
from ixt_data.ingestion import ingest
from ixt_data.mix import Mix, plan_mix
from ixt_train.runs import scope_of


def test_scope_draws_better_answers_in_any_corpus_order(tmp_path: Path) -> None:
    store = write_store(tmp_path, prompts=30)
    (tmp_path / "web.txt").write_text("another document")
    ingest(store, "web", [tmp_path / "web.txt"])
    table_path = tmp_path / "pairs.arrow"
    write_pairs(MatchedDocuments(store, critic="closeness"), table_path, 0.1)
    table = PairTable(table_path)
    mix = Mix(store=str(store.root), critic="closeness", condition={"kind": "none"})
    plan = plan_mix(mix, store=store, scope_of=scope_of(table))
    assert plan.documents == len(table) == 30
    only = mix.model_copy(update={"corpus": ("web",)})
    with pytest.raises(MixError, match="no better answer of a pair of web"):
        plan_mix(only, store=store, scope_of=scope_of(table))
