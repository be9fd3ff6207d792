"""Distillation: a scorer learns a judge's rule, through the command line and real processes."""

import random
import sys
from pathlib import Path

import pytest
from critique_processes import kill_after_commits
from curated_store import WORDS, run
from small_stores import add_documents
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.critics.base import EmbeddedCritic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.errors import CriticError, MissingExtra, StoreError
from ixt_data.records import Critique
from ixt_data.store.store import Store
from ixt_tools.curate.distillation import MIN_JUDGED, Distillation, distill, read_judged
from ixt_tools.curate.distilled_critic import DistilledCritic

VOCABULARY = WORDS[:200]
GOOD = set(VOCABULARY[:100])


class Taste(EmbeddedCritic):
    """Scores a document by its share of good words."""

    def __init__(self, name: str = "taste", constant: bool = False) -> None:
        self.name, self.constant = name, constant

    def config(self) -> dict:
        return {"constant": self.constant}

    def judge(self, document):
        words = document.text.split()
        share = sum(word in GOOD for word in words) / len(words)
        return Critique(document.doc_id, critique="so", score=0.5 if self.constant else share)


def documents(n: int, seed: int = 0) -> list[str]:
    rng, texts = random.Random(seed), []
    for _ in range(n):
        share = rng.random()
        pools = (VOCABULARY[:100], VOCABULARY[100:])
        texts.append(" ".join(rng.choice(pools[rng.random() > share]) for _ in range(60)))
    return texts


@pytest.fixture
def judged(tmp_path: Path) -> Store:
    """A store of 400 documents in `web`; the judge has scored those that are in `sample`, too."""
    store = Store.init(tmp_path / "S")
    texts = documents(400)
    add_documents(store, texts, per_shard=25)
    add_documents(store, texts[:300], "sample", per_shard=100)
    annotate(store, "sample", Taste())
    return store


def trained(store: Store, **options: object) -> Distillation:
    return distill(store, read_judged(store, "taste"), **options)


def test_scorer_agrees_with_its_judge_and_is_a_critic(judged: Store) -> None:
    arguments = ("distill", "--store", judged.root, "--corpus", "web", "--critic", "taste")
    found = run(*arguments, "--workers", 2)
    agreement = found["agreement"]
    assert found["documents"] == 400
    assert 40 <= agreement["documents"] <= 80
    assert agreement["spearman"] > 0.85
    low, high = agreement["auc_interval"]
    assert 0.85 < low <= agreement["auc"] <= high <= 1
    assert agreement["cut"] == pytest.approx(0.5, abs=0.1)
    rows = judged.sql(
        "SELECT count(*), count(*) FILTER (critique = '' AND status = 'ok' AND score "
        "BETWEEN 0 AND 1) FROM critiques WHERE critic = 'taste-distilled'"
    ).fetchall()
    assert rows == [(400, 400)]
    # Documents that the judge has never seen.
    annotate(judged, "web", Taste("later"))
    (pair,) = run(
        *("calibrate", "--store", judged.root, "--corpus", "web"),
        *("--critic", "later", "--critic", "taste-distilled"),
    )["pairs"]
    assert pair["all"]["spearman"] > 0.85
    again = run(*arguments)
    assert (again["critic"], again["documents"]) == (found["critic"], 0)
    assert again["rounds"] == []
    shown = CliRunner().invoke(build(), [*arguments])
    assert "Spearman (95%)" in shown.stdout
    assert f"{agreement['spearman']:.3f}" in shown.stdout


def test_seed_and_sample_decide_the_scorer(judged: Store) -> None:
    first, same, other = trained(judged), trained(judged), trained(judged, seed=1)
    assert first.config == same.config
    assert first.config["scorer"] != other.config["scorer"]
    assert first.config["sample"]["judge"] == list(read_judged(judged, "taste").critics)
    annotate(judged, "web", Taste())
    assert trained(judged).config["sample"]["documents"] == 400
    assert read_judged(judged, "taste", ["sample"]).scores.shape == (300,)


def test_stored_scorer_scores_new_documents(judged: Store) -> None:
    found = run("distill", "--store", judged.root, "--corpus", "web", "--critic", "taste")
    add_documents(judged, documents(60, seed=9), "new")
    applied = run("distill", "--store", judged.root, "--corpus", "new", "--apply", found["critic"])
    assert (applied["critic"], applied["documents"]) == (found["critic"], 60)
    assert applied["agreement"] == found["agreement"]
    annotate(judged, "new", Taste())
    correlation = judged.sql(
        "SELECT corr(t.score, d.score) FROM critiques t JOIN critiques d USING (doc_id) "
        "JOIN documents USING (doc_id) WHERE corpus = 'new' AND t.critic = 'taste' "
        "AND d.critic = 'taste-distilled'"
    ).fetchall()[0][0]
    assert correlation > 0.85
    with pytest.raises(StoreError, match=r"no scorer 'taste'.*scorers: taste-distilled"):
        run_error(judged, "new", "--apply", "taste")
    with pytest.raises(StoreError, match="is a scorer itself"):
        read_judged(judged, "taste-distilled")


def run_error(store: Store, corpus: str, *more: object) -> None:
    """Run `ixt distill` and raise its error."""
    arguments = ["distill", "--store", store.root, "--corpus", corpus, *map(str, more)]
    done = CliRunner().invoke(build(), arguments)
    assert done.exception is not None
    raise done.exception


def test_killed_run_continues(tmp_path: Path) -> None:
    store = Store.init(tmp_path / "S")
    add_documents(store, documents(240), per_shard=3)
    add_documents(store, documents(150), "sample", per_shard=150)
    annotate(store, "sample", Taste())
    arguments = ("distill", "--corpus", "web", "--critic", "taste", "--workers", 1)
    done = kill_after_commits(store, 3, tmp_path, *arguments)
    assert 3 <= done < 80
    found = run(*arguments, "--store", store.root)
    assert (found["units"], found["skipped_units"]) == (80 - done, done)
    ids = store.sql("SELECT DISTINCT critic_id FROM critiques WHERE critic = 'taste-distilled'")
    assert ids.fetchall() == [(found["critic"],)]


def test_next_documents_are_saved_as_a_selection(judged: Store) -> None:
    arguments = ("distill", "--store", judged.root, "--corpus", "web", "--critic", "taste")
    found = run(*arguments, "--next", 40)
    assert (found["selection"], found["documents"]) == ("taste-distilled-next", 40)
    chosen = judged.sql('SELECT doc_id FROM selected."taste-distilled-next"').fetchall()
    known = judged.sql("SELECT doc_id FROM critiques WHERE critic = 'taste'").fetchall()
    assert len(set(chosen)) == 40
    assert not set(chosen) & set(known)
    assert run(*arguments, "--next", 40, "--save", "again")["documents"] == 40
    assert set(judged.sql("SELECT doc_id FROM selected.again").fetchall()) == set(chosen)
    assert run(*arguments, "--next", 500)["documents"] == 100
    with pytest.raises(StoreError, match="has judged all documents of sample"):
        run_error(judged, "sample", "--critic", "taste", "--next", 5)


def test_rounds_are_compared(tmp_path: Path) -> None:
    store = Store.init(tmp_path / "S")
    texts = documents(700)
    add_documents(store, texts, per_shard=350)
    arguments = ("distill", "--store", store.root, "--corpus", "web", "--critic", "taste")
    seen = []
    for i, end in enumerate((120, 600, 700)):
        add_documents(store, texts[:end], f"sample{i}", per_shard=end)
        annotate(store, f"sample{i}", Taste())
        found = run(*arguments)
        assert [one["spearman"] for one in found["rounds"]] == seen
        seen.append(found["agreement"]["spearman"])
    assert seen[1] > seen[0]
    assert found["has_converged"] == (seen[2] < max(seen[:2]) + 0.01)


def test_distillation_refuses_what_it_cannot_learn_from(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = Store.init(tmp_path / "S")
    add_documents(store, documents(MIN_JUDGED - 1))
    add_documents(store, documents(MIN_JUDGED + 50, seed=5), "more")
    annotate(store, "web", Taste())
    with pytest.raises(StoreError, match=r"99 documents have a score by taste; .* at least 100"):
        run_error(store, "web", "--critic", "taste")
    annotate(store, "more", Taste("flat", constant=True))
    with pytest.raises(StoreError, match=r"all 150 scores by flat are 0\.5"):
        run_error(store, "web", "--critic", "flat")
    with pytest.raises(StoreError, match="no critiques by 'other'"):
        run_error(store, "web", "--critic", "other")
    annotate(store, "more", Taste())
    with pytest.raises(StoreError, match="critic 'flat' exists and is not a scorer"):
        run_error(store, "web", "--critic", "taste", "--name", "flat")
    for wrong in (("--apply", "x", "--next", 3), (), ("--critic", "taste", "--save", "x")):
        arguments = ["distill", "--store", store.root, "--corpus", "web", *map(str, wrong)]
        assert CliRunner().invoke(build(), arguments).exit_code == 2
    config = trained(store).config
    with pytest.raises(CriticError, match="Train it again"):
        DistilledCritic(config | {"features": {}})
    with pytest.raises(CriticError, match="contains no scorer"):
        DistilledCritic(config | {"scorer": {"weights": "AAAA"}})
    monkeypatch.setitem(sys.modules, "sklearn", None)
    with pytest.raises(MissingExtra, match="curate"):
        run_error(store, "web", "--critic", "taste")
