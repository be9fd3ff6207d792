import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ixt_data.ingestion import seen_ids
from ixt_data.ingestion.seen_ids import SeenIds

# Few values for each half, so that halves collide in every way.
HALVES = st.sampled_from([bytes(8), b"\0" * 7 + b"\1", b"\x80" + bytes(7), b"\xff" * 8])
IDS = st.one_of(st.binary(min_size=16, max_size=16), st.builds(bytes.__add__, HALVES, HALVES))


def array(ids):
    return np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16)


@settings(deadline=None, max_examples=150)
@given(st.lists(st.lists(IDS, max_size=30), max_size=20), st.integers(1, 40))
def test_equals_a_set(batches, memory_ids):
    known = set()
    with SeenIds(memory_ids=memory_ids) as seen:
        for batch in batches:
            expected = [id_ not in known and id_ not in batch[:i] for i, id_ in enumerate(batch)]
            assert seen.add_batch(array(batch)).tolist() == expected
            known.update(batch)
        assert len(seen) == len(known)


def test_many_ids_through_files(tmp_path, monkeypatch):
    monkeypatch.setattr(seen_ids, "MERGE_IDS", 1000)
    rng = np.random.default_rng(0)
    ids = rng.integers(0, 256, (60_000, 16), dtype=np.uint8)
    with SeenIds(tmp_path, memory_ids=4000) as seen:
        for start in range(0, len(ids), 700):
            assert seen.add_batch(ids[start : start + 700]).all()
        assert not seen.add_batch(ids[rng.permutation(len(ids))]).any()
        (folder,) = tmp_path.iterdir()
        # Merged files are gone, and there are few.
        assert len(list(folder.iterdir())) <= 6
    assert not list(tmp_path.iterdir())


def test_wrong_shape():
    with SeenIds() as seen, pytest.raises(ValueError, match=r"uint8\[n, 16\]"):
        seen.add_batch(np.zeros((3, 8), np.uint8))
