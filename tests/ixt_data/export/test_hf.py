"""The folder for Hugging Face datasets: its types, and its card."""

import datetime
import decimal
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from small_stores import Length, add_documents

from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import QueryError
from ixt_data.export import MatchedDocuments, export_hf
from ixt_data.ingestion import ingest
from ixt_data.store.store import Store


@pytest.fixture
def load(tmp_path: Path) -> Any:
    def load(folder: Path) -> datasets.Dataset:
        return datasets.load_dataset(str(folder), cache_dir=str(tmp_path / "cache"))["train"]

    return load


def test_hf_folder_is_opened_by_datasets(full: Store, tmp_path: Path, load: Any) -> None:
    report = export_hf(MatchedDocuments(full), tmp_path / "out", file_bytes=1)
    loaded = load(tmp_path / "out")
    assert report.documents == loaded.num_rows == 48
    assert len(list((tmp_path / "out/data").iterdir())) > 1
    by_text = {row["text"]: row for row in loaded}
    assert by_text["adopted 7"]["score"] == 0.9
    assert by_text["a"]["scores"] == [
        {"key": "length", "value": 1.0},
        {"key": "style", "value": 2.0},
    ]
    assert by_text["never read"]["score"] is None


def test_hf_folder_without_matches_is_refused(full: Store, tmp_path: Path) -> None:
    with pytest.raises(QueryError, match="no document matches"):
        export_hf(MatchedDocuments(full, where="false"), tmp_path / "out")
    assert list(tmp_path.glob("*out*")) == []


def test_hf_folder_keeps_types(store: Store, tmp_path: Path, load: Any) -> None:
    day = datetime.date(2024, 1, 2)
    written = pa.table(
        {
            "text": ["a"],
            "price": pa.array([decimal.Decimal("1.50")], pa.decimal128(9, 2)),
            "day": [day],
            "at": pa.array([datetime.datetime(2024, 1, 2)], pa.timestamp("us", "UTC")),
            "wide": pa.array([2**64 - 1], pa.uint64()),
            "raw": [b"\xff\x00"],
            "took": pa.array([1500], pa.duration("us")),
            "time": pa.array([datetime.time(10, 30)], pa.time64("us")),
            "tags": [["x", "y"]],
            "place": [{"lat": 1.5}],
            "pairs": pa.array([[("k", 1)]], pa.map_(pa.string(), pa.int64())),
            "uid": pa.array([b"0123456789abcdef"], pa.uuid()),
        }
    )
    pq.write_table(written, tmp_path / "in.parquet")
    ingest(store, "web", [tmp_path / "in.parquet"])
    export_hf(MatchedDocuments(store), tmp_path / "out")
    (row,) = load(tmp_path / "out")
    assert row["price"] == decimal.Decimal("1.50")
    assert (row["day"], row["wide"], row["raw"]) == (day, 2**64 - 1, b"\xff\x00")
    assert row["took"] == datetime.timedelta(microseconds=1500)
    assert row["time"] == datetime.time(10, 30)
    assert (row["tags"], row["place"]) == (["x", "y"], {"lat": 1.5})
    assert row["pairs"] == [{"key": "k", "value": 1}]
    assert row["uid"] == "30313233-3435-3637-3839-616263646566"


def test_card_states_what_was_selected(store: Store, tmp_path: Path) -> None:
    add_documents(store, [f"text {i}" for i in range(8)] + ["a", "raise"])
    annotate(store, "web", Length())
    export_hf(MatchedDocuments(store, where="n_chars > 0"), tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    _, header, body = card.split("---\n", 2)
    (config,) = yaml.safe_load(header)["configs"]
    assert config["data_files"] == [{"split": "train", "path": "data/*.parquet"}]
    assert "WHERE n_chars > 0" in body
    assert f"snapshot {store.snapshot().version}" in body
    assert "| web | test | 10 |" in body
    assert f"| length | {next(iter(store.snapshot().critics))} | length |" in body
    assert "| ok | 9 |" in body
    assert "0.6            8 ########################################" in body
    assert "0.1            1 #####" in body


def test_card_shows_a_hostile_source_as_text(store: Store, tmp_path: Path) -> None:
    (tmp_path / "in.jsonl").write_text('{"text": "a", "source": "x|y\\n# <b>`\\u001b[31m"}\n')
    ingest(store, "web", [tmp_path / "in.jsonl"])
    export_hf(MatchedDocuments(store), tmp_path / "out")
    card = (tmp_path / "out/README.md").read_text()
    assert r"| web | x\|y \# \<b\>\`\\x1b\[31m | 1 |" in card
