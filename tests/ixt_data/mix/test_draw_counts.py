import math
import os
import subprocess
import sys
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__

from ixt_data.mix.draw_counts import (
    count_draws,
    equal_weights,
    lattice,
    round_draws,
    softmax_weights,
    split_counts,
    spread_draws,
)
from ixt_data.mix.order import PhaseOrder
from ixt_data.mix.random_numbers import GOLDEN, RandomNumbers, mix_words

GOLDEN_WORDS = ["0x7c26edc8f54b2af2", "0x34c60fe4696a8f40", "0x6b29acc5b880e95d"]
GOLDEN_BELOW = (396, [3, 2, 4, 0, 5, 1])
GOLDEN_WEIGHTS = [39223970464, 90253410368, 207670921344, 1099511627776]
GOLDEN_COUNTS = [2, 3, 3, 4, 5, 7, 8, 9]
GOLDEN_ORDER = [
    5, 68719476739, 68719476743, 3, 0, 6, 68719476737, 4, 137438953475, 7, 1, 68719476742,
]  # fmt: skip

weights = st.lists(
    st.sampled_from([0, 1, 10, 10, 37, 2500, 2**40]) | st.integers(0, 2**40), min_size=1
).map(lambda drawn: np.array(drawn, np.int64))


def expectations(w, total: int, cap: int | None) -> list[Fraction]:
    """Expected draws by plain fractions: what `count_draws` must be within 1 of."""
    full: set[int] = set()
    while True:
        rest = sum(int(x) for i, x in enumerate(w) if i not in full)
        left = total - (cap or 0) * len(full)
        expected = [
            Fraction(cap or 0) if i in full else Fraction(int(x) * left, rest or 1)
            for i, x in enumerate(w)
        ]
        over = {i for i, e in enumerate(expected) if cap is not None and e > cap} - full
        if not over:
            return expected
        full |= over


@given(weights, st.integers(1, 1 << 40), st.integers(0, 99))
def test_counts_are_within_one_of_their_expectation_and_sum_exactly(w, total, seed):
    if not w.any():
        w[0] = 1
    counts = count_draws(w, total, None, RandomNumbers(seed)).tolist()
    assert sum(counts) == total
    pairs = zip(counts, expectations(w, total, None), strict=True)
    assert all(abs(count - expected) < 1 for count, expected in pairs)
    assert not any(count for count, weight in zip(counts, w, strict=True) if weight == 0)


@given(weights, st.integers(1, 20), st.floats(0, 1), st.integers(0, 99))
def test_no_document_is_drawn_more_often_than_the_cap(w, cap, share, seed):
    if not w.any():
        w[0] = 1
    total = max(1, int(share * cap * np.count_nonzero(w)))
    counts = count_draws(w, total, cap, RandomNumbers(seed)).tolist()
    assert sum(counts) == total
    assert max(counts) <= cap
    pairs = zip(counts, expectations(w, total, cap), strict=True)
    assert all(abs(count - expected) < 1 for count, expected in pairs)


def test_a_whole_expectation_is_met_exactly():
    assert (count_draws(equal_weights(7), 21, None, RandomNumbers(0)) == 3).all()


def test_expectations_hold_over_many_seeds():
    w = np.array([1, 6, 9], np.int64)
    drawn = [count_draws(w, 4, None, RandomNumbers(seed)) for seed in range(4000)]
    assert np.mean(drawn, axis=0) == pytest.approx([0.25, 1.5, 2.25], abs=0.04)


def test_counts_do_not_depend_on_the_chunks(monkeypatch):
    w = np.arange(1000, dtype=np.int64) ** 2
    whole = count_draws(w, 5000, 12, RandomNumbers(3))
    monkeypatch.setattr("ixt_data.mix.draw_counts._CHUNK", 7)
    assert count_draws(w, 5000, 12, RandomNumbers(3)).tolist() == whole.tolist()


@given(st.lists(st.floats(-5, 5), min_size=1, max_size=50), st.floats(0.05, 10))
def test_softmax_weights_equal_the_exponential(scores, temperature):
    w = softmax_weights(np.array(scores), temperature)
    expected = [math.exp((score - max(scores)) / temperature) * 2**40 for score in scores]
    assert w.tolist() == pytest.approx(np.maximum(expected, 1), rel=1e-8, abs=2)


def test_numbers_are_those_of_splitmix64():
    # The first output of the reference implementation for the seed 0.
    assert mix_words(np.array([GOLDEN], np.uint64)).tolist() == [0xE220A8397B1DCDAF]
    fractions = RandomNumbers(4).fractions(10_000)
    assert 0 <= fractions.min() < 0.001 < 0.999 < fractions.max() < 1
    assert np.histogram(fractions, 10)[0] == pytest.approx(1000, abs=150)
    assert sorted(RandomNumbers(4).permutation(500).tolist()) == list(range(500))
    assert RandomNumbers(1, 0).below(1 << 60) != RandomNumbers(0, 1).below(1 << 60)


def test_numbers_weights_counts_and_order_are_the_golden_ones():
    """The same on any machine, with any NumPy: a change here changes every train run's order."""
    numbers = RandomNumbers(1, 2, 3)
    assert [hex(word) for word in numbers.words(3).tolist()] == GOLDEN_WORDS
    assert (numbers.below(1000), numbers.permutation(6).tolist()) == GOLDEN_BELOW
    assert softmax_weights(np.array([0.0, 0.25, 0.5, 1.0]), 0.3).tolist() == GOLDEN_WEIGHTS
    w = softmax_weights(np.arange(8) / 8, 0.5)
    assert count_draws(w, 41, 9, RandomNumbers(5)).tolist() == GOLDEN_COUNTS
    counts = np.array([1, 2, 0, 3, 1, 1, 2, 2], np.uint8)
    order = PhaseOrder(counts, np.array([0, 4]), RandomNumbers(7), 6)
    assert order.draws(0, 12).tolist() == GOLDEN_ORDER


def test_golden_values_do_not_depend_on_the_instructions_of_the_processor():
    """NumPy chooses its code by what the processor has, and results may differ in the last bit."""
    dispatched = [name for name in __cpu_dispatch__ if __cpu_features__.get(name)]
    assert dispatched
    environment = os.environ | {"NPY_DISABLE_CPU_FEATURES": " ".join(dispatched)}
    test = f"{__file__}::{test_numbers_weights_counts_and_order_are_the_golden_ones.__name__}"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", test]
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


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
    first, second = split_counts(counts, [cut, total - cut], RandomNumbers(0))
    assert (first + second == counts).all()
    assert first.sum() == cut
    if total:
        # A golden lattice is off by at most about the logarithm of its length (Kuipers and
        # Niederreiter 1974, ch. 2, theorem 3.4), whatever stretch of it is taken.
        assert np.abs(first - counts * cut / total).max() <= 2 + np.log2(total)


def test_a_group_that_cannot_deliver_gives_to_the_others_in_proportion():
    shares = [[Fraction(5, 10)], [Fraction(4, 10)], [Fraction(1, 10)]]
    assert spread_draws([100], shares, [10, None, None]) == [[10], [72], [18]]
    assert sum(row[0] for row in spread_draws([100], shares, [10, 20, 30])) == 60


@given(
    st.lists(st.integers(0, 300), min_size=1, max_size=4),
    st.lists(st.tuples(st.integers(1, 10), st.integers(0, 400)), min_size=1, max_size=5),
)
def test_whole_draws_fill_each_phase_or_stay_below_capacity(demand, groups):
    total = sum(weight for weight, _ in groups)
    shares = [[Fraction(weight, total)] * len(demand) for weight, _ in groups]
    capacity = [limit for _, limit in groups]
    counts = round_draws(spread_draws(demand, shares, capacity), demand, capacity)
    assert (counts.sum(axis=1) <= capacity).all()
    assert (counts.sum(axis=0) <= demand).all()
    if sum(capacity) >= sum(demand):
        assert (counts.sum(axis=0) == demand).all()
