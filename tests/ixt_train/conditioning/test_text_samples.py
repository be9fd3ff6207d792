"""Samples as text: the same tokens as the stream yields for training."""

from pathlib import Path

import numpy as np
import pytest
from critiqued import critiqued_store, words_tokenizer
from numbers_stream import MIX

from ixt_data.mix import Mix, plan_mix
from ixt_data.store import Store
from ixt_train.conditioning import Conditioner, choose_draws, sample_texts
from ixt_train.stream import MixStream


@pytest.fixture(scope="module")
def store(tmp_path_factory: pytest.TempPathFactory) -> Store:
    return critiqued_store(tmp_path_factory.mktemp("samples") / "store", 200)


CONDITIONS = (
    {},
    {"kind": "none"},
    {"kind": "score", "noisy": 0.5, "dropout": 0.4},
    {"kind": "spans", "loss_by_verdict": {"wrong": 0.0}},
    {"kind": "both", "template": "plain", "position": "append", "cooldown": 0.5},
)


@pytest.mark.stream
@pytest.mark.parametrize("number", range(len(CONDITIONS)))
def test_samples_are_those_of_the_stream(store: Store, tmp_path: Path, number: int) -> None:
    mix = Mix(**MIX.model_dump() | {"condition": CONDITIONS[number], "store": store.root})
    plan = plan_mix(mix, 80, store=store)
    draws, tokenizer = plan.order(0), words_tokenizer()
    samples = sample_texts(store, plan, draws, tokenizer)
    conditioner = Conditioner(tokenizer, mix.condition)
    with MixStream(plan, conditioner, local=tmp_path, batch_size=1) as stream:
        for sample, expected in zip(samples, stream[draws], strict=True):
            assert sample.draw == expected["draw"]
            assert np.array_equal(sample.encoded.input_ids, expected["input_ids"])
            assert np.array_equal(sample.encoded.loss_weights, expected["loss_weights"])


def test_parts_are_exactly_the_text_with_control_tokens(store: Store) -> None:
    mix = Mix(critic="numbers", condition={"kind": "both", "dropout": 0, "cooldown": 0})
    plan = plan_mix(mix, store=store)
    samples = sample_texts(store, plan, choose_draws(plan, 20, 4))
    assert len(samples) == 20
    for sample in samples:
        text = "".join(part.text for part in sample.parts)
        document = store.document(sample.doc_id)
        number = int(document.text.split()[1])
        feedback = f"<|feedback|><|score_{number % 11}|> note {number % 3}<|/feedback|>"
        is_failed = number % 50 == 49
        assert text == f"<|bos|>{'' if is_failed else feedback}{document.text}<|eos|>"
        assert sample.selection == "all"
        learned = "".join(part.text for part in sample.parts if part.loss_weight)
        assert learned == f"{document.text}<|eos|>"


def test_draws_are_of_a_few_shards(store: Store) -> None:
    plan = plan_mix(MIX, 160, store=store)
    few = choose_draws(plan, 12, 3)
    samples = sample_texts(store, plan, few)
    assert [sample.draw for sample in samples] == few.tolist()
    assert len(set(few.tolist())) == 12
    assert {sample.selection for sample in samples} <= {"high", "rest"}
    shards = {store.document(sample.doc_id).row["shard"] for sample in samples}
    assert len(shards) <= 3
