"""Everything that a mix can say, read through the stream: conditions, phases, corpora, critics."""

import tempfile
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from critiqued import Numbers, add_documents, critiqued_store, texts, words_tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch.utils.data import DataLoader

from ixt_data.critique_runs.annotation import annotate
from ixt_data.mix import (
    Condition,
    Mix,
    build_condition,
    held_out_predicate,
    observed_feedback,
    plan_mix,
    with_edges,
)
from ixt_data.mix.condition import KINDS
from ixt_data.records import document_id, format_id
from ixt_data.store.store import Store
from ixt_train.conditioning import sample_texts
from ixt_train.conditioning.conditioner import Conditioner, score_token
from ixt_train.evaluation.held_out import held_out_documents
from ixt_train.stream.mix_stream import MixStream
from ixt_train.stream.token_family import tokenize

pytestmark = pytest.mark.stream

N, BATCH = 120, 16


class Contrary(Numbers):
    """Judges as `Numbers`, the other way round."""

    name = "contrary"

    def judge(self, document):
        said = super().judge(document)
        score = None if said.score is None else 1 - said.score
        return replace(said, critique=said.critique.replace("note", "even"), score=score)


@pytest.fixture(autouse=True)
def own_tmpdir(tmp_path_factory, monkeypatch):
    # A socket of a worker allows no long path.
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path_factory.mktemp("t")))


@pytest.fixture(scope="module")
def stores(tmp_path_factory) -> tuple[Store, Store]:
    """The same two corpora, two critics each; in the second store all is tokenized."""
    folder = tmp_path_factory.mktemp("mixed")
    found = []
    for name in ("text", "tokens"):
        store = critiqued_store(folder / name, N, per_shard=20)
        add_documents(store, texts(60, start=N), corpus="code", per_shard=15)
        annotate(store, "code", Numbers())
        for corpus in ("web", "code"):
            annotate(store, corpus, Contrary())
        found.append(store)
    tokenize(found[1], words_tokenizer())
    return found[0], found[1]


def samples_of(store: Store, mix: Mix, local: Path, workers: int = 0, plain: bool = False):
    mix = with_edges(store, mix)
    plan = plan_mix(mix, 20 * BATCH, store=store, batch=BATCH)
    conditioner = Conditioner(words_tokenizer(), mix.condition, observed_feedback(store, mix))
    with MixStream(
        plan, None if plain else conditioner, store=store.root, local=local, batch_size=BATCH
    ) as ds:
        loader = DataLoader(ds, batch_size=BATCH, num_workers=workers, collate_fn=list)
        return plan, conditioner, [sample for batch in loader for sample in batch]


def spelled(samples) -> list[str]:
    tokenizer = words_tokenizer()
    return [tokenizer.decode(sample["input_ids"]) for sample in samples]


@st.composite
def conditions(draw: st.DrawFn) -> Condition:
    kind = draw(st.sampled_from(["none", "score", "critique", "both", "spans"]))
    position = draw(st.sampled_from(["prefix", "append"]))
    bins = draw(st.sampled_from(["raw", "threshold", "quantile"]))
    choices = ["given", "given", "best", "worst", "shuffled"]
    keys = {
        "position": position,
        "bins": bins,
        "edges": (0.3, 0.7) if bins == "threshold" else (),
        "template": draw(st.sampled_from(["special", "plain"])),
        "repeat_every": draw(st.sampled_from([None, 1, 2])) if position == "prefix" else None,
        "dropout": draw(st.sampled_from([0.0, 0.4])),
        "cooldown": draw(st.sampled_from([0.0, 0.3])),
        "loss_on_prefix": draw(st.sampled_from([0.0, 0.25])),
        "loss_by_verdict": draw(st.sampled_from([{"rest": 1.0}, {"wrong": 0.0, "rest": 0.5}])),
        "feedback": draw(st.sampled_from(choices + ["even note 2"] * (kind != "score"))),
    }
    known = KINDS[kind].model_fields
    return build_condition(kind=kind, **{key: keys[key] for key in keys if key in known})


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(condition=conditions(), workers=st.sampled_from([0, 0, 0, 0, 2]))
def test_any_condition_is_exact_with_and_without_stored_tokens(stores, condition, workers):
    mix = Mix(critic="numbers", condition=condition, seed=3)
    with tempfile.TemporaryDirectory() as folder:
        plan, conditioner, found = samples_of(stores[0], mix, Path(folder, "a"), workers)
        _, _, plain = samples_of(stores[0], mix, Path(folder, "b"), plain=True)
        _, _, ahead = samples_of(stores[1], mix, Path(folder, "c"))
    cool = plan.samples - round(plan.samples * condition.cooldown)
    for number, (one, document, other) in enumerate(zip(found, plain, ahead, strict=True)):
        assert document["has_feedback"] == plan.gives_feedback(one["draw"])
        assert not (number >= cool and document["has_feedback"])
        expected = conditioner.encode(
            document["text"], document["critique"], document["score"], document["spans"],
            conditioner.default_choice if document["has_feedback"] else "none",
        )  # fmt: skip
        assert one["doc_id"] == document["doc_id"] == other["doc_id"]
        for sample in (one, other):
            assert np.array_equal(sample["input_ids"], expected.input_ids)
            assert np.array_equal(sample["loss_weights"], expected.loss_weights)


@pytest.mark.parametrize("feedback", ["best", "worst", "even number"])
def test_condition_feedback_applies_to_all_documents(stores, tmp_path, feedback):
    condition = build_condition(feedback=feedback, dropout=0, cooldown=0)
    mix = Mix(critic="numbers", condition=condition)
    observed = observed_feedback(stores[0], mix)
    score, critique = observed.get(feedback, (observed["best"][0], feedback))
    _, _, found = samples_of(stores[0], mix, tmp_path)
    conditioned = f"<|bos|> <|feedback|> {score_token(score)} {critique} <|/feedback|> doc"
    assert all(row.startswith(conditioned) for row in spelled(found))


def test_shuffled_feedback_keeps_its_frequencies(stores, tmp_path):
    critiques = []
    for feedback in ("given", "shuffled"):
        condition = build_condition(feedback=feedback, dropout=0, cooldown=0)
        mix = Mix(critic="numbers", condition=condition)
        _, _, found = samples_of(stores[0], mix, tmp_path / feedback, plain=True)
        critiques.append([(sample["critique"], sample["score"]) for sample in found])
    same = sum(own == other for own, other in zip(*critiques, strict=True))
    assert same < 0.3 * len(critiques[0])
    counts = [Counter(said for said, _ in each) for each in critiques]
    assert counts[0].keys() == counts[1].keys()


def test_condition_with_impossible_feedback_raises():
    for wrong, said in (
        ({"kind": "score", "feedback": "a text"}, "'best', 'worst' or 'shuffled'"),
        ({"noisy": 0.5, "feedback": "best"}, "set only one of them"),
        ({"feedback": "none"}, "set kind to none"),
    ):
        with pytest.raises(ValidationError, match=said):
            build_condition(**wrong)


def test_mix_with_corpora_critics_and_phases(stores, tmp_path):
    mix = Mix(
        critic="numbers",
        corpus=["web", "code"],
        selections=[
            {"name": "web", "where": "documents.corpus = 'web' AND score >= 0.5", "weight": 0.75},
            {"name": "code", "where": "documents.corpus = 'code'", "weight": 0.25,
             "critic": "contrary"},
        ],
        condition={"dropout": 0, "cooldown": 0.25},
        schedule=[
            {"share": 0.25, "weights": {"code": 0}, "condition": {"kind": "score"}},
            {"share": 0.25, "where": {"web": "documents.corpus = 'web' AND score < 0.2"},
             "condition": {"position": "append"}},
        ],
    )  # fmt: skip
    runs = []
    for workers in (0, 2):
        _, _, plain = samples_of(stores[0], mix, tmp_path / f"p{workers}", workers, plain=True)
        _, _, found = samples_of(stores[1], mix, tmp_path / f"t{workers}", workers)
        runs.append((plain, spelled(found)))
    assert runs[0][0] == runs[1][0]
    assert runs[0][1] == runs[1][1]
    plain, rows = runs[0]
    numbers = [int(sample["text"].split()[1]) for sample in plain]
    first, second, third = slice(0, 80), slice(80, 160), slice(160, 320)
    assert all(number < N for number in numbers[first])
    assert all("note" not in row.split() and "<|score_" in row for row in rows[first])
    for part, web in ((second, 60), (third, 120)):
        assert sum(number < N for number in numbers[part]) == web
    for number, sample, row in list(zip(numbers, plain, rows, strict=True))[second]:
        own = number % 11 / 10
        if number < N:
            assert own < 0.2
        elif sample["score"] is not None:
            assert sample["score"] == pytest.approx(1 - own)
            assert sample["critique"].startswith("even")
        assert row.startswith("<|bos|> doc")
    assert all("<|feedback|>" not in row for row in rows[240:])


def test_held_out_documents_are_never_drawn(stores, tmp_path):
    store, share = stores[0], 0.3
    sql = f"SELECT doc_id::VARCHAR AS id FROM documents WHERE {held_out_predicate(share)}"
    out = set(store.sql(sql).arrow()["id"].to_pylist())
    assert 0.15 < len(out) / (N + 60) < 0.45
    for mix in (
        Mix(critic="numbers"),
        Mix(
            critic="numbers", corpus="code", schedule=[{"share": 0.5, "where": {"all": "row > 3"}}]
        ),
    ):
        plan = plan_mix(mix, 40 * BATCH, store=store, batch=BATCH, holdout=share)
        with MixStream(plan, None, store=store.root, local=tmp_path / "l", batch_size=BATCH) as ds:
            drawn = {format_id(sample["doc_id"]) for sample in ds}
        assert drawn
        assert not drawn & out
        measured = held_out_documents(store, mix, share, (0.0, 0.5, 1.0), 1000)
        assert measured
        assert {format_id(doc.doc_id) for doc in measured} <= out


@pytest.mark.parametrize("has_other", [False, True], ids=["alone", "with-one-critic"])
def test_labels_precede_a_judge_in_samples(tmp_path, has_other):
    store = critiqued_store(tmp_path / "store", 120)
    labeled = {30: 0.75, 31: 0.25, 99: 0.5}
    for number, score in labeled.items():
        doc_id = format_id(document_id(f"doc {number} text"))
        store.label(doc_id, by="ana", score=score, critique=f"label {number}")
    selections = [{"name": "corrected", "where": "n_chars > 0", "critic": ["human", "numbers"]}]
    if has_other:
        selections.append({"name": "judged", "where": "score >= 0.5", "critic": "numbers"})
    mix = Mix(store=store.root, selections=selections)
    plan = plan_mix(mix, 240, store=store)
    assert plan.mix.selections[0].critic == "human,numbers"
    seen = {}
    with MixStream(plan, local=tmp_path / "local", batch_size=1) as ds:
        samples = list(ds)
    for sample in samples:
        number = int(sample["text"].split()[1])
        seen.setdefault(number, set()).add((sample["critique"], sample["score"]))
    assert len(seen) == 120
    for number, found in seen.items():
        critiques = {critique for critique, _ in found}
        judged = "" if number % 50 == 49 else f"note {number % 3}"
        if number not in labeled:
            assert critiques == {judged}
        elif not has_other or number % 11 < 5 or number == 99:
            assert found == {(f"label {number}", labeled[number])}
        else:
            assert critiques <= {f"label {number}", judged}
    assert plan.documents == 120
    texts_again = sample_texts(store, plan, plan.order(0))
    assert len(texts_again) == 240


def test_held_out_documents_have_the_first_critique_of_an_order(tmp_path):
    store = critiqued_store(tmp_path / "store", 60)
    doc_id = format_id(document_id("doc 7 text"))
    store.label(doc_id, by="ana", score=0.125, critique="label 7")
    mix = Mix(store=store.root, snapshot=store.log.newest(), critic="human, numbers")
    found = held_out_documents(store, mix, 1.0, (0.0, 0.5, 1.0), 100)
    by_number = {int(one.text.split()[1]): one for one in found}
    assert len(by_number) == 60
    assert (by_number[7].score, by_number[7].critique) == (0.125, "label 7")
    assert by_number[8].critique == "note 2"
