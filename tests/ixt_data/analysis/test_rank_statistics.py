"""Rank correlation as scipy has it, and intervals that contain the truth as often as they say."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from ixt_data.analysis.rank_statistics import rank_correlation, rank_interval


def test_correlation_is_that_of_scipy() -> None:
    rng = np.random.default_rng(4)
    a = rng.integers(0, 6, 300) / 5
    b = np.clip(np.round(a * 5 + rng.normal(0, 1.5, 300)), 0, 5) / 5
    assert rank_correlation(a, b) == pytest.approx(spearmanr(a, b).statistic, abs=1e-12)
    assert rank_correlation(a, np.zeros(300)) is None


def test_interval_contains_the_true_correlation_as_often_as_it_says() -> None:
    rng, hits, rounds, n = np.random.default_rng(7), 0, 500, 60
    pearson = 0.6
    truth = 6 / np.pi * np.arcsin(pearson / 2)  # Spearman's of two normals
    for _ in range(rounds):
        a = rng.normal(size=n)
        b = pearson * a + (1 - pearson**2) ** 0.5 * rng.normal(size=n)
        low, high = rank_interval(rank_correlation(a, b), n)
        assert low is not None
        assert high is not None
        hits += low <= truth <= high
    assert 0.92 < hits / rounds < 0.98
    assert rank_interval(None, 10) == (None, None)
    assert rank_interval(1.0, 10) == (1.0, 1.0)
    wide, narrow = rank_interval(0.5, 20, controls=1), rank_interval(0.5, 20)
    assert (wide[0] or 0) < (narrow[0] or 0)
