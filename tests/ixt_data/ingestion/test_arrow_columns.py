"""Arrow types and values that few files have."""

from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet as pq
import pytest

from ixt_data.errors import ConfigError
from ixt_data.ingestion.corpus import ingest
from ixt_data.store.store import Store

TEXTS = ["x", "y", "z"]


def not_utf8() -> pa.Array:
    offsets = pa.array([0, 1, 2, 3], pa.int32()).buffers()[1]
    return pa.Array.from_buffers(pa.string(), 3, [None, offsets, pa.py_buffer(b"a\xffb")])


def write(folder: Path, kind: str, columns: dict[str, pa.Array]) -> Path:
    path = folder / f"a.{kind}"
    table = pa.table({"text": TEXTS} | columns)
    if kind == "parquet":
        pq.write_table(table, path)
    else:
        with pa.ipc.new_file(path, table.schema) as writer:
            writer.write_table(table)
    return path


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_nested_values_that_are_not_utf8_become_null_and_are_counted(
    store: Store, tmp_path: Path, kind: str
) -> None:
    columns = {
        "l": pa.ListArray.from_arrays(pa.array([0, 1, 2, 3]), not_utf8()),
        "m": pa.MapArray.from_arrays(pa.array([0, 1, 2, 3]), not_utf8(), not_utf8()),
        "s": pa.StructArray.from_arrays([not_utf8()], names=["a"]),
    }
    report = ingest(store, "web", [write(tmp_path, kind, columns)])
    assert report.remarks == [
        f"column {name}: values that are not UTF-8 became NULL" for name in "lms"
    ]
    assert store.sql("SELECT l, s FROM documents ORDER BY row").fetchall() == [
        (["a"], {"a": "a"}),
        (None, None),
        (["b"], {"a": "b"}),
    ]


@pytest.mark.parametrize("kind", ["parquet", "arrow"])
def test_id_that_is_not_utf8_is_rejected(store: Store, tmp_path: Path, kind: str) -> None:
    report = ingest(store, "web", [write(tmp_path, kind, {"id": not_utf8()})])
    assert (report.documents, report.quarantined) == (2, 1)
    assert store.sql("SELECT source_id FROM documents ORDER BY 1").fetchall() == [("a",), ("b",)]


def test_messages_that_are_not_utf8_are_rejected_alone(store: Store, tmp_path: Path) -> None:
    turns = [pa.array(["user", "assistant"] * 2), pa.array(["Hi", "Yes", "Hi", "No"])]
    wrong = pa.Array.from_buffers(
        pa.string(), 4, [None, turns[1].buffers()[1], pa.py_buffer(b"HiYesHi\xff\xff")]
    )
    messages = pa.ListArray.from_arrays(
        pa.array([0, 2, 4]),
        pa.StructArray.from_arrays([turns[0], wrong], names=["role", "content"]),
    )
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"messages": messages}), path)
    report = ingest(store, "web", [path])
    assert (report.documents, report.quarantined) == (1, 1)


def test_struct_with_a_repeated_field_is_refused(store: Store, tmp_path: Path) -> None:
    inner = pa.StructArray.from_arrays([pa.array([1, 2, 3])] * 2, names=["a", "a"])
    column = pa.StructArray.from_arrays([inner], names=["b"])
    with pytest.raises(ConfigError, match="column m: a struct has two fields 'a'"):
        ingest(store, "web", [write(tmp_path, "parquet", {"m": column})])
    assert store.log.newest() == 0


@pytest.mark.parametrize(
    ("column", "stored"),
    [
        (pa.array(["p", "", None], pa.string_view()), ["p", "", None]),
        (pa.array([b"\xff", b"", None], pa.binary_view()), [b"\xff", b"", None]),
        (pa.array([0, 86_400_001, None], pa.date64()), ["1970-01-01", "1970-01-02", "None"]),
        (pa.array([(1, 2, 3), None, None], pa.month_day_nano_interval()), ["[1,2,3]", None, None]),
    ],
)
def test_rare_type_is_read(
    store: Store, tmp_path: Path, column: pa.Array, stored: list[object]
) -> None:
    ingest(store, "web", [write(tmp_path, "arrow", {"v": column})])
    found = [value for (value,) in store.sql("SELECT v FROM documents ORDER BY row").fetchall()]
    assert found == stored or list(map(str, found)) == stored
