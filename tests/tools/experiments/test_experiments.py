"""The proof: its arms, its erring critic, its page, and the whole of it in its quick form."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import orjson
import pytest
from arms import ARMS, ArmContext, is_conditioned, train_arm_tokenizer
from corpora import CorpusFolder, SumsCorpus
from noisy_critic import NoisyArithmeticCritic
from results import SECTIONS, write_results
from run_list import ANNEAL, DECAY, PROOF, SPANS, list_runs, shorten_runs

from ixt_data.critics.arithmetic import ArithmeticCritic
from ixt_data.mix import plan_mix, samples_of
from ixt_data.records import Document, document_id
from ixt_tools.demo.clock_arithmetic import draw_documents
from ixt_train.conditioning.conditioner import tag_token
from ixt_train.conditioning.tokenizer import load_tokenizer
from ixt_train.conditioning.vocabulary import span_tags
from ixt_train.config import load_train_config
from ixt_train.scaling.curves import LearningCurve, write_curves

ROOT = Path(__file__).resolve().parents[3]


def test_every_arm_of_the_series_has_a_mix(tmp_path: Path) -> None:
    assert {arm for s in (PROOF, SPANS, ANNEAL) for arms in s.values() for arm in arms} == set(ARMS)
    corpus = CorpusFolder(tmp_path, SumsCorpus("small", 60, 0.5), 0, problems=5)
    store = corpus.prepare((10,))
    plan = ArmContext(store, corpus, corpus.count_good(), 10)
    mixes = {arm: make(plan) for arm, make in ARMS.items()}
    conditioned = {arm for arm, mix in mixes.items() if is_conditioned(mix)}
    assert conditioned == {arm for arm in ARMS if arm.startswith(("critique", "score"))}
    assert mixes["plain"].critic == "arithmetic"
    assert mixes["spans-wrong-10"].critic == "wrong_on_10"
    assert mixes["filter-x10"].condition.loss_by_verdict["right"] == 10
    # One vocabulary with all tags, so that all arms of a seed begin with the same weights.
    tokenizer = load_tokenizer(train_arm_tokenizer(plan))
    for mix in (mixes["plain"], mixes["spans-wrong-10"]):
        assert all(tag_token(tag) in tokenizer.get_vocab() for tag in span_tags(store, mix))


def test_anneal_draws_flawless_documents_alone_at_the_end(tmp_path: Path) -> None:
    corpus = CorpusFolder(tmp_path, SumsCorpus("small", 60, 0.5), 0, problems=5)
    store = corpus.prepare()
    plan = plan_mix(ARMS["anneal-30"](ArmContext(store, corpus, 30, 10)), 100, store=store)
    # The corpus is one shard.
    sql = "SELECT score >= 1 FROM documents JOIN critiques USING (doc_id) ORDER BY documents.row"
    is_good = np.array(store.sql(sql).fetchall())[:, 0]
    drawn = is_good[samples_of(np.concatenate([plan.order(i) for i in range(plan.epochs)]))]
    assert plan.phases == (0, 70, 100)
    assert drawn[70:].all()
    assert 0.3 < drawn[:70].mean() < 0.7


def test_annealed_runs_have_equal_steps_and_a_falling_rate(tmp_path: Path) -> None:
    runs = list_runs(ANNEAL, range(1), DECAY)
    assert {run.steps for run in runs} == {900}
    (short,) = shorten_runs(runs[:1], 60, 10)
    job = short.prepare(tmp_path, every=5, problems=5)
    config = load_train_config(job.config)
    assert (config.schedule.kind, config.schedule.decay, config.schedule.final) == ("wsd", 0.3, 0)
    assert config.stop is None
    assert short.group == "good200-decay"


def test_plans_are_unchanged_by_further_critics(tmp_path: Path) -> None:
    corpus = CorpusFolder(tmp_path, SumsCorpus("small", 60, 0.5), 0, problems=5)
    plans = []
    for wrong_on in ((), (10,)):
        plan = ArmContext(corpus.prepare(wrong_on), corpus, corpus.count_good(), 10)
        plans.append(
            [plan_mix(ARMS[arm](plan), store=plan.store).digest for arm in ("plain", "spans")]
        )
    assert plans[0] == plans[1]
    assert plan_mix(ARMS["spans-wrong-10"](plan), store=plan.store).digest not in plans[1]


def test_noisy_critic_errs_on_its_share_repeatably() -> None:
    rows = list(draw_documents(300, bad=0.5, seed=1, held_out=[]))
    documents = [Document(document_id(row["text"]), row["text"]) for row in rows]
    right = [critique.spans for critique in ArithmeticCritic().run(documents)]
    wrong = [critique.spans for critique in NoisyArithmeticCritic(20).run(documents)]
    pairs = [(a, b) for x, y in zip(right, wrong, strict=True) for a, b in zip(x, y, strict=True)]
    errs = sum((a.verdict, a.tag) != (b.verdict, b.tag) for a, b in pairs)
    assert errs / len(pairs) == pytest.approx(0.2, abs=0.02)
    assert wrong == [critique.spans for critique in NoisyArithmeticCritic("20").run(documents)]


def curve(arm: str, seed: int, accuracy: list[float]) -> LearningCurve:
    clock = tuple(100 * (i + 1) for i in range(len(accuracy)))
    return LearningCurve(
        arm=arm,
        group="good200",
        seed=seed,
        budget="9ba",
        parameters=1,
        documents=1,
        digest="",
        steps=clock,
        tokens=clock,
        flops=tuple(map(float, clock)),
        metrics={"tasks.sums": tuple(accuracy)},
    )


def test_the_page_keeps_its_prose_and_says_what_is_missed(tmp_path: Path) -> None:
    curves = [curve("plain", 0, [0, 0, 0]), curve("filter", 0, [0.3, 0.6, 0.9])]
    curves += [curve("spans-auto", 0, [0.2, 0.7, 0.8])]
    write_curves(tmp_path / "results" / "good200.jsonl", curves)
    page = write_results(tmp_path)
    page.write_text(page.read_text().replace("# Results\n", "# Results\n\nMy prose.\n"))
    once = write_results(tmp_path).read_text()
    assert "My prose." in once
    assert write_results(tmp_path).read_text() == once
    assert once.count("<!-- end -->") == len(SECTIONS) + 1
    assert "| 200 | 0.3 | 1 / 1 / 1 | not reached | 100 | 120 | 1.20 (1.20) | **no** |" in once
    assert "| 200 | 0.5 | 1 / 1 / 1 | not reached | 167 | 160 | 0.96 (0.96) | yes |" in once
    assert "<svg" in (tmp_path / "results" / "good200.svg").read_text()


def test_results_in_the_docs_are_those_of_their_curves(tmp_path: Path) -> None:
    page = ROOT / "docs" / "results.md"
    (tmp_path / "results").mkdir()
    for file in (*page.with_suffix("").glob("*.jsonl"), page):
        shutil.copy(file, tmp_path / file.relative_to(page.parent))
    assert write_results(tmp_path).read_text() == page.read_text()


@pytest.mark.slow
@pytest.mark.e2e
def test_quick_proof(tmp_path: Path) -> None:
    def python(*words: str) -> subprocess.CompletedProcess[str]:
        done = subprocess.run(
            [sys.executable, *words],
            cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
        return done

    python(str(ROOT / "tools/experiments"), "proof", "--quick")
    results = tmp_path / "ixt-proof-quick" / "docs" / "results"
    found = orjson.loads(
        python("-m", "ixt_train.scaling", str(results), "--output", "json").stdout.encode()
    )
    arms = {group["group"]: {arm["arm"] for arm in group["arms"]} for group in found["groups"]}
    assert arms == {name: set(runs) for name, runs in PROOF.items()}
