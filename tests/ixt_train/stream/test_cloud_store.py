"""A stream from a store on Google Cloud Storage, with workers that start without a fork."""

from pathlib import Path

import pytest
from critiqued import critiqued_store
from gcs_server import gcs
from numbers_stream import planned, stream
from torch.utils.data import DataLoader

from ixt_data.errors import StoreError
from ixt_data.mix import plan_mix
from ixt_data.mix.config import Mix
from ixt_train.stream.loading import data_loader


@pytest.mark.slow
def test_stream_from_a_cloud_equals_its_plan(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from ixt_data.storage.remote_files import open_bucket

    mix = Mix.model_validate({"critic": "numbers", "selections": [{"name": "all"}]})
    with gcs() as (_, account):
        monkeypatch.setenv("GOOGLE_SERVICE_ACCOUNT_KEY", account)
        monkeypatch.setenv("GOOGLE_ALLOW_HTTP", "true")
        monkeypatch.setenv("IXT_CACHE", str(tmp_path / "cache"))
        open_bucket.cache_clear()
        store = critiqued_store("gs://corpora/stream", n=60)  # type: ignore[arg-type]
        plan = plan_mix(mix, 64, store=store, batch=8)
        with stream(store, plan, tmp_path / "local") as ds:
            expected = [sample["doc_id"] for sample in ds[planned(plan)]]
        for workers in (0, 2):
            with stream(store, plan, tmp_path / f"local{workers}") as ds:
                loader = data_loader(ds, list, workers=workers)
                assert [s["doc_id"] for batch in loader for s in batch] == expected
        with stream(store, plan, tmp_path / "forked") as ds:
            forks = DataLoader(ds, batch_size=8, num_workers=1, collate_fn=list)
            with pytest.raises(StoreError, match="a forked process cannot use"):
                list(forks)
    open_bucket.cache_clear()
