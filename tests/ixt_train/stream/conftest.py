"""A store of numbered documents with critiques, and a plan over it."""

import tempfile

import pytest
from critiqued import critiqued_store
from numbers_stream import MIX, N

from ixt_data.mix import MixPlan, plan_mix
from ixt_data.store.store import Store


@pytest.fixture(autouse=True)
def own_tmpdir(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("t")  # A socket of a worker allows no long path.
    monkeypatch.setenv("TMPDIR", str(folder))
    monkeypatch.setattr(tempfile, "tempdir", str(folder))


@pytest.fixture(scope="module")
def store(tmp_path_factory) -> Store:
    return critiqued_store(tmp_path_factory.mktemp("stream") / "store", N)


@pytest.fixture
def plan(store) -> MixPlan:
    return plan_mix(MIX, 640, store=store, batch=32, epoch_samples=256)
