from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ixt_data.errors import MixError
from ixt_data.mix.order import MAX_OCCURRENCE, PhaseOrder, decode, regime_bits, samples_of
from ixt_data.mix.random_numbers import RandomNumbers

shard_counts = st.lists(
    st.lists(st.integers(0, 9), min_size=1, max_size=12), min_size=1, max_size=12
).filter(lambda shards: any(map(any, shards)))


def order_of(
    shards: list[list[int]], seed: int = 0, block: int = 1000
) -> tuple[PhaseOrder, np.ndarray]:
    counts = np.concatenate([np.array(shard) for shard in shards])
    starts = np.cumsum([0, *map(len, shards[:-1])])
    return PhaseOrder(counts, starts, RandomNumbers(seed), block), counts


@given(shard_counts, st.data())
def test_pieces_hold_every_draw_once_however_they_are_cut(shards, data):
    order, counts = order_of(shards, block=data.draw(st.sampled_from([1, 10, 1000])))
    assert order.samples == counts.sum()
    cuts = data.draw(st.lists(st.integers(0, order.samples), max_size=5).map(sorted))
    bounds = [0, *cuts, order.samples]
    pieces = [order.draws(a, b) for a, b in pairwise(bounds)]
    assert [len(piece) for piece in pieces] == list(np.diff(bounds))
    draws = np.concatenate(pieces)
    assert draws.tolist() == order.draws(0, order.samples).tolist()
    assert len(set(draws.tolist())) == len(draws)
    assert (np.bincount(samples_of(draws), minlength=len(counts)) == counts).all()
    for draw in draws.tolist():
        assert decode(draw).occurrence < counts[decode(draw).sample]


def test_repeats_of_a_document_are_evenly_spread():
    rng = np.random.default_rng(3)
    order, counts = order_of([rng.integers(1, 9, 50).tolist() for _ in range(40)], block=500)
    pieces = np.array_split(np.arange(order.samples), 4)
    drawn = [
        np.bincount(samples_of(order.draws(int(p[0]), int(p[-1]) + 1)), minlength=len(counts))
        for p in pieces
    ]
    eight = counts == 8
    assert np.array(drawn)[:, eight].min() >= 1
    assert np.array(drawn)[:, eight].max() <= 3


def test_a_piece_reads_few_shards_when_each_document_is_drawn_once():
    order, _ = order_of([[1] * 100] * 50, block=256)
    piece = samples_of(order.draws(1000, 2000))
    assert len(set((piece // 100).tolist())) <= 13


def test_a_block_mixes_shards_and_ends():
    order, _ = order_of([[1] * 100] * 50)
    shard = samples_of(order.draws(0, 5000)) // 100
    spans = [np.flatnonzero(shard == s) for s in range(50)]
    # Some are cut by the beginning of the phase, and end with it.
    whole = [span[-1] - span[0] for span in spans if span[0] > 500 and span[-1] < 4500]
    assert len(whole) >= 30
    assert max(whole) < 1200


@pytest.mark.parametrize("at", [0, 1000, 2300, 4900])
def test_every_batch_mixes_as_many_shards_as_any_other(at):
    order, _ = order_of([[1] * 100] * 50)
    shard = samples_of(order.draws(at, at + 100)) // 100
    assert 9 <= len(set(shard.tolist())) <= 12


def test_nodes_keep_their_own_shards():
    order, _ = order_of([[1] * 100] * 8, block=100)
    draws = samples_of(order.draws(0, 800, nodes=4)) // 100
    assert all(len(set(draws[partition::4].tolist())) <= 4 for partition in range(4))
    assert sorted(draws.tolist()) == sorted((np.arange(800) // 100).tolist())


def test_numbers_carry_phase_and_cooldown():
    draw = decode(regime_bits(59, True) + 5)
    assert (draw.sample, draw.occurrence, draw.phase, draw.cooled) == (5, 0, 59, True)


def test_more_draws_of_one_document_than_a_number_can_hold_are_refused():
    with pytest.raises(MixError, match="max_repeats"):
        order_of([[MAX_OCCURRENCE]])
