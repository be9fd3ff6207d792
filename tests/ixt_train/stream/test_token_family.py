from pathlib import Path

import numpy as np
import pytest
from critiqued import add_documents, critiqued_store, texts, words_tokenizer

from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import StoreError
from ixt_data.log.snapshot import TOKENS
from ixt_data.maintenance.verification import repair, verify
from ixt_data.mix import Mix, build_condition, observed_feedback, plan_mix
from ixt_data.store.store import Store
from ixt_train.conditioning.conditioner import Conditioner
from ixt_train.stream.mix_stream import MixStream
from ixt_train.stream.token_family import tokenize

N = 120


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return critiqued_store(tmp_path / "store", N)


def samples_of(store: Store, mix: Mix, local: Path, tokenizer, **options) -> list[dict]:
    plan = plan_mix(mix, 320, store=store, batch=32)
    conditioner = Conditioner(tokenizer, mix.condition, observed_feedback(store, mix))
    with MixStream(
        plan, conditioner, store=store.root, local=local, batch_size=32, **options
    ) as ds:
        return list(ds)


def same(some: list[dict], others: list[dict]) -> bool:
    return all(
        one["draw"] == other["draw"]
        and one["doc_id"] == other["doc_id"]
        and np.array_equal(one["input_ids"], other["input_ids"])
        and one["input_ids"].dtype == other["input_ids"].dtype
        and np.array_equal(one["loss_weights"], other["loss_weights"])
        for one, other in zip(some, others, strict=True)
    )


@pytest.mark.parametrize(
    "condition",
    [
        {"kind": "none"},
        {"kind": "spans", "dropout": 0.3},
        *(
            {"kind": kind, "position": position, "dropout": 0.3}
            for kind in ("score", "critique", "both")
            for position in ("prefix", "append")
        ),
    ],
)
def test_stored_tokens_give_identical_samples(store, tmp_path, condition):
    mix = Mix(critic="numbers", condition=condition)
    tokenizer = words_tokenizer()
    before = samples_of(store, mix, tmp_path / "text", tokenizer)
    tokenize(store, tokenizer)
    after = samples_of(store, mix, tmp_path / "tokens", tokenizer)
    assert same(before, after)
    assert len(before) == 320


def test_stored_tokens_replace_downloads_of_texts(store, tmp_path):
    tokenizer = words_tokenizer()
    tokenize(store, tokenizer)
    mix = Mix(critic="numbers")
    plan = plan_mix(mix, 96, store=store, batch=32)
    conditioner = Conditioner(tokenizer, mix.condition)
    with MixStream(plan, conditioner, store=store.root, local=tmp_path, batch_size=32) as ds:
        list(ds)
        families = {path.relative_to(ds.local).parts[1] for path in
                    Path(ds.local).rglob("*.mds")}  # fmt: skip
    assert families == {TOKENS}


def test_stored_tokens_can_be_partial(store, tmp_path):
    tokenizer = words_tokenizer()
    tokenize(store, tokenizer)
    add_documents(store, texts(30, start=N))
    mix = Mix(critic="numbers", condition=build_condition(dropout=0, cooldown=0))
    plan = plan_mix(mix, 128, store=store, batch=32)
    conditioner = Conditioner(tokenizer, mix.condition)
    with MixStream(plan, conditioner, store=store.root, local=tmp_path / "a", batch_size=32) as ds:
        encoded = list(ds)
    with MixStream(plan, None, store=store.root, local=tmp_path / "b", batch_size=32) as ds:
        plain = list(ds)
    for tokens, sample in zip(encoded, plain, strict=True):
        expected = conditioner.encode(sample["text"], sample["critique"], sample["score"])
        assert np.array_equal(tokens["input_ids"], expected.input_ids)


def test_tokenize_again_skips_existing_tokens(store):
    tokenizer = words_tokenizer()
    first = tokenize(store, tokenizer)
    assert (first.shards, first.skipped, first.documents) == (10, 0, N)
    again = tokenize(store, tokenizer)
    assert (again.shards, again.skipped, again.snapshot) == (0, 10, first.snapshot)
    add_documents(store, texts(10, start=N))
    assert tokenize(store, tokenizer, corpora=["web"], critics=[]).shards == 1
    assert verify(store).problems == []
    shards = store.sql(
        "SELECT family, count(*) AS n FROM shards GROUP BY family ORDER BY family"
    ).arrow()
    assert dict(zip(*shards.to_pydict().values(), strict=True))[first.family] == 11


def test_stored_tokens_of_another_tokenizer_are_ignored(store, tmp_path):
    tokenize(store, words_tokenizer())
    other = words_tokenizer()
    other.add_tokens(["doc 7"])
    mix = Mix(critic="numbers")
    before = samples_of(store, mix, tmp_path / "a", other)
    tokenize(store, other)
    assert same(before, samples_of(store, mix, tmp_path / "b", other))
    assert len({s.family for s in store.snapshot().shards if s.family.startswith(TOKENS)}) == 2


def test_lost_tokens_are_detected_and_rebuilt(store):
    tokenizer = words_tokenizer()
    tokenize(store, tokenizer)
    lost = next(s for s in store.snapshot().shards if s.family.startswith(TOKENS))
    Path(store.root, lost.path).unlink()
    report = repair(store, verify(store))
    assert [problem.path for problem in report.problems] == [lost.path]
    assert tokenize(store, tokenizer).shards == 1
    assert verify(store).problems == []


def test_tokenize_with_unknown_names_raises(store):
    with pytest.raises(StoreError, match=r"no critic 'unknown'.*numbers"):
        tokenize(store, words_tokenizer(), critics=["unknown"])
    with pytest.raises(StoreError, match=r"no corpus 'nothing'.*web"):
        tokenize(store, words_tokenizer(), corpora=["nothing"])


def test_new_critiques_do_not_use_old_tokens(store, tmp_path):
    from critiqued import Numbers

    class Louder(Numbers):
        def config(self):
            return {"loud": True}

        def judge(self, document):
            from dataclasses import replace

            said = super().judge(document)
            return replace(said, critique=said.critique and f"even {said.critique}")

    tokenizer = words_tokenizer()
    tokenize(store, tokenizer)
    annotate(store, "web", Louder())
    mix = Mix(critic="numbers", condition=build_condition(dropout=0, cooldown=0))
    before = samples_of(store, mix, tmp_path / "a", tokenizer)
    even = tokenizer.convert_tokens_to_ids("even")
    assert sum(even in sample["input_ids"] for sample in before) > 300
    assert tokenize(store, tokenizer).shards == 5
    assert same(before, samples_of(store, mix, tmp_path / "b", tokenizer))
