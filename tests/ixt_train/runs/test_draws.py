from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from ixt_data.records import document_id, format_id
from ixt_train.runs.draws import DrawWriter, read_draws

IDS = [document_id(str(i)) for i in range(20)]


def array(*ids: bytes) -> npt.NDArray[np.uint8]:
    return np.frombuffer(b"".join(ids), np.uint8).reshape(-1, 16)


def test_draws_are_read_in_order_with_all_ranks(tmp_path: Path) -> None:
    writers = [DrawWriter(tmp_path, rank) for rank in range(2)]
    for step in range(1, 4):
        for rank, writer in enumerate(writers):
            writer.add(step, array(IDS[step], IDS[10 + rank]))
            if step == 2:
                writer.flush()
    for writer in writers:
        writer.flush()
    expected = [format_id(IDS[i]) for i in (3, 10, 3, 11)]
    assert [step for step, _ in read_draws(tmp_path)] == [1, 2, 3]
    assert list(read_draws(tmp_path))[2] == (3, expected)


def test_resume_drops_draws_after_the_checkpoint(tmp_path: Path) -> None:
    writer = DrawWriter(tmp_path)
    for step in (1, 2, 3, 4):
        writer.add(step, array(*IDS[:2]))
        if step % 2 == 0:
            writer.flush()
    again = DrawWriter(tmp_path)
    again.start_after(2)
    assert [step for step, _ in read_draws(tmp_path)] == [1, 2]
    again.add(3, array(*IDS[2:4]))
    again.flush()
    assert list(read_draws(tmp_path))[-1] == (3, [format_id(i) for i in IDS[2:4]])
    with pytest.raises(ValueError, match="step 7 follows 3"):
        again.add(7, array(*IDS[:2]))


def test_resume_on_fewer_ranks_drops_the_draws_of_the_others(tmp_path: Path) -> None:
    for rank in range(4):
        writer = DrawWriter(tmp_path, rank, 4)
        for step in (1, 2):
            writer.add(step, array(IDS[rank]))
            writer.flush()
    for rank in range(2):
        writer = DrawWriter(tmp_path, rank, 2)
        writer.start_after(1)
        writer.add(2, array(*IDS[10 + 2 * rank :][:2]))
        writer.flush()
    expected = [(1, IDS[:4]), (2, IDS[10:14])]
    assert list(read_draws(tmp_path)) == [(s, [format_id(i) for i in ids]) for s, ids in expected]
