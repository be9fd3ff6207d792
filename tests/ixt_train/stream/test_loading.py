"""Whole batches through a DataLoader: the same samples, with and without workers."""

import pickle
import tempfile

import numpy as np
import pytest
import torch
from critiqued import words_tokenizer
from numbers_stream import planned, stream

from ixt_data.errors import ConfigError
from ixt_data.mix import plan_mix
from ixt_train.conditioning.conditioner import Conditioner
from ixt_train.stream.column_batch import ColumnBatch
from ixt_train.stream.loading import data_loader
from ixt_train.stream.mix_stream import MixStream
from ixt_train.stream.packing import Collator

pytestmark = pytest.mark.stream


@pytest.fixture
def noisy(store, plan):
    condition = plan.mix.condition.model_copy(update={"noisy": 0.5, "dropout": 0.3})
    mix = plan.mix.model_copy(update={"condition": condition})
    return plan_mix(mix, 640, store=store, batch=32, epoch_samples=256)


@pytest.mark.parametrize("workers", [0, 1, 2, 3])
def test_column_batches_equal_the_samples(store, noisy, tmp_path, workers):
    with stream(store, noisy, tmp_path, batch_size=32) as ds:
        expected = ds[planned(noisy)]
        loader = data_loader(ds, workers=workers)
        found = [batch for _ in range(noisy.epochs) for batch in loader]
        assert len(loader) == noisy.epoch_samples // 32
    assert {type(batch) for batch in found} == {ColumnBatch}
    assert [len(batch) for batch in found] == [32] * 20
    assert [sample for batch in found for sample in batch] == expected
    first = found[0]
    assert first[3] == expected[3]
    assert first[-2:] == expected[30:32]
    assert first.texts("text") == [sample["text"] for sample in expected[:32]]
    assert first.doc_ids.tobytes() == b"".join(sample["doc_id"] for sample in expected[:32])
    pickled = pickle.dumps(first)
    assert list(pickle.loads(pickled)) == list(first)
    n_bytes = sum(len(sample[name]) for sample in first for name in ("text", "critique"))
    assert len(pickled) < n_bytes + 200 * len(first)


@pytest.mark.parametrize("workers", [1, 2])
def test_collated_batches_equal_those_without_workers(store, noisy, tmp_path, workers):
    tokenizer = words_tokenizer()
    conditioner = Conditioner(tokenizer, noisy.mix.condition)
    collate = Collator(tokenizer.pad_token_id, 32, "concat")
    with MixStream(noisy, conditioner, store=store.root, local=tmp_path, batch_size=32) as ds:
        expected = list(data_loader(ds, collate))
        ds.load_state_dict(ds.state_dict(0, True) | {"epoch": 0})
        found = list(data_loader(ds, collate, workers=workers, persistent_workers=True))
    assert len(found) == len(expected) == noisy.epoch_samples // 32
    for one, other in zip(found, expected, strict=True):
        assert one.keys() == other.keys()
        for key, value in one.items():
            if isinstance(value, torch.Tensor):
                assert torch.equal(value, other[key])
            else:
                assert np.array_equal(value, other[key])


def test_stream_that_has_read_batches_is_picklable(store, plan, tmp_path):
    with stream(store, plan, tmp_path, batch_size=32) as ds:
        expected = [sample for batch in data_loader(ds, workers=1) for sample in batch]
        ds.load_state_dict(ds.state_dict(0, True) | {"epoch": 0})
        copy = pickle.loads(pickle.dumps(ds))
        assert [sample for batch in data_loader(copy) for sample in batch] == expected


def test_persistent_workers_read_one_epoch_after_the_other(store, plan, tmp_path):
    with stream(store, plan, tmp_path, batch_size=32) as ds:
        loader = data_loader(ds, workers=2, persistent_workers=True)
        found = [int(d) for _ in range(plan.epochs) for batch in loader for d in batch.draws]
        assert ds.state_dict(32, True)["epoch"] == plan.epochs - 1
    assert found == planned(plan)


def test_loader_of_tokens_without_a_collator_raises(store, plan, tmp_path):
    conditioner = Conditioner(words_tokenizer(), plan.mix.condition)
    with (
        MixStream(plan, conditioner, store=store.root, local=tmp_path, batch_size=32) as ds,
        pytest.raises(ConfigError, match="Pass a Collator"),
    ):
        data_loader(ds)


def test_long_tmpdir_raises_before_a_worker_waits_forever(store, plan, tmp_path, monkeypatch):
    folder = tmp_path / ("long" * 20)
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    collate = Collator(0, 32)
    conditioner = Conditioner(words_tokenizer(), plan.mix.condition)
    with MixStream(plan, conditioner, store=store.root, local=tmp_path, batch_size=32) as ds:
        with pytest.raises(ConfigError, match="Set TMPDIR to a shorter folder"):
            data_loader(ds, collate, workers=1)
        assert next(iter(data_loader(ds, collate)))["input_ids"].shape[0] == 32


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize("is_tokens", [True, False])
def test_loader_state_resumes_after_any_batch(store, noisy, tmp_path, workers, is_tokens):
    tokenizer = words_tokenizer()
    conditioner = Conditioner(tokenizer, noisy.mix.condition) if is_tokens else None
    collate = Collator(tokenizer.pad_token_id, 32, "best_fit") if is_tokens else None

    def opened(name):
        return MixStream(noisy, conditioner, store=store.root, local=tmp_path / name, batch_size=32)

    def read(batch):
        return b"".join(batch["doc_ids"]) if is_tokens else batch.doc_ids.tobytes()

    with opened("a") as ds:
        loader = data_loader(ds, collate, workers=workers)
        states, found = [loader.state_dict()], []
        for _ in range(noisy.epochs):
            for batch in loader:
                found.append(read(batch))
                states.append(loader.state_dict())
    assert len(found) == 20
    for n_done in (0, 3, 8, 19):
        with opened(f"b{n_done}") as ds:
            loader = data_loader(ds, collate, workers=workers)
            loader.load_state_dict(states[n_done])
            assert loader.state_dict() == states[n_done]
            n_epochs = noisy.epochs - states[n_done]["epoch"]
            rest = [read(batch) for _ in range(n_epochs) for batch in loader]
            assert loader.state_dict() == states[20]
        assert rest == found[n_done:]
