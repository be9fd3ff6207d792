"""The order of samples is exact: whatever is drawn, however it is read, wherever it is killed."""

import json
import multiprocessing
import os
import random
import signal
import tempfile
from pathlib import Path

import numpy as np
import pytest
from critiqued import critiqued_store, words_tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch.utils.data import DataLoader

from ixt_data.mix import Mix, MixPlan, plan_mix
from ixt_data.records import parse_id
from ixt_data.store.store import Store
from ixt_train.conditioning.conditioner import Conditioner
from ixt_train.stream.mix_stream import MixStream
from ixt_train.stream.packing import Collator, batch_doc_ids
from ixt_train.stream.token_family import tokenize

pytestmark = pytest.mark.stream

N, BATCH = 300, 16
fork = multiprocessing.get_context("fork")


@pytest.fixture(autouse=True)
def own_tmpdir(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("t")  # A socket of a worker allows no long path.
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    store = critiqued_store(tmp_path_factory.mktemp("exact") / "store", N, per_shard=20)
    tokenize(store, words_tokenizer())
    return store


@st.composite
def mixes(draw: st.DrawFn) -> Mix:
    share = draw(st.sampled_from([0.0, 0.3, 0.9]))
    selections = [
        {"name": "high", "where": "score >= 0.7", "weight": draw(st.sampled_from([0.2, 1, 5]))},
        {"name": "odd", "where": "documents.row % 2 = 1", "weight": draw(st.sampled_from([0, 1]))},
    ]
    schedule = [{"share": 0.5, "weights": {"odd": 3.0}}] if draw(st.booleans()) else []
    return Mix(
        critic="numbers",
        selections=selections,
        schedule=schedule,
        weighting={"temperature": draw(st.sampled_from([None, 0.3]))},
        condition={"dropout": share, "noisy": share},
        seed=draw(st.integers(0, 2**32)),
    )


def planned(plan: MixPlan) -> list[int]:
    return np.concatenate([plan.order(epoch) for epoch in range(plan.epochs)]).tolist()


def open_stream(store: Store, plan: MixPlan, local: Path, size: int, plain: bool) -> MixStream:
    conditioner = None if plain else Conditioner(words_tokenizer(), plan.mix.condition)
    return MixStream(plan, conditioner, store=store.root, local=local, batch_size=size)


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    mix=mixes(),
    steps=st.integers(2, 40),
    epoch=st.sampled_from([BATCH, 5 * BATCH, 1 << 20]),
    block=st.sampled_from([1, 64, 1 << 18]),
    nodes=st.sampled_from([1, 2]),
    workers=st.sampled_from([0, 0, 1, 2]),
    size=st.sampled_from([4, 8, 16]),
    plain=st.booleans(),
    data=st.data(),
)
def test_any_plan_resumes_anywhere(
    store, mix, steps, epoch, block, nodes, workers, size, plain, data
):
    plan = plan_mix(
        mix, steps * BATCH, store=store, batch=BATCH, epoch_samples=epoch, block=block, nodes=nodes
    )
    expected = planned(plan)
    assert len(expected) == len(set(expected)) == steps * BATCH
    at = data.draw(st.integers(0, steps - 1)) * BATCH
    done, within = divmod(at, plan.epoch_samples)
    with tempfile.TemporaryDirectory() as folder:
        with open_stream(store, plan, Path(folder), size, plain) as ds:
            state = ds.state_dict(within, True) | {"epoch": done, "sample_in_epoch": within}
            some = ds[expected[at]]
        with open_stream(store, plan, Path(folder), size, plain) as ds:
            ds.load_state_dict(json.loads(json.dumps(state)))
            loader = DataLoader(ds, batch_size=size, num_workers=workers, collate_fn=list)
            found = [s for _ in range(plan.epochs - done) for batch in loader for s in batch]
    assert [sample["draw"] for sample in found] == expected[at:]
    assert {key: np.asarray(value).tolist() for key, value in some.items() if key != "doc_id"} == {
        key: np.asarray(value).tolist() for key, value in found[0].items() if key != "doc_id"
    }


def job(ds_of, log: Path, state_file: Path, workers: int, packing: str, kill_after: int) -> None:
    """A training job that records what it reads, and is killed in the middle of it."""
    with ds_of() as ds:
        at = {"epoch": 0, "sample_in_epoch": 0}
        if state_file.exists():
            at = json.loads(state_file.read_text())
            ds.load_state_dict(at)
        collate = Collator(0, 24, packing)
        loader = DataLoader(ds, batch_size=BATCH, num_workers=workers, collate_fn=collate)
        within = at["sample_in_epoch"]
        for epoch in range(at["epoch"], ds.plan.epochs):
            for batch in loader:
                # What Composer counts: source samples, from which the state is made.
                within += len(batch_doc_ids(batch))
                with log.open("a") as file:
                    file.write("".join(f"{row.tobytes().hex()}\n" for row in batch_doc_ids(batch)))
                if kill_after == 0:
                    os.kill(os.getpid(), signal.SIGKILL)
                kill_after -= 1
                state = ds.state_dict(within, True) | {"epoch": epoch, "sample_in_epoch": within}
                state_file.with_suffix(".part").write_text(json.dumps(state))
                state_file.with_suffix(".part").replace(state_file)
            within = 0
            following = state | {"epoch": epoch + 1, "sample_in_epoch": 0}
            state_file.write_text(json.dumps(following))


@pytest.mark.slow
@pytest.mark.parametrize("packing", ["pad", "concat"])
def test_ten_kills_keep_the_sequence(store, tmp_path, packing):
    chance = random.Random(packing)
    mix = Mix(critic="numbers", selections=[{"name": "all", "max_repeats": 9}])
    plan = plan_mix(mix, 80 * BATCH, store=store, batch=BATCH, epoch_samples=30 * BATCH)
    log, state = tmp_path / "log", tmp_path / "state.json"

    def ds_of() -> MixStream:
        return open_stream(store, plan, tmp_path / "local", BATCH, plain=False)

    for kill in range(11):
        workers = chance.choice([0, 1, 2])
        kill_after = chance.randrange(1, 8) if kill < 10 else -1
        process = fork.Process(target=job, args=(ds_of, log, state, workers, packing, kill_after))
        process.start()
        process.join(300)
        assert process.exitcode == (-signal.SIGKILL if kill < 10 else 0)
        if kill < 10:
            # As a checkpoint has it: what came after the state is read again.
            at = json.loads(state.read_text())
            done = at["epoch"] * plan.epoch_samples + at["sample_in_epoch"]
            log.write_text("".join(log.read_text().splitlines(keepends=True)[:done]))
    with ds_of() as ds:
        expected = [sample["doc_id"] for sample in ds[planned(plan)]]
    assert [parse_id(name) for name in log.read_text().split()] == expected
