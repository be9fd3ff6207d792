"""Records of a state: they become objects at the first use, and later changes are kept apart."""

from pathlib import Path

from ixt_data.log import Entry, RowsFile, Snapshot, checkpoint
from ixt_data.log.checkpoint_tables import CheckpointTable
from ixt_data.log.records import Records
from ixt_data.storage import LocalStorage


class Base:
    """Three records that count how often they are decoded."""

    decoded = 0

    @property
    def records(self) -> dict[str, int]:
        self.decoded += 1
        return {"a": 1, "b": 2, "c": 3}


def test_records_with_changes_equal_a_dict() -> None:
    records, base = Records(base_of := Base()), {"a": 1, "b": 2, "c": 3}
    assert records == base
    before = records.copy()
    records.discard("a")
    records.discard("unknown")
    records.add([("d", 4), ("b", 5)])
    assert list(records.items()) == [("b", 5), ("c", 3), ("d", 4)]
    records.add([("a", 6)])
    assert list(records) == ["b", "c", "d", "a"]
    assert records["a"] == records.get("a") == 6
    assert "unknown" not in records
    assert len(records) == 4
    records.discard("d")
    assert "d" not in records
    assert before == base
    assert base_of.decoded > 0


def test_changes_and_copies_decode_nothing() -> None:
    base = Base()
    records: Records[int] = Records(base)
    records.add([("d", 4)])
    records.discard("a")
    records.copy().add([("e", 5)])
    assert base.decoded == 0


def test_state_of_a_checkpoint_is_written_again_without_objects(
    tmp_path: Path, monkeypatch
) -> None:
    def entry(version: int) -> Entry:
        file = RowsFile(f"f{version}", "documents", "web", 1, 1, "", {"x": f"INT{version % 2}"})
        unit = f"u{version % 7}"
        return Entry(
            version, f"t{version}", "critique", unit=unit, rows_add=[file],
            rows_remove=[f"f{version - 5}"], units_remove=[f"u{(version + 3) % 7}"],
        )  # fmt: skip

    storage, state = LocalStorage(tmp_path), Snapshot()
    for version in range(1, 51):
        state.apply(entry(version))
    checkpoint.write(storage, state)
    with monkeypatch.context() as patched:
        patched.setattr(CheckpointTable, "records", None)
        opened = checkpoint.read(storage, 50)
        for version in range(51, 101):
            opened.apply(entry(version))
        checkpoint.write(storage, opened)
    for version in range(51, 101):
        state.apply(entry(version))
    again = checkpoint.read(storage, 100)
    assert again == state == opened
    assert [*again.rows] == [*state.rows]
