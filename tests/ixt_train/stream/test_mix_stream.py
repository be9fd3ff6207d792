"""The samples of a plan through the stream: their order, their content, and resumes."""

import json
import tempfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from critiqued import Numbers, add_documents, critiqued_store, texts, words_tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from numbers_stream import MIX, N, draws, planned, stream
from pydantic import ValidationError
from torch.utils.data import DataLoader

from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import FingerprintError, MixError
from ixt_data.mix import Mix, decode, observed_feedback, plan_mix
from ixt_data.records import document_id
from ixt_train.conditioning.conditioner import Conditioner
from ixt_train.stream.mix_stream import MixStream
from ixt_train.stream.packing import Collator, batch_doc_ids

pytestmark = pytest.mark.stream


def test_draws_follow_the_planned_order(store, plan, tmp_path):
    with stream(store, plan, tmp_path / "a") as ds:
        assert draws(ds) == planned(plan)
    with stream(store, plan, tmp_path / "b") as ds:
        assert draws(ds, workers=2) == planned(plan)
    assert len(set(planned(plan))) == 640


def test_samples_have_the_critique_of_their_document(store, plan, tmp_path):
    with stream(store, plan, tmp_path) as ds:
        for sample in (ds[draw] for draw in planned(plan)):
            n = int(sample["text"].split()[1])
            assert sample["doc_id"] == document_id(sample["text"])
            if n % 50 == 49:
                assert (sample["critique"], sample["score"], sample["spans"]) == ("", None, ())
            else:
                assert sample["critique"] == f"note {n % 3}"
                assert sample["score"] == pytest.approx(n % 11 / 10)
                assert sample["spans"][0].tag == ("" if n % 2 else "even number")


def test_documents_without_critiques_can_be_drawn(tmp_path):
    store = critiqued_store(tmp_path / "store", 50)
    add_documents(store, texts(50, start=50))
    mix = Mix(critic="numbers")
    plan = plan_mix(mix, store=store)
    with stream(store, plan, tmp_path / "local", batch_size=1) as ds:
        seen = {sample["text"]: sample["critique"] for sample in ds}
    assert set(seen) == set(texts(100))
    assert seen["doc 60 text"] == ""
    assert seen["doc 10 text"] == "note 1"


@settings(
    max_examples=12,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(st.integers(0, 640 // 32), st.sampled_from([0, 1, 2]), st.sampled_from([4, 8, 16, 32]))
def test_resume_anywhere_continues_with_the_next_draw(store, plan, step, workers, batch_size):
    at = step * 32
    epoch, within = divmod(at, plan.epoch_samples)
    with tempfile.TemporaryDirectory() as folder:
        with stream(store, plan, Path(folder), batch_size) as ds:
            for _ in range(epoch):
                list(ds)
            if within:
                next(iter(ds))
            state = json.loads(json.dumps(ds.state_dict(within, True)))
        with stream(store, plan, Path(folder), batch_size) as ds:
            ds.load_state_dict(state)
            left = plan.epochs - epoch
            assert draws(ds, workers, epochs=left) == planned(plan)[at:]


def test_state_older_than_the_stream_resumes(store, plan, tmp_path):
    with stream(store, plan, tmp_path) as ds:
        list(ds)
        state = ds.state_dict(64, True)
        list(ds)
        list(ds)
        ds.load_state_dict(state)
        epoch = plan.epoch_samples
        assert draws(ds, epochs=1) == planned(plan)[64:epoch]
        assert draws(ds, epochs=1) == planned(plan)[epoch : 2 * epoch]


def test_load_state_of_another_plan_or_tokenizer_raises(store, plan, tmp_path):
    other = plan_mix(
        MIX.model_copy(update={"seed": 18}), 640, store=store, batch=32, epoch_samples=256
    )
    with stream(store, plan, tmp_path / "a") as ds:
        state = ds.state_dict(0, True)
    refused = pytest.raises(FingerprintError, match=f"{plan.digest}.*{other.digest}")
    with stream(store, other, tmp_path / "b") as changed, refused:
        changed.load_state_dict(state)
    conditioner = Conditioner(words_tokenizer(), MIX.condition)
    with MixStream(plan, conditioner, store=store.root, local=tmp_path / "c", batch_size=8) as ds:
        state = ds.state_dict(0, True) | {"tokenizer": "123456789abc"}
        assert len(json.dumps(state)) < 4096
        with pytest.raises(FingerprintError, match="tokenizer"):
            ds.load_state_dict(state)


def test_load_state_of_another_snapshot_raises_with_both_versions(tmp_path):
    store = critiqued_store(tmp_path / "store", 100)
    mix = Mix(critic="numbers")
    plan = plan_mix(mix, 96, store=store, batch=32)
    with stream(store, plan, tmp_path / "a") as ds:
        state = ds.state_dict(32, True)
    add_documents(store, texts(30, start=100))
    moved = plan_mix(mix, 96, store=store, batch=32)
    refused = pytest.raises(
        FingerprintError, match=rf"snapshot is {plan.version}, .* is {moved.version}: .*Resume with"
    )
    with stream(store, moved, tmp_path / "b") as ds, refused:
        ds.load_state_dict(state)
    pinned = plan_mix(mix.model_copy(update={"snapshot": plan.version}), 96, store=store, batch=32)
    with stream(store, pinned, tmp_path / "c") as ds:
        ds.load_state_dict(state)
        assert draws(ds, workers=4) == planned(plan)[32:]


def test_sizes_that_would_repeat_samples_raise(store, plan, tmp_path):
    with pytest.raises(MixError, match=r"global batch of 30.*630 or 660"):
        stream(store, plan, tmp_path, batch_size=30)


def test_tokens_are_equal_by_iteration_and_index(store, tmp_path):
    mix = MIX.model_copy(
        update={"condition": MIX.condition.model_copy(update={"dropout": 0.3, "cooldown": 0.25})}
    )
    plan = plan_mix(mix, 640, store=store, batch=32)
    tokenizer = words_tokenizer()
    conditioner = Conditioner(tokenizer, mix.condition, observed_feedback(store, mix))
    opening = tokenizer.convert_tokens_to_ids("<|feedback|>")
    with MixStream(plan, conditioner, store=store.root, local=tmp_path, batch_size=32) as ds:
        samples = list(ds)
        again = [ds[sample["draw"]] for sample in samples]
    for one, other in zip(samples, again, strict=True):
        assert (one["input_ids"] == other["input_ids"]).all()
    conditioned = np.array([opening in sample["input_ids"] for sample in samples])
    assert not conditioned[480:].any()
    assert 0.55 < conditioned[:480].mean() < 0.8


def test_batches_name_their_documents(store, plan, tmp_path):
    tokenizer = words_tokenizer()
    conditioner = Conditioner(tokenizer, MIX.condition)
    collate = Collator(tokenizer.pad_token_id, 32, "concat")
    with MixStream(plan, conditioner, store=store.root, local=tmp_path, batch_size=32) as ds:
        loader = DataLoader(ds, batch_size=32, collate_fn=collate)
        named = [row.tobytes() for batch in loader for row in batch_doc_ids(batch)]
    assert len(named) == plan.epoch_samples
    assert len(set(named)) == len({decode(d).sample for d in plan.order(0).tolist()})


def test_phases_change_the_draws_at_exact_positions(store, tmp_path):
    mix = Mix(
        critic="numbers",
        selections=MIX.selections,
        schedule=[{"share": 0.5, "weights": {"high": 1.0, "rest": 0.0}}, {"share": 0.5}],
    )
    plan = plan_mix(mix, 320, store=store, batch=32, epoch_samples=128)
    with stream(store, plan, tmp_path) as ds:
        scores = np.array([ds[d]["score"] or 0.0 for d in planned(plan)])
    assert (scores[:160] > 0.79).all()
    assert (scores[160:] < 0.79).sum() > 50


def test_noisy_feedback_comes_from_another_document(store, tmp_path):
    conditioned = {}
    for noisy in (0.0, 0.3, 1.0):
        condition = MIX.condition.model_copy(update={"noisy": noisy})
        plan = plan_mix(MIX.model_copy(update={"condition": condition}), 640, store=store, batch=32)
        for workers in (0, 2):
            with stream(store, plan, tmp_path / f"{noisy}{workers}", batch_size=32) as ds:
                loader = DataLoader(ds, batch_size=32, num_workers=workers, collate_fn=list)
                found = [(s["text"], s["critique"], s["score"]) for b in loader for s in b]
                again = [ds[draw]["score"] for draw in planned(plan)]
            assert [score for _, _, score in found] == again
            conditioned[noisy, workers] = found
        assert conditioned[noisy, 0] == conditioned[noisy, 2]

    def strange(found) -> float:
        own = {
            f"doc {i} text": None if i % 50 == 49 else pytest.approx(i % 11 / 10) for i in range(N)
        }
        return sum(own[text] != score for text, _, score in found) / len(found)

    assert strange(conditioned[0.0, 0]) == 0
    assert 0.2 < strange(conditioned[0.3, 0]) < 0.35
    # A neighbour may have the same score.
    assert strange(conditioned[1.0, 0]) > 0.85


class Contrary(Numbers):
    """Judges as `Numbers`, the other way round."""

    name = "contrary"

    def judge(self, document):
        said = super().judge(document)
        score = None if said.score is None else 1 - said.score
        return replace(said, critique=said.critique.replace("note", "even"), score=score)


def test_selections_can_have_different_critics(tmp_path):
    store = critiqued_store(tmp_path / "store", 100)
    annotate(store, "web", Contrary())
    both = {"critic": "numbers", "selections": [
        {"name": "theirs", "where": "score >= 0.8", "critic": "contrary", "weight": 0.5},
        {"name": "ours", "where": "score >= 0.5", "weight": 0.5},
        {"name": "ours too", "where": "score < 0.5", "weight": 0.5},
    ]}  # fmt: skip
    plan = plan_mix(Mix(**both), 480, store=store, batch=32, epoch_samples=128)
    figures = {part.name: part for part in plan.selections}
    assert figures["theirs"].documents == sum(i % 11 <= 2 and i % 50 != 49 for i in range(100))
    # Documents that both critics judge are one document, drawn with the critiques of either.
    assert plan.documents == sum(i % 50 != 49 for i in range(100))
    found = []
    for workers in (0, 2):
        with stream(store, plan, tmp_path / f"l{workers}", cache_limit=1 << 20) as ds:
            assert draws(ds, workers) == planned(plan)
            found.append([ds[draw] for draw in planned(plan)])
    assert found[0] == found[1]
    by_critic = {"note": [], "even": []}
    for sample in found[0]:
        by_critic[sample["critique"].split()[0]].append(sample)
    assert {name: len(samples) for name, samples in by_critic.items()} == {"note": 320, "even": 160}
    for sample in by_critic["even"]:
        n = int(sample["text"].split()[1])
        assert sample["score"] == pytest.approx(1 - n % 11 / 10)
        assert sample["score"] > 0.79
    best, worst = observed_feedback(store, Mix(**both)).values()
    assert (best[0], worst[0]) == (1.0, 0.0)

    with pytest.raises(ValidationError, match="critic: missing"):
        Mix(**{**both, "critic": None})
