import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ixt_data.critics.base import EmbeddedCritic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import MixError
from ixt_data.mds.shards import TEXT_COLUMNS
from ixt_data.mix import (
    Mix,
    decode,
    held_out_predicate,
    observed_feedback,
    plan_mix,
    render_plan,
    samples_of,
)
from ixt_data.records import Critique, document_id
from ixt_data.store.store import Store

N = 330
HIGH = {"name": "high", "where": "score >= 0.8", "weight": 0.6}
REST = {"name": "rest", "where": "score < 0.8", "weight": 0.4}


class Numbers(EmbeddedCritic):
    name = "numbers"

    def config(self):
        return {}

    def judge(self, document):
        n = int(document.text.split()[1])
        return Critique(document.doc_id, critique=f"note {n % 3}", score=n % 11 / 10)


def ingest(store: Store, corpus: str, texts: list[str], shard: int = 30) -> None:
    with store.begin("ingest") as txn:
        family = txn.family("text", corpus, TEXT_COLUMNS)
        for start in range(0, len(texts), shard):
            part = texts[start : start + shard]
            for text in part:
                row = {"doc_id": document_id(text), "source": "", "source_id": "", "text": text}
                family.write(row)
            path, n = family.cut().path, len(part)
            ids = pa.array([document_id(text) for text in part], pa.binary(16))
            rows = {
                "doc_id": pa.ExtensionArray.from_storage(pa.uuid(), ids),
                "corpus": [corpus] * n,
                "stage": ["pretrain"] * n,
                "source": [""] * n,
                "source_id": [""] * n,
                "n_bytes": pa.array([len(text) for text in part], pa.int64()),
                "n_chars": pa.array([len(text) for text in part], pa.int64()),
                "shard": [path] * n,
                "row": pa.array(range(n), pa.int32()),
                "path": [f"/{text}" for text in part],
            }
            txn.add_rows("documents", corpus, pa.table(rows))
        txn.commit()


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    store = Store.init(tmp_path_factory.mktemp("mix") / "store")
    ingest(store, "web", [f"doc {i} text" for i in range(N)])
    annotate(store, "web", Numbers())
    store.tag("v1")
    ingest(store, "code", [f"code {i}" for i in range(60)])
    return store


def mix(*selections: dict, **more) -> Mix:
    settings = {"snapshot": "v1", "critic": "numbers", "selections": selections} | more
    return Mix.model_validate(settings)


def scores(plan) -> np.ndarray:
    """The score of each draw, in order; documents stand in the order of their numbers."""
    draws = np.concatenate([plan.order(epoch) for epoch in range(plan.epochs)])
    places = []
    for text, _ in plan.shards:
        first = int(text.path.split("shard.")[1].split(".")[0]) * 30
        places.append(first + np.arange(text.samples))
    return np.concatenate(places)[samples_of(draws)] % 11 / 10


def test_shares_are_exact(store):
    plan = plan_mix(mix(HIGH, REST), 1000, store=store)
    assert (scores(plan) >= 0.8).sum() == 600
    summary = plan.summary()
    assert [part["samples"] for part in summary["selections"]] == [600, 400]
    assert [part["documents"] for part in summary["selections"]] == [90, 240]
    assert summary["selections"][0]["epochs"] == pytest.approx(600 / 90)
    assert summary["selections"][0]["weight"] == pytest.approx(0.6)
    assert (summary["snapshot"], summary["samples"], summary["documents"]) == (12, 1000, 330)
    assert summary["tokens_estimated"] is True


def test_each_document_has_the_selection_that_draws_it(store):
    both = {"name": "some", "where": "score between 0.5 and 0.9"}
    plan = plan_mix(Mix(store=store.root, critic="numbers", selections=[HIGH, REST, both]), 600)
    drawn = np.sum([order.counts for order in plan.orders], axis=0) > 0
    number = np.arange(N) % 11
    assert set(plan.drawn_for[drawn & (number > 9)].tolist()) == {1}
    assert set(plan.drawn_for[drawn & (number < 5)].tolist()) == {2}
    # Every one of them is drawn for `some`, and many for `rest` as well.
    assert set(plan.drawn_for[drawn & (number >= 5) & (number < 8)].tolist()) == {3, 4}
    assert not plan.drawn_for[~drawn].any()
    assert plan_mix(Mix(store=store.root, critic="numbers"), 330).drawn_for is None


def test_plans_repeat_exactly_and_the_digest_says_when_they_do_not(store):
    plan = plan_mix(mix(HIGH, REST), 1000, store=store)
    again = plan_mix(mix(HIGH, REST, store="/elsewhere"), 1000, store=Store.open(store.root))
    assert again.digest == plan.digest
    assert (again.order(0) == plan.order(0)).all()
    others = [
        plan_mix(mix(HIGH, REST, seed=18), 1000, store=store),
        plan_mix(mix(HIGH, REST), 1001, store=store),
        plan_mix(mix(HIGH, REST, snapshot=None, corpus="web"), 1000, store=store),
        plan_mix(mix(HIGH, {**REST, "weight": 0.5}), 1000, store=store),
        plan_mix(mix(HIGH, REST), 1000, store=store, holdout=0.1),
        plan_mix(mix(HIGH, REST), 1000, store=store, epoch_samples=500),
        plan_mix(mix(HIGH, REST), 1000, store=store, block=100),
    ]
    digests = {plan.digest, *(other.digest for other in others)}
    assert len(digests) == len(others) + 1


def test_the_digest_covers_the_counts_drawn(tmp_path):
    """Two stores with the same shard paths and other rows give other digests."""
    other = Store.init(tmp_path / "S")
    ingest(other, "web", ["text 1", "text 22", "text 333"])
    none = {"critic": None, "condition": {"kind": "none"}}
    wide = {"name": "all", "where": "n_chars > 6"}
    first = plan_mix(mix(wide, snapshot="1", **none), 6, store=other)
    counts = [order.counts.tolist() for order in first.orders]
    again = plan_mix(mix(wide, snapshot="1", **none), 6, store=other)
    assert again.digest == first.digest
    # The same predicate text over another value of the column.
    (file,) = [f for f in other.snapshot().rows.values() if f.table == "documents"]
    path = tmp_path / "S" / file.path
    rows = pq.read_table(path)
    chars = pa.array([7, 1, 7], pa.int64())
    at = rows.column_names.index("n_chars")
    pq.write_table(rows.set_column(at, "n_chars", chars), path, compression="zstd")
    changed = plan_mix(mix(wide, snapshot="1", **none), 6, store=other)
    assert [order.counts.tolist() for order in changed.orders] != counts
    assert changed.digest != first.digest


def test_by_default_each_document_is_drawn_about_once(store):
    plan = plan_mix(mix({"name": "all"}), store=store, batch=100)
    assert plan.samples == 300
    assert len(set(samples_of(plan.order(0)).tolist())) == 300


def test_epochs_cut_one_order_and_end_with_batches(store):
    plan = plan_mix(mix(HIGH, REST), 960, store=store, batch=32, epoch_samples=300)
    sizes = [len(plan.order(epoch)) for epoch in range(plan.epochs)]
    assert sum(sizes) == 960
    assert all(size % 32 == 0 and size <= 300 for size in sizes)
    draws = np.concatenate([plan.order(epoch) for epoch in range(plan.epochs)])
    assert len(set(draws.tolist())) == 960


def test_max_repeats_holds_over_the_run_and_the_others_draw_the_rest(store):
    limited = mix({**HIGH, "max_repeats": 2}, REST, schedule=[{"share": 0.3}, {"share": 0.3}])
    plan = plan_mix(limited, 1000, store=store)
    counts = np.bincount(samples_of(plan.order(0)))
    assert (scores(plan) >= 0.8).sum() == 180
    high = np.arange(N) % 11 >= 8
    assert counts[high].max() == 2
    assert any("max_repeats 2 x 90" in warning for warning in plan.warnings)
    with pytest.raises(MixError, match=r"needs 1,000 samples and gets 90.*90 documents x 1"):
        plan_mix(mix({**HIGH, "max_repeats": 1}), 1000, store=store)


def test_weight_zero_is_never_drawn_and_needs_no_documents(store):
    plan = plan_mix(mix(HIGH, {**REST, "weight": 0}), 500, store=store)
    assert (scores(plan) >= 0.8).all()
    plan_mix(mix(HIGH, {"name": "none", "where": "score > 7", "weight": 0}), 100, store=store)


def test_phases_have_their_own_weights_and_predicates(store):
    plan = plan_mix(
        mix(
            HIGH,
            REST,
            schedule=[
                {"share": 0.25, "weights": {"rest": 0}},
                {"share": 0.25, "where": {"rest": "score < 0.1"}, "weights": {"high": 0}},
            ],
        ),
        800,
        store=store,
    )
    drawn = scores(plan)
    assert plan.phases == (0, 200, 400, 800)
    assert (drawn[:200] >= 0.8).all()
    assert (drawn[200:400] == 0).all()
    assert (drawn[400:] >= 0.8).sum() == 240


def test_a_low_temperature_draws_the_best_more_often(store):
    flat = plan_mix(mix({"name": "all"}, weighting={"temperature": 1e6}), 3300, store=store)
    steep = plan_mix(mix({"name": "all"}, weighting={"temperature": 0.1}), 3300, store=store)
    assert np.bincount(samples_of(flat.order(0))).max() <= 11
    share = (scores(steep) == 1.0).mean()
    expected = np.exp(np.arange(11) / 10 / 0.1)
    assert share == pytest.approx(expected[-1] / expected.sum(), abs=0.02)


def test_cooldown_and_dropout_are_decided_by_draw(store):
    condition = {"dropout": 0.2, "cooldown": 0.1}
    plan = plan_mix(
        mix({"name": "all"}, condition=condition), 3000, store=store, epoch_samples=1700
    )
    draws = np.concatenate([plan.order(epoch) for epoch in range(plan.epochs)]).tolist()
    assert [decode(draw).cooled for draw in draws] == [False] * 2700 + [True] * 300
    given = np.array([plan.gives_feedback(draw) for draw in draws])
    assert not given[2700:].any()
    assert given[:2700].mean() == pytest.approx(0.8, abs=0.03)
    by_document = {}
    for draw in draws[:2700]:
        by_document.setdefault(decode(draw).sample, set()).add(plan.gives_feedback(draw))
    assert any(len(seen) == 2 for seen in by_document.values())


def test_held_out_documents_are_never_drawn(store):
    plan = plan_mix(mix({"name": "all"}), store=store, holdout=0.2)
    out = store.sql(
        f"SELECT count(*) AS n FROM documents WHERE {held_out_predicate(0.2)}", at="v1"
    ).arrow()
    assert plan.documents == N - out["n"][0].as_py()
    assert 0.1 * N < out["n"][0].as_py() < 0.3 * N


def test_corpora_and_missing_critiques(store):
    everything = mix({"name": "all"}, snapshot=None)
    assert plan_mix(everything, store=store).documents == N + 60
    code = plan_mix(mix({"name": "all"}, snapshot=None, corpus=["code"]), store=store)
    assert code.documents == 60
    assert [critique for _, critique in code.shards] == [None, None]
    unread = mix({"name": "unread", "where": "score IS NULL"}, snapshot=None)
    assert plan_mix(unread, store=store).documents == 60


def test_no_critique_shards_where_no_condition_reads_them(store):
    plan = plan_mix(mix(HIGH, condition={"kind": "none"}), 90, store=store)
    assert all(critique is None for _, critique in plan.shards)


def test_users_own_columns_are_in_scope(store):
    plan = plan_mix(mix({"name": "x", "where": "path LIKE '/doc 1%' -- of theirs"}), store=store)
    assert plan.documents == 111


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"where": "score >"}, "'x': 'score >' is refused"),
        ({"where": "nonsense = 1"}, "nonsense"),
        ({"where": "true; DROP TABLE documents"}, "is refused"),
        ({"where": "1) FROM documents; SELECT (1"}, "is refused"),
        ({"where": "score > 3"}, "no document of web .*satisfies 'score > 3'"),
    ],
)
def test_a_predicate_that_does_not_work_is_named(store, settings, said):
    with pytest.raises(MixError, match=said):
        plan_mix(mix({"name": "x", **settings}), store=store)


def test_holdout_that_leaves_nothing_is_named(store):
    with pytest.raises(MixError, match=r"outside of the holdout of 0.999999 satisfies"):
        plan_mix(mix({"name": "x", "where": "true"}), store=store, holdout=0.999999)


def test_what_is_not_in_the_snapshot_is_named_with_what_is(store):
    with pytest.raises(MixError, match=r"corpus: no 'wb' .*web"):
        plan_mix(mix(HIGH, corpus="wb"), store=store)
    with pytest.raises(MixError, match=r"critic: .*'quality'.*numbers"):
        plan_mix(mix(HIGH, critic="quality"), store=store)
    with pytest.raises(MixError, match="Nearest: 960 or 992"):
        plan_mix(mix(HIGH), 970, store=store, batch=32)
    with pytest.raises(MixError, match="Without `critic:`"):
        plan_mix(mix(HIGH, critic=None, condition={"kind": "none"}), store=store)


def test_the_critic_can_be_named_by_its_id(store):
    critic = next(iter(store.snapshot("v1").critics))
    by_id, by_name = (
        plan_mix(mix(HIGH, critic=critic), 90, store=store),
        plan_mix(mix(HIGH), 90, store=store),
    )
    assert by_id.shards == by_name.shards


def test_observed_feedback_is_the_most_frequent_of_the_extreme_bins(store):
    assert observed_feedback(store, mix(HIGH, REST)) == {
        "best": (1.0, "note 0"),
        "worst": (0.0, "note 0"),
    }
    assert observed_feedback(store, mix(HIGH))["worst"][0] == 0.8


def test_the_tree_shows_what_is_drawn(store):
    tree = render_plan(plan_mix(mix(HIGH, REST, schedule=[{"share": 0.5}]), 1000, store=store))
    assert "1,000 samples" in tree
    assert "600 samples (60.0%) = 90 documents x 6.67 [score >= 0.8]" in tree
    assert "phase 2: samples 500 to 1,000" in tree
