"""`ixt calibrate`: figures that can be checked manually, canaries, the page, and quantiles."""

from typing import Any

import numpy as np
import pytest
from calibrated_store import Judge, as_json, by_length, noisy, ranks, run, text_of, three

from ixt_data.analysis.calibration import calibrate
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import StoreError
from ixt_data.store.store import Store


def weighted_kappa(x: Any, y: Any, top: int = 5) -> float:
    """Cohen's definition, by the table of both."""
    observed = np.zeros((top + 1, top + 1))
    np.add.at(observed, (x, y), 1 / len(x))
    expected = np.outer(observed.sum(1), observed.sum(0))
    weights = np.subtract.outer(np.arange(top + 1), np.arange(top + 1)) ** 2
    return float(1 - (weights * observed).sum() / (weights * expected).sum())


def test_calibration_matches_the_definitions(store: Store) -> None:
    x = np.array([by_length(text_of(i))[0] for i in range(400)])
    y = np.array([noisy(text_of(i))[0] for i in range(400)])
    n = np.array([len(text_of(i)) for i in range(400)])
    found = as_json(store, "--critic", "length", "--critic", "noisy")
    (pair,) = found["pairs"]
    assert pair["all"]["documents"] == 400
    assert pair["all"]["kappa"] == pytest.approx(weighted_kappa(x, y))
    rank = np.corrcoef(ranks(x), ranks(y))[0, 1]
    assert pair["all"]["spearman"] == pytest.approx(rank)
    assert pair["all"]["mean_difference"] == pytest.approx((x - y).mean() / 5)
    assert pair["all"]["exact"] == pytest.approx((x == y).mean())
    even = pair["by_source"][0]
    assert (even["source"], even["documents"]) == ("even", 200)
    assert even["kappa"] == pytest.approx(weighted_kappa(x[::2], y[::2]))
    rank = np.corrcoef(ranks(x[::2]), ranks(y[::2]))[0, 1]
    assert even["spearman"] == pytest.approx(rank)
    assert np.array(pair["confusion"])[2, 1] == ((x == 2) & (y == 1)).sum()
    scores = found["critics"][0]
    slope, intercept = np.polyfit(np.log(n), x / 5, 1)
    assert (scores["slope"], scores["intercept"]) == pytest.approx((slope, intercept))
    assert scores["r2"] == pytest.approx(np.corrcoef(np.log(n), x)[0, 1] ** 2)
    assert (scores["coverage"], scores["samples"]) == (1.0, None)
    assert scores["histogram"] == np.bincount(x, minlength=6).tolist()


def test_calibration_compares_only_shared_documents(store: Store) -> None:
    lazy = Judge("lazy", lambda text: [] if text.startswith("1") else [3])
    annotate(store, "web", lazy)
    left_out = sum(str(i).startswith("1") for i in range(400))
    found = calibrate(store, ["length", "lazy"])
    assert found.critics[1].failed == left_out
    assert found.critics[1].coverage == pytest.approx(1 - left_out / 400)
    pair = found.pairs[0].all
    assert pair.documents == 400 - left_out
    # A constant critic agrees as by chance, and has no rank correlation.
    assert (pair.kappa, pair.spearman) == (pytest.approx(0, abs=1e-9), None)


def test_calibration_of_thinking_samples(store: Store) -> None:
    annotate(store, "web", Judge("thinker", three))
    found = as_json(store, "--critic", "thinker")
    (scores,) = found["critics"]
    drawn = np.array([three(text_of(i)) for i in range(400)])
    pairs = [weighted_kappa(drawn[:, i], drawn[:, j]) for i, j in ((0, 1), (0, 2), (1, 2))]
    samples = scores["samples"]
    assert (samples["documents"], samples["max_samples"]) == (400, 3)
    assert samples["kappa"] == pytest.approx(np.mean(pairs))
    assert samples["spread"] == pytest.approx(drawn.std(axis=1).mean() / 5)
    assert "Thinking samples" in run(store, "--critic", "thinker").stdout


def test_calibration_compares_versions_by_id(store: Store) -> None:
    annotate(store, "web", Judge("length", noisy, version=2))
    old, new = store.snapshot().critic_ids("length")
    found = as_json(store, "--critic", old, "--critic", new)
    assert found["pairs"][0]["all"]["kappa"] < 1
    assert as_json(store, "--critic", "length", "--critic", new)["pairs"][0]["all"]["kappa"] == 1
    with pytest.raises(StoreError, match="critics: length, noisy"):
        calibrate(store, ["lenght"])
    with pytest.raises(StoreError, match="no critiques in snapshot 1"):
        calibrate(store, at=1)
