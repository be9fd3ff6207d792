"""Whether a critic prefers long documents that are not better, and who says so."""

import random
from pathlib import Path

import numpy as np
import pytest
from calibrated_store import as_json, ranks, run
from small_stores import add_documents

from ixt_data.analysis.bias_checks import measure_length_bias
from ixt_data.critics.base import EmbeddedCritic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import StoreError
from ixt_data.records import Critique
from ixt_data.store.store import Store


class Weighing(EmbeddedCritic):
    """Scores `17 word word ...` by quality, noise and length; quality follows the length, too."""

    def __init__(self, name: str, length: float = 0.0, noise: float = 0.0) -> None:
        self.name, self.length, self.noise = name, length, noise

    def config(self) -> dict:
        return {"length": self.length, "noise": self.noise}

    def judge(self, document):
        words = document.text.split()
        own = random.Random(f"quality {words[0]}").random()
        quality = 0.5 * own + 0.5 * len(words) / 60
        noise = random.Random(f"{self.name} {words[0]}").gauss(0, self.noise)
        score = 0.2 + 0.4 * quality + self.length * len(words) / 60 + noise
        return Critique(document.doc_id, critique="so", score=min(1.0, max(0.0, score)))


@pytest.fixture
def weighed(tmp_path: Path) -> Store:
    dice = random.Random(1)
    store = Store.init(tmp_path / "S")
    add_documents(
        store, [f"{i} " + "word " * dice.randrange(60) for i in range(500)], per_shard=250
    )
    critics = (("gold", 0, 0), ("fair", 0, 0.05), ("long", 0.3, 0.05), ("short", -0.3, 0.05))
    for name, length, noise in critics:
        annotate(store, "web", Weighing(name, length, noise))
    return store


def test_length_bias_is_what_the_gold_score_does_not_explain(weighed: Store) -> None:
    found = measure_length_bias(weighed, ["fair", "long", "short", "gold"], "gold")
    fair, long, short = found
    assert [one.is_biased for one in found] == [False, True, True]
    # Quality follows the length, so the plain correlation of a fair critic is high.
    assert (fair.plain or 0) > 0.5
    assert abs(fair.given_gold or 0) < 0.15
    assert (long.given_gold or 0) > 0.3
    assert (short.given_gold or 0) < -0.3
    rows = weighed.sql(
        "SELECT c.score, g.score, n_chars FROM documents JOIN critiques c USING (doc_id) "
        "JOIN critiques g USING (doc_id) WHERE c.critic = 'long' AND g.critic = 'gold'"
    ).fetchall()
    score, gold, length = (ranks(np.round(np.array(one), 9)) for one in zip(*rows, strict=True))
    rest = [one - np.polyval(np.polyfit(gold, one, 1), gold) for one in (score, length)]
    assert long.given_gold == pytest.approx(np.corrcoef(*rest)[0, 1], abs=1e-6)


def test_calibrate_warns_of_a_bias(weighed: Store, tmp_path: Path) -> None:
    page = tmp_path / "page.html"
    words = ("--critic", "fair", "--critic", "long", "--gold", "gold")
    found = as_json(weighed, *words)
    assert [one["is_biased"] for one in found["length_bias"]] == [False, True]
    assert "length_bias" not in as_json(weighed, "--critic", "fair")
    done = run(weighed, *words, "--plots", page)
    assert "Length bias" in done.stdout
    assert "warning: long prefers longer documents of the same gold score" in done.stderr
    assert "fair prefers" not in done.stderr
    assert "prefers long" in page.read_text()


def test_bias_needs_two_critics_and_documents(weighed: Store) -> None:
    with pytest.raises(StoreError, match="gold is the only critic"):
        measure_length_bias(weighed, ["gold"], "gold")
    with pytest.raises(StoreError, match="no critiques by 'golden'"):
        measure_length_bias(weighed, ["fair"], "golden")
    add_documents(weighed, ["1 word"], "few")
    annotate(weighed, "few", Weighing("few"))
    with pytest.raises(StoreError, match="0 documents have scores by few and by gold"):
        measure_length_bias(weighed, ["few"], "gold", corpora=["few"])


class Comparing(EmbeddedCritic):
    """Stands for a critic of comparisons: a share of them was won by the first document."""

    def __init__(self, name: str, first: float) -> None:
        self.name, self.first = name, first

    def config(self) -> dict:
        return {"first": self.first}

    def judge(self, document):
        wins = {"wins_as_first": 10 * self.first, "wins_as_second": 10 * (1 - self.first)}
        return Critique(document.doc_id, score=0.5, scores=wins)


def test_calibrate_warns_of_a_judge_that_prefers_the_first(weighed: Store, tmp_path: Path) -> None:
    found = as_json(weighed, "--critic", "fair")
    assert "position_bias" not in found
    (checks,) = found["bias_checks"]
    assert checks["position"] == "does not apply: it rates single documents"
    assert checks["length"] == "not measured: needs --gold"
    for name, first in (("even", 0.51), ("eager", 0.7)):
        annotate(weighed, "web", Comparing(name, first))
    words = ("--critic", "even", "--critic", "eager", "--critic", "fair")
    found = as_json(weighed, *words, "--gold", "fair")
    even, eager = found["position_bias"]
    checks = {one["critic"]: (one["length"], one["position"]) for one in found["bias_checks"]}
    assert checks["even"] == checks["eager"] == ("measured", "measured")
    assert checks["fair"][0] == "is the gold critic"
    assert (even["comparisons"], even["is_biased"], eager["is_biased"]) == (5000, False, True)
    assert eager["first_wins"] == pytest.approx(0.7)
    assert eager["low"] < 0.7 < eager["high"]
    done = run(weighed, *words, "--plots", tmp_path / "page.html")
    assert "warning: eager prefers the first document: the first one won 70%" in done.stderr
    assert "Position bias" in done.stdout
    assert "checks of biases:" in done.stdout
    assert "prefers the first" in (tmp_path / "page.html").read_text()
