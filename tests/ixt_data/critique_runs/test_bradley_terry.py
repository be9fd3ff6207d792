"""The design of pairs, and strengths from their results."""

import numpy as np
import pytest

from ixt_data.critique_runs.bradley_terry import (
    design_pairs,
    fit_strengths,
    largest_component,
)


@pytest.mark.parametrize(("n", "per_document"), [(500, 2), (500, 8), (501, 5), (50, 8), (6, 8)])
def test_pairs_connect_all_documents_within_the_budget(n: int, per_document: int) -> None:
    pairs = design_pairs(n, per_document, 0)
    assert len({frozenset(pair) for pair in pairs}) == len(pairs)
    assert all(a != b for a, b in pairs)
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    degree = np.bincount(first, minlength=n) + np.bincount(second, minlength=n)
    assert degree.max() <= per_document
    assert degree.mean() > 0.99 * min(per_document, n - 1)
    assert largest_component(n, first, second).all()
    assert pairs == design_pairs(n, per_document, 0)
    if n > 6:
        assert pairs != design_pairs(n, per_document, 1)


def test_all_pairs_of_two_documents() -> None:
    assert design_pairs(2, 2, 0) == [(0, 1)]


def test_strengths_are_recovered_from_random_results() -> None:
    rng = np.random.default_rng(5)
    truth = rng.normal(0, 1.5, 300)
    pairs = design_pairs(300, 40, 0)
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    chance = 1 / (1 + np.exp(truth[first] - truth[second]))
    found = fit_strengths(300, first, second, (rng.random(len(first)) < chance).astype(float))
    assert np.corrcoef(found, truth)[0, 1] > 0.95
    assert np.polyfit(truth, found, 1)[0] == pytest.approx(1, abs=0.15)


def test_fit_is_the_maximum_of_the_likelihood() -> None:
    pairs = design_pairs(12, 5, 3)
    first, second = (np.array(side) for side in zip(*pairs, strict=True))
    share = np.random.default_rng(1).random(len(first))
    strengths = fit_strengths(12, first, second, share)

    def log_likelihood(s: np.ndarray) -> float:
        against = s[second] - s[first]
        games = share * against - np.logaddexp(0, against)
        return float(games.sum() + (s / 2 - np.logaddexp(0, s)).sum())

    best = log_likelihood(strengths)
    for i in range(12):
        for step in (-0.01, 0.01):
            other = strengths.copy()
            other[i] += step
            assert log_likelihood(other) < best


def test_document_that_wins_all_has_a_finite_strength() -> None:
    first, second = np.array([0, 0, 1]), np.array([1, 2, 2])
    strengths = fit_strengths(3, first, second, np.array([0.0, 0.0, 0.0]))
    assert strengths[0] > strengths[1] > strengths[2]
    assert np.isfinite(strengths).all()


def test_sets_without_a_game_between_them_are_found() -> None:
    connected = largest_component(6, np.array([0, 1, 3]), np.array([1, 2, 4]))
    assert connected.tolist() == [True, True, True, False, False, False]
