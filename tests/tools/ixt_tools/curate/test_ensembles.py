"""Ensembles: several critics as one, through the command line and real processes."""

import random
import sys
from pathlib import Path

import pytest
from critique_processes import kill_after_commits
from curated_store import run
from small_stores import add_documents
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.critics.base import EmbeddedCritic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import CriticError, MissingExtra, StoreError
from ixt_data.records import Critique
from ixt_data.store.store import Store
from ixt_tools.curate.ensemble_critic import EnsembleCritic
from ixt_tools.curate.ensembles import MIN_GOLD, build_ensemble


class Noisy(EmbeddedCritic):
    """Scores `page 17` by its number over 400, with noise of its own; it may refuse some."""

    def __init__(
        self, name: str, noise: float, shift: float = 0.0, refuses: int = 0, until: int = 10**9
    ) -> None:
        self.name, self.noise, self.shift = name, noise, shift
        self.refuses, self.until = refuses, until

    def config(self) -> dict:
        return {"noise": self.noise, "shift": self.shift, "refuses": self.refuses}

    def judge(self, document):
        n = int(document.text.split()[1])
        if (self.refuses and n % self.refuses == 0) or n >= self.until:
            return Critique(document.doc_id, "refused", error="declined")
        error = random.Random(f"{self.name} {n}").gauss(0, self.noise)
        score = min(1.0, max(0.0, n / 400 + error + self.shift))
        return Critique(document.doc_id, critique=f"{self.name} says {score:.2f}", score=score)


@pytest.fixture
def judged(tmp_path: Path) -> Store:
    """A store of 400 documents with three noisy critics, and gold scores of 200 of them."""
    store = Store.init(tmp_path / "S")
    pages = [f"page {i}" for i in range(400)]
    random.Random(3).shuffle(pages)
    add_documents(store, pages, per_shard=50)
    add_documents(store, pages[:200], "labelled", per_shard=200)
    for name in ("a", "b", "c"):
        annotate(store, "web", Noisy(name, 0.3))
    annotate(store, "labelled", Noisy("gold", 0.0))
    return store


MEMBERS = ("--critic", "a", "--critic", "b", "--critic", "c")


def words(store: Store, *more: object) -> tuple[object, ...]:
    return ("ensemble", "--store", store.root, "--corpus", "web", *more)


def failed(store: Store, *more: object) -> BaseException:
    done = CliRunner().invoke(build(), [*map(str, words(store, *more))])
    assert done.exception is not None
    return done.exception


def test_mean_is_a_critic_that_agrees_better_than_its_members(judged: Store) -> None:
    found = run(*words(judged, *MEMBERS, "--gold", "gold"))
    assert (found["documents"], found["ok"]) == (400, 400)
    assert set(found["missing_scores"].values()) == {0}
    own = found["agreement"]["spearman"]
    assert found["agreement"]["documents"] == 200
    assert all(one["spearman"] < own for one in found["member_agreements"])
    rows = judged.sql(
        "SELECT e.score, e.scores, e.critique, a.score, b.score, c.score FROM critiques e "
        "JOIN critiques a USING (doc_id) JOIN critiques b USING (doc_id) "
        "JOIN critiques c USING (doc_id) WHERE e.critic = 'ensemble' AND a.critic = 'a' "
        "AND b.critic = 'b' AND c.critic = 'c'"
    ).fetchall()
    assert len(rows) == 400
    for score, scores, critique, *members in rows:
        assert score == pytest.approx(sum(members) / 3)
        assert dict(scores) == dict(zip(found["members"], members, strict=True))
        closest = min(members, key=lambda one: abs(one - score))
        assert critique.endswith(f"says {closest:.2f}")
    (config,) = judged.sql("SELECT config FROM critics WHERE critic = 'ensemble'").fetchall()[0]
    assert found["members"][0] in str(config)
    # A mean does not depend on gold scores: nothing is left to do.
    again = run(*words(judged, *MEMBERS))
    assert (again["critic"], again["documents"], again["skipped_units"]) == (found["critic"], 0, 8)
    shown = CliRunner().invoke(build(), [*map(str, words(judged, *MEMBERS, "--gold", "gold"))])
    assert "agreement with the gold scores" in shown.stdout


def test_logistic_weights_the_better_critic(judged: Store) -> None:
    annotate(judged, "web", Noisy("good", 0.05))
    pair = ("--critic", "good", "--critic", "a", "--method", "logistic", "--gold", "gold")
    found = run(*words(judged, *pair, "--name", "fitted"))
    good, other, _ = found["combination"]["weights"]
    assert good > 2 * other
    assert 20 <= found["agreement"]["documents"] <= 60
    assert found["agreement"]["auc"] > 0.95
    assert run(*words(judged, *pair, "--name", "fitted"))["documents"] == 0
    assert run(*words(judged, *pair, "--name", "fitted", "--seed", 1))["documents"] == 400


def test_isotonic_calibrates_one_critic(judged: Store) -> None:
    annotate(judged, "web", Noisy("strict", 0.02, shift=-0.3))
    one = ("--critic", "strict", "--method", "isotonic", "--gold", "gold")
    found = run(*words(judged, *one, "--name", "calibrated"))
    (before,) = found["member_agreements"]
    assert found["agreement"]["mean_error"] < before["mean_error"] / 2
    assert found["combination"]["knots"] == sorted(found["combination"]["knots"])


def test_missing_scores_fail_or_are_estimated(judged: Store) -> None:
    annotate(judged, "web", Noisy("strict", 0.0, shift=-0.3, refuses=4))
    pair = ("--critic", "a", "--critic", "strict")
    found = run(*words(judged, *pair))
    assert list(found["missing_scores"].values()) == [0, 100]
    assert (found["ok"], found["failed"]) == (300, 100)
    rows = judged.sql(
        "SELECT DISTINCT status, error FROM critiques WHERE critic = 'ensemble' AND status <> 'ok'"
    ).fetchall()
    assert rows == [("missing_scores", f"no score by {found['members'][1]}")]
    estimated = run(*words(judged, *pair, "--min-scores", 1, "--name", "filled"))
    assert (estimated["ok"], estimated["failed"]) == (400, 0)
    ((flagged, moved),) = judged.sql(
        "SELECT count(*), avg(a.score - e.score) FROM critiques e JOIN critiques a USING (doc_id) "
        "WHERE e.critic = 'filled' AND a.critic = 'a' AND e.flags = ['estimated_score']"
    ).fetchall()
    assert flagged == 100
    # A document is not better because its strict critic is missing.
    assert 0.08 < moved < 0.2
    fitted = ("--method", "logistic", "--gold", "gold", "--min-scores", 1, "--name", "logistic")
    assert run(*words(judged, *pair, *fitted))["ok"] == 400


def test_late_scores_are_used_by_retry_failed(judged: Store) -> None:
    add_documents(judged, [f"page {i}" for i in range(400, 450)], per_shard=50)
    first = run(*words(judged, "--critic", "a", "--critic", "b"))
    assert (first["ok"], first["failed"]) == (400, 50)
    for name in ("a", "b"):
        annotate(judged, "web", Noisy(name, 0.3))
    later = run(*words(judged, "--critic", "a", "--critic", "b", "--retry-failed"))
    assert (later["critic"], later["ok"], later["failed"]) == (first["critic"], 50, 0)
    add_documents(judged, ["page 1000"], "none")
    alone = ("ensemble", "--store", judged.root, "--corpus", "none", *MEMBERS)
    assert run(*alone, code=1)["failed"] == 1


def test_killed_run_continues(tmp_path: Path) -> None:
    store = Store.init(tmp_path / "S")
    add_documents(store, [f"page {i}" for i in range(200)], per_shard=2)
    for name in ("a", "b"):
        annotate(store, "web", Noisy(name, 0.3))
    arguments = ("ensemble", "--corpus", "web", "--critic", "a", "--critic", "b", "--workers", 1)
    done = kill_after_commits(store, 3, tmp_path, *arguments)
    assert 3 <= done < 100
    found = run(*arguments, "--store", store.root)
    assert (found["units"], found["skipped_units"]) == (100 - done, done)
    rows = store.sql(
        "SELECT count(*), count(DISTINCT doc_id) FROM critiques_all WHERE critic = 'ensemble'"
    )
    assert rows.fetchall() == [(200, 200)]


def test_ensemble_refuses_what_does_not_fit(judged: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for more, error, message in (
        (("--critic", "a"), StoreError, "a mean needs two critics"),
        (("--critic", "a", "--critic", "a"), StoreError, "the same critic twice"),
        (("--critic", "a", "--critic", "x"), StoreError, "no critiques by 'x'"),
        ((*MEMBERS, "--min-scores", 4), StoreError, "4 scores of 3 critics: give 1 to 3"),
        ((*MEMBERS, "--name", "gold"), StoreError, "exists and is not an ensemble"),
        ((*MEMBERS, "--gold", "a"), StoreError, "of the ensemble and the gold"),
    ):
        found = failed(judged, *more)
        assert isinstance(found, error)
        assert message in str(found)
    add_documents(judged, [f"page {i}" for i in range(MIN_GOLD - 1)], "few")
    annotate(judged, "few", Noisy("few", 0.0))
    fit = ("--method", "logistic", "--gold")
    assert "29 documents have a score by few" in str(failed(judged, *MEMBERS, *fit, "few"))
    annotate(judged, "web", Noisy("flat", 0.0, shift=-5.0))
    assert "all 400 scores by flat are 0" in str(failed(judged, *MEMBERS, *fit, "flat"))
    assert "sides of 0.999" in str(failed(judged, *MEMBERS, *fit, "gold", "--cut", 0.999))
    for wrong in (("--method", "logistic"), ("--cut", 0.5)):
        arguments = [*map(str, words(judged, *MEMBERS, *wrong))]
        assert CliRunner().invoke(build(), arguments).exit_code == 2
    config = build_ensemble(judged, "web", ["a", "b"]).config
    with pytest.raises(CriticError, match="not a combination of scores"):
        EnsembleCritic(judged.root, config | {"combination": {}})
    with pytest.raises(CriticError, match="not that of an ensemble"):
        EnsembleCritic(judged.root, {})
    monkeypatch.setitem(sys.modules, "sklearn", None)
    assert isinstance(failed(judged, *MEMBERS, *fit, "gold"), MissingExtra)
    assert run(*words(judged, *MEMBERS))["ok"] == 400
