"""Folders of datasets: saved by `datasets`, laid out as on the hub, and linked in its cache."""

from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from ixt_data.errors import ConfigError
from ixt_data.ingestion.corpus import ingest
from ixt_data.ingestion.fields import RejectedRecord
from ixt_data.ingestion.inputs import open_inputs
from ixt_data.records import Document
from ixt_data.store.store import Store

datasets.disable_progress_bars()


def read(*paths, **options):
    records = [record for source in open_inputs(paths, **options) for record in source]
    documents = [record for record in records if isinstance(record, Document)]
    return documents, [record for record in records if isinstance(record, RejectedRecord)]


@pytest.fixture(scope="module")
def dataset() -> datasets.Dataset:
    rows = {"text": [f"document {i}" for i in range(10)], "n": list(range(10))}
    return datasets.Dataset.from_dict(rows)


def test_saved_dataset(tmp_path, dataset):
    dataset.select(range(5, 8)).save_to_disk(tmp_path / "saved", num_shards=2)
    documents, rejected = read(tmp_path / "saved")
    assert [(d.text, d.metadata["n"]) for d in documents] == [
        (f"document {n}", n) for n in range(5, 8)
    ]
    assert rejected == []


def test_saved_splits_become_a_column(tmp_path, dataset):
    both = datasets.DatasetDict(train=dataset.select(range(6)), test=dataset.select(range(6, 10)))
    both.save_to_disk(tmp_path / "saved")
    documents, _ = read(tmp_path / "saved")
    assert [d.metadata["split"] for d in documents] == ["train"] * 6 + ["test"] * 4
    assert len({d.source_id for d in documents}) == 10
    (tmp_path / "saved" / "test" / "state.json").write_text(
        '{"_data_files": [{"filename":"../x"}]}'
    )
    with pytest.raises(ConfigError, match=r"names a file outside: '\.\./x'"):
        read(tmp_path / "saved")


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ("{}", "does not list its files"),
        ('{"_data_files": "x"}', "does not list its files"),
        ('{"_data_files": [5]}', "does not list its files"),
        ('{"_data_files": [{"filename": "gone.arrow"}]}', "names gone.arrow, which does not exist"),
        (
            '{"_data_files": [], "_indices_data_files": [{"filename": "indices.arrow"}]}',
            "selects some rows of its files",
        ),
    ],
)
def test_saved_dataset_with_another_state_is_refused(tmp_path, dataset, state, message):
    dataset.save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "state.json").write_text(state)
    with pytest.raises(ConfigError, match=message):
        read(tmp_path / "saved")


@pytest.mark.parametrize("splits", ["{}", '{"splits": 5}', '{"splits": ["../saved"]}'])
def test_saved_splits_elsewhere_are_refused(tmp_path, dataset, splits):
    datasets.DatasetDict(train=dataset).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "dataset_dict.json").write_text(splits)
    with pytest.raises(ConfigError, match=r"dataset_dict\.json .* does not list its splits"):
        read(tmp_path / "saved")


def write_hub_layout(folder: Path, dataset: datasets.Dataset) -> None:
    (folder / "data").mkdir(parents=True)
    dataset.to_parquet(folder / "data" / "train-00000-of-00001.parquet")
    dataset.to_json(folder / "data" / "validation.jsonl")
    (folder / "README.md").write_text("# A dataset card")
    (folder / ".gitattributes").write_text("*.parquet filter=lfs")
    (folder / "_SUCCESS").write_text("")


def test_hub_layout_is_a_dataset(tmp_path, dataset):
    write_hub_layout(tmp_path / "hub", dataset)
    documents, rejected = read(tmp_path / "hub")
    assert [d.metadata["split"] for d in documents] == ["train"] * 10 + ["validation"] * 10
    assert documents[0].source_id == "data/train-00000-of-00001.parquet:1"
    assert rejected == []
    documents, _ = read(tmp_path / "hub", format="jsonl")
    assert {d.metadata["split"] for d in documents} == {"validation"}
    with pytest.raises(ConfigError, match=r"no file with a name of the format csv: \.csv, \.tsv"):
        read(tmp_path / "hub", format="csv")


def test_cache_of_the_hub_is_read_through_its_links(tmp_path, dataset):
    repository = tmp_path / "datasets--x--y"
    blobs, snapshot = repository / "blobs", repository / "snapshots" / "0123abcd"
    blobs.mkdir(parents=True)
    (snapshot / "data").mkdir(parents=True)
    dataset.to_parquet(blobs / "5a5a")
    (snapshot / "data" / "train-00000-of-00001.parquet").symlink_to("../../../blobs/5a5a")
    documents, rejected = read(snapshot)
    assert len(documents) == 10
    assert rejected == []


def test_folder_with_one_text_is_a_folder_of_texts(tmp_path):
    (tmp_path / "a.jsonl").write_text('{"text": "record"}\n')
    (tmp_path / "main.py").write_text("print(1)\n")
    documents, rejected = read(tmp_path)
    assert [d.source_id for d in documents] == ["main.py"]
    assert [Path(r.file).name for r in rejected] == ["a.jsonl"]
    documents, rejected = read(tmp_path, format="text")
    assert [d.source_id for d in documents] == ["a.jsonl", "main.py"]
    with pytest.raises(ConfigError, match="folder of texts; options of fields"):
        read(tmp_path, text_field="body")


def test_partition_of_a_path_is_not_silently_lost(store: Store, tmp_path: Path) -> None:
    for year in (2023, 2024):
        (tmp_path / f"table/year={year}/lang=en").mkdir(parents=True)
        table = pa.table({"text": [f"text of {year}"]})
        pq.write_table(table, tmp_path / f"table/year={year}/lang=en/part.parquet")
    report = ingest(store, "web", [tmp_path / "table"])
    assert report.documents == 2
    assert [line for line in report.remarks if "=..." in line] == [
        f"the folders {name}=... of {tmp_path}/table are not a column: 2"
        for name in ("year", "lang")
    ]
    report = ingest(store, "other", [f"{tmp_path}/table/year=*/lang=en/*.parquet"])
    assert "the folders year=... of the path are not a column: 2" in report.remarks
