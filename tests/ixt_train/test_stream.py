import json
import multiprocessing
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from dataclasses import replace
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from critiqued import Numbers, add_documents, critiqued_store, texts, words_tokenizer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from streaming import StreamingDataset
from torch.utils.data import DataLoader

from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import CorruptError, FingerprintError, MixError, StoreError
from ixt_data.log.snapshot import ShardInfo
from ixt_data.mix import Mix, MixPlan, decode, observed_feedback, plan_mix
from ixt_data.records import document_id
from ixt_data.store.store import Store
from ixt_train.conditioning.conditioner import Conditioner
from ixt_train.stream.families import index_entry
from ixt_train.stream.mix_stream import MixStream
from ixt_train.stream.packing import Collator, batch_doc_ids
from ixt_train.stream.token_family import tokenize

pytestmark = pytest.mark.stream

MIX = Mix(
    critic="numbers",
    selections=[
        {"name": "high", "where": "score >= 0.8", "weight": 0.6, "max_repeats": 6},
        {"name": "rest", "where": "score < 0.8 OR score IS NULL", "weight": 0.4},
    ],
)
N = 400


@pytest.fixture(autouse=True)
def own_tmpdir(tmp_path, monkeypatch):
    folder = tmp_path / "tmp"
    folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return critiqued_store(tmp_path_factory.mktemp("stream") / "store", N)


@pytest.fixture
def plan(store) -> MixPlan:
    return plan_mix(MIX, 640, store=store, batch=32, epoch_samples=256)


def stream(store: Store, plan: MixPlan, local: Path, batch_size: int = 8, **options) -> MixStream:
    return MixStream(plan, None, store=store.root, local=local, batch_size=batch_size, **options)


def draws(ds: MixStream, workers: int = 0, epochs: int | None = None) -> list[int]:
    loader = DataLoader(ds, batch_size=ds.batch_size, num_workers=workers, collate_fn=list)
    found = []
    for _ in range(ds.plan.epochs if epochs is None else epochs):
        batches = iter(loader)
        try:
            found += [sample["draw"] for batch in batches for sample in batch]
        finally:
            # Torch would keep the workers for as long as the error's traceback is looked at.
            if workers:
                batches._shutdown_workers()
    return found


def planned(plan: MixPlan) -> list[int]:
    return np.concatenate([plan.order(epoch) for epoch in range(plan.epochs)]).tolist()


def test_every_draw_comes_once_in_the_planned_order(store, plan, tmp_path):
    with stream(store, plan, tmp_path / "a") as ds:
        assert draws(ds) == planned(plan)
    with stream(store, plan, tmp_path / "b") as ds:
        assert draws(ds, workers=2) == planned(plan)
    assert len(set(planned(plan))) == 640


def test_each_sample_has_the_critique_of_its_own_document(store, plan, tmp_path):
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
def test_a_resume_anywhere_continues_with_the_next_draw(store, plan, step, workers, batch_size):
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


def test_a_state_may_be_older_than_the_stream(store, plan, tmp_path):
    with stream(store, plan, tmp_path) as ds:
        list(ds)
        state = ds.state_dict(64, True)
        list(ds)
        list(ds)
        ds.load_state_dict(state)
        epoch = plan.epoch_samples
        assert draws(ds, epochs=1) == planned(plan)[64:epoch]
        assert draws(ds, epochs=1) == planned(plan)[epoch : 2 * epoch]


def test_another_plan_or_tokenizer_is_refused(store, plan, tmp_path):
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


def rank(n: int, number: int, port: int, ds_of, answers) -> None:
    """One process of `n`; forked, since importing torch anew takes longer than the test."""
    world = {"WORLD_SIZE": n, "LOCAL_WORLD_SIZE": n, "RANK": number, "LOCAL_RANK": number}
    os.environ |= {key: str(value) for key, value in world.items()}
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    ds = ds_of(32 // n)
    loader = DataLoader(ds, batch_size=ds.batch_size, num_workers=1, collate_fn=list)
    epochs = range(ds.plan.epochs)
    answers.put((number, [[s["draw"] for s in batch] for _ in epochs for batch in loader]))


def global_batches(n: int, ds_of) -> list[list[int]]:
    """What `n` processes draw together, step by step."""
    fork = multiprocessing.get_context("fork")
    answers = fork.Queue()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    processes = [fork.Process(target=rank, args=(n, i, port, ds_of, answers)) for i in range(n)]
    for process in processes:
        process.start()
    per_rank = dict(answers.get(timeout=60) for _ in processes)
    for process in processes:
        process.join()
    return [list(chain(*parts)) for parts in zip(*per_rank.values(), strict=True)]


def test_two_ranks_draw_the_global_batches_of_one(store, plan, tmp_path):
    ours = global_batches(2, lambda size: stream(store, plan, tmp_path, size))
    expected = np.array(planned(plan)).reshape(-1, 32)
    assert [sorted(batch) for batch in ours] == np.sort(expected).tolist()


def test_two_ranks_go_on_where_one_stopped(store, plan, tmp_path):
    with stream(store, plan, tmp_path, 32) as ds:
        next(iter(ds))
        state = ds.state_dict(96, True)

    def resumed(size: int) -> MixStream:
        ds = stream(store, plan, tmp_path, size)
        ds.load_state_dict(state)
        return ds

    expected = np.array(planned(plan)).reshape(-1, 32)[3:]
    ours = global_batches(2, resumed)[: len(expected)]
    assert [sorted(batch) for batch in ours] == np.sort(expected).tolist()


@pytest.mark.slow
def test_two_nodes_of_two_ranks_draw_the_global_batches_of_one_process(store, plan, tmp_path):
    with stream(store, plan, tmp_path / "one", 32) as ds:
        state = ds.state_dict(96, True) | {"epoch": 1, "sample_in_epoch": 96}
    job = {
        "store": store.root, "mix": MIX.model_dump(mode="json"), "samples": plan.samples,
        "batch": 32, "epoch_samples": 256, "local": str(tmp_path), "out": str(tmp_path),
        "state": state,
    }  # fmt: skip
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    launch = [sys.executable, "-m", "torch.distributed.run", "--nnodes=2", "--nproc-per-node=2",
              "--master-addr=127.0.0.1", f"--master-port={port}"]  # fmt: skip
    script = str(Path(__file__).parents[1] / "support/one_rank.py")
    nodes = [
        subprocess.Popen([*launch, f"--node-rank={n}", script, json.dumps(job)],
                         stderr=subprocess.PIPE, text=True)
        for n in range(2)
    ]  # fmt: skip
    errors = [node.communicate(timeout=600)[1] for node in nodes]
    assert [node.returncode for node in nodes] == [0, 0], errors
    ranks = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(4)]
    expected = np.array(planned(plan)).reshape(-1, 32)
    for name, first in (("fresh", 0), ("resumed", (plan.epoch_samples + 96) // 32)):
        batches = zip(*(rank[name] for rank in ranks), strict=True)
        ours = [sorted(chain(*parts)) for parts in batches]
        assert ours == np.sort(expected[first:]).tolist()


@pytest.mark.parametrize("workers", [0, 4])
@pytest.mark.parametrize("harm", ["missing", "corrupt", "short"])
@pytest.mark.parametrize("family", ["text", "critique"])
def test_a_bad_shard_raises_and_names_its_path(tmp_path, workers, harm, family):
    store = critiqued_store(tmp_path / "store", 100)
    plan = plan_mix(Mix(critic="numbers"), 100, store=store)
    shard = plan.shards[1][0 if family == "text" else 1]
    path = Path(store.root, shard.path)
    data = path.read_bytes()
    if harm == "missing":
        path.unlink()
    else:
        path.write_bytes(data[:-9] if harm == "short" else data[:60] + b"\0\0" + data[62:])
    expected = StoreError if harm == "missing" else CorruptError
    raises = pytest.raises(expected, match=rf"{shard.path}.*ixt verify")
    with stream(store, plan, tmp_path / "local", batch_size=4) as ds, raises:
        draws(ds, workers)


@pytest.mark.parametrize("workers", [0, 4])
def test_bad_tokens_raise_and_name_their_path(tmp_path, workers):
    store, tokenizer = critiqued_store(tmp_path / "store", 100), words_tokenizer()
    tokenize(store, tokenizer)
    plan = plan_mix(Mix(critic="numbers"), 100, store=store)
    (path,) = [shard.path for shard in plan.token_shards.values()
               if shard.aligned_with == plan.shards[2][1].path]  # fmt: skip
    Path(store.root, path).write_bytes(b"")
    conditioner = Conditioner(tokenizer, plan.mix.condition)
    ds = MixStream(plan, conditioner, store=store.root, local=tmp_path / "local", batch_size=4)
    with ds, pytest.raises(CorruptError, match=rf"{path}.*0 bytes instead of.*ixt verify"):
        draws(ds, workers)


def test_a_moved_snapshot_is_refused_with_both_versions(tmp_path):
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


def die_midway(ds_of) -> None:
    batches = iter(DataLoader(ds_of(), batch_size=8, num_workers=2, collate_fn=list))
    next(batches)
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_killed_job_leaves_nothing_that_stops_the_next(store, plan, tmp_path):
    def ds_of() -> MixStream:
        return stream(store, plan, tmp_path)

    job = multiprocessing.get_context("fork").Process(target=die_midway, args=(ds_of,))
    job.start()
    job.join(30)
    assert job.exitcode == -signal.SIGKILL
    # What it left may be gone already: any stream that begins on this machine sweeps it.
    with ds_of() as ds:
        assert len(shared_by(tmp_path)) == 1
        assert draws(ds, workers=2) == planned(plan)
    assert not shared_by(tmp_path)


def shared_by(folder: Path) -> list[Path]:
    """Shared memory of streams that read into a folder."""
    found = Path("/dev/shm").glob("*_locals")
    return [path for path in found if str(folder).encode() in path.read_bytes()]


def test_a_short_file_in_the_local_folder_raises(store, plan, tmp_path):
    with stream(store, plan, tmp_path) as ds:
        ds.prepare_shard(0)
        path = Path(ds.shards[0].dirname, ds.shards[0].parts[0].raw_data.basename)
        path.write_bytes(path.read_bytes()[:-1])
        with pytest.raises(CorruptError, match=path.name):
            draws(ds)


def test_evicted_shards_come_back(store, plan, tmp_path):
    with stream(store, plan, tmp_path / "sizes") as ds:
        size = max(shard.get_max_size() for shard in ds.shards)
    with pytest.warns(UserWarning, match="cache_limit"):
        ds = stream(store, plan, tmp_path / "local", cache_limit=4 * size)
    with ds:
        assert draws(ds, workers=2) == planned(plan)
        assert ds.cache_usage <= 4 * size


def test_shards_without_draws_are_never_fetched(store, tmp_path):
    where = "documents.shard IN (SELECT min(shard) FROM documents)"
    mix = Mix(critic="numbers", selections=[{"name": "few", "where": where}])
    plan = plan_mix(mix, store=store)
    with stream(store, plan, tmp_path, batch_size=1) as ds:
        list(ds)
        assert len(plan.shards) == 1
        assert len(list(tmp_path.rglob("*.mds"))) == 2
    assert not list(tmp_path.rglob("*.mds"))


def test_the_local_folder_opens_in_stock_streaming(store, plan, tmp_path):
    with stream(store, plan, tmp_path / "local") as ds:
        shutil.copytree(ds.streams[0].local, tmp_path / "copy")
    stock = StreamingDataset(
        remote=store.root, local=str(tmp_path / "copy"), batch_size=1, validate_hash="xxh64"
    )
    assert {sample["text"] for sample in stock} == set(texts(N))


def test_a_folder_serves_one_stream_at_a_time(store, plan, tmp_path):
    with stream(store, plan, tmp_path), pytest.raises(StoreError, match="open there"):
        stream(store, plan, tmp_path)
    with stream(store, plan, tmp_path) as ds:
        held = str(ds.streams[0].local)
        code = "import sys, fcntl; fcntl.lockf(open(sys.argv[1], 'r+'), fcntl.LOCK_EX | 4)"
        done = subprocess.run([sys.executable, "-c", code, f"{held}/.lock"], capture_output=True)
        assert b"BlockingIOError" in done.stderr


def test_sizes_that_would_repeat_samples_are_refused(store, plan, tmp_path):
    with pytest.raises(MixError, match=r"global batch of 30.*630 or 660"):
        stream(store, plan, tmp_path, batch_size=30)


def test_names_that_lead_out_of_the_store_are_refused():
    index = {"samples": 1, "raw_data": {"basename": "../../../../x", "bytes": 1, "hashes": {}}}
    info = ShardInfo.from_index("shards/text/t", "text", "web", index)
    with pytest.raises(CorruptError, match="outside"):
        index_entry(info)


def test_tokens_are_the_same_however_they_are_read(store, tmp_path):
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
    told = np.array([opening in sample["input_ids"] for sample in samples])
    assert not told[480:].any()
    assert 0.55 < told[:480].mean() < 0.8


def test_batches_name_their_documents(store, plan, tmp_path):
    tokenizer = words_tokenizer()
    conditioner = Conditioner(tokenizer, MIX.condition)
    collate = Collator(tokenizer.pad_token_id, 32, "concat")
    with MixStream(plan, conditioner, store=store.root, local=tmp_path, batch_size=32) as ds:
        loader = DataLoader(ds, batch_size=32, collate_fn=collate)
        named = [name for batch in loader for name in batch_doc_ids(batch)]
    assert len(named) == plan.epoch_samples
    assert len(set(named)) == len({decode(d).sample for d in plan.order(0).tolist()})


def test_phases_change_what_is_drawn_at_exact_places(store, tmp_path):
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


def test_noisy_feedback_is_that_of_another_document(store, tmp_path):
    told = {}
    for noisy in (0.0, 0.3, 1.0):
        condition = MIX.condition.model_copy(update={"noisy": noisy})
        plan = plan_mix(MIX.model_copy(update={"condition": condition}), 640, store=store, batch=32)
        for workers in (0, 2):
            with stream(store, plan, tmp_path / f"{noisy}{workers}", batch_size=32) as ds:
                loader = DataLoader(ds, batch_size=32, num_workers=workers, collate_fn=list)
                found = [(s["text"], s["critique"], s["score"]) for b in loader for s in b]
                again = [ds[draw]["score"] for draw in planned(plan)]
            assert [score for _, _, score in found] == again
            told[noisy, workers] = found
        assert told[noisy, 0] == told[noisy, 2]

    def strange(found) -> float:
        own = {
            f"doc {i} text": None if i % 50 == 49 else pytest.approx(i % 11 / 10) for i in range(N)
        }
        return sum(own[text] != score for text, _, score in found) / len(found)

    assert strange(told[0.0, 0]) == 0
    assert 0.2 < strange(told[0.3, 0]) < 0.35
    # A neighbour may have the same score.
    assert strange(told[1.0, 0]) > 0.85


class Contrary(Numbers):
    """Judges as `Numbers`, the other way round."""

    name = "contrary"

    def judge(self, document):
        said = super().judge(document)
        score = None if said.score is None else 1 - said.score
        return replace(said, critique=said.critique.replace("note", "even"), score=score)


def test_selections_have_critics_of_their_own(tmp_path):
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
