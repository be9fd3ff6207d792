import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ixt_data.mix.draw_counts import (
    expectations,
    lattice,
    round_draws,
    softmax,
    split_counts,
    spread_draws,
    systematic_counts,
)

weights = st.lists(st.sampled_from([0.0, 0.1, 1.0, 1.0, 3.7, 1e-3, 250.0]), min_size=1).map(
    np.array
)


@given(weights, st.integers(1, 5000), st.integers(0, 99))
def test_counts_are_within_one_of_their_expectation_and_sum_exactly(w, total, seed):
    if not w.any():
        w[0] = 1.0
    expected = expectations(w, total, None)
    counts = systematic_counts(expected, total, np.random.default_rng(seed))
    assert counts.sum() == total
    assert (np.abs(counts - w * total / w.sum()) < 1).all()
    assert (counts[w == 0] == 0).all()


@given(weights, st.integers(1, 20), st.floats(0, 1), st.integers(0, 99))
def test_no_document_is_drawn_more_often_than_the_cap(w, cap, share, seed):
    if not w.any():
        w[0] = 1.0
    total = max(1, int(share * cap * np.count_nonzero(w)))
    counts = systematic_counts(expectations(w, total, cap), total, np.random.default_rng(seed))
    assert counts.sum() == total
    assert counts.max() <= cap
    assert (counts[w == 0] == 0).all()


def test_a_whole_expectation_is_met_exactly():
    counts = systematic_counts(np.full(7, 3.0), 21, np.random.default_rng(0))
    assert (counts == 3).all()


def test_expectations_hold_over_many_seeds():
    expected = np.array([0.25, 1.5, 2.25])
    drawn = [systematic_counts(expected, 4, np.random.default_rng(seed)) for seed in range(4000)]
    assert np.mean(drawn, axis=0) == pytest.approx(expected, abs=0.04)


def test_softmax_prefers_high_scores_by_the_ratio_of_the_temperature():
    w = softmax(np.array([0.2, 0.7]), 0.5)
    assert w[1] / w[0] == pytest.approx(np.e)


@given(st.integers(1, 10_000))
def test_a_lattice_visits_every_place_once(total):
    step, inverse = lattice(total)
    assert len({step * i % total for i in range(total)}) == total
    assert step * inverse % total == 1 % total


@given(st.lists(st.integers(0, 20), min_size=1, max_size=50), st.data())
def test_a_split_keeps_every_count_and_spreads_it(counts, data):
    counts = np.array(counts)
    total = int(counts.sum())
    cut = data.draw(st.integers(0, total))
    first, second = split_counts(counts, [cut, total - cut], np.random.default_rng(0))
    assert (first + second == counts).all()
    assert first.sum() == cut
    if total:
        # A golden lattice is off by at most about the logarithm of its length (Kuipers and
        # Niederreiter 1974, ch. 2, theorem 3.4), whatever stretch of it is taken.
        assert np.abs(first - counts * cut / total).max() <= 2 + np.log2(total)


def test_a_group_that_cannot_deliver_gives_to_the_others_in_proportion():
    shares = np.array([[0.5], [0.4], [0.1]])
    given_ = spread_draws(np.array([100.0]), shares, np.array([10.0, np.inf, np.inf]))
    assert given_[:, 0] == pytest.approx([10, 72, 18])
    short = spread_draws(np.array([100.0]), shares, np.array([10.0, 20.0, 30.0]))
    assert short.sum() == pytest.approx(60)


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=4),
    st.lists(st.tuples(st.floats(0.1, 1), st.integers(0, 400)), min_size=1, max_size=5),
)
def test_whole_draws_fill_each_phase_or_stay_below_capacity(demand, groups):
    demand = np.array(demand)
    w = np.array([[g[0]] * len(demand) for g in groups])
    w /= w.sum(axis=0)
    capacity = np.array([float(g[1]) for g in groups])
    counts = round_draws(spread_draws(demand.astype(float), w, capacity), demand, capacity)
    assert (counts.sum(axis=1) <= capacity).all()
    assert (counts.sum(axis=0) <= demand).all()
    if capacity.sum() >= demand.sum():
        assert (counts.sum(axis=0) == demand).all()
