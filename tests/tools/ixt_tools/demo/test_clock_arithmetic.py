"""The generator of the worked-sums corpus."""

import subprocess
import sys

import orjson
import pytest

from ixt_data.critics.arithmetic import CLOCK, parse_chains
from ixt_tools.demo.clock_arithmetic import write_corpus
from ixt_train.evaluation.arithmetic import held_out_sums


def rows(path):
    return [orjson.loads(line) for line in path.open("rb")]


def test_same_arguments_same_bytes(tmp_path):
    first = write_corpus(tmp_path / "a", documents=50, bad=0.9, seed=3)
    second = write_corpus(tmp_path / "b", documents=50, bad=0.9, seed=3)
    other = write_corpus(tmp_path / "c", documents=50, bad=0.9, seed=4)
    assert first.corpus.read_bytes() == second.corpus.read_bytes() != other.corpus.read_bytes()
    assert first.task.read_bytes() == second.task.read_bytes() == other.task.read_bytes()


def test_documents_have_two_chains_of_six_steps(tmp_path):
    for row in rows(write_corpus(tmp_path, documents=100).corpus):
        assert set(row) == {"id", "text", "author", "source"}
        chains = parse_chains(row["text"])
        assert [len(chain.steps) for chain in chains] == [6, 6]
        assert all(1 <= step.operand <= 9 for chain in chains for step in chain.steps)


def test_held_out_problems_never_occur_in_the_corpus(tmp_path):
    # One step and a few thousand draws: without the exclusion they would be drawn many times.
    held_out = set(held_out_sums(400, steps=1))
    assert len(held_out) == 400
    paths = write_corpus(tmp_path, documents=2000, problems=400, steps=1)
    seen = {
        (chain.first, tuple((step.sign, step.operand) for step in chain.steps))
        for row in rows(paths.corpus)
        for chain in parse_chains(row["text"])
    }
    assert len(seen) == CLOCK * 18 - 400
    assert not seen & held_out


def test_task_holds_given_text_and_right_answers(tmp_path):
    tasks = rows(write_corpus(tmp_path, documents=0, problems=30).task)
    assert len(tasks) == 30
    for task in tasks:
        text = " ".join(f"{given} {answer}" for given, answer in task["segments"])
        (chain,) = parse_chains(text)
        assert len(chain.steps) == 6
        assert all(step.is_correct(CLOCK) for step in chain.steps)


def test_bad_is_a_share(tmp_path):
    assert {r["author"] for r in rows(write_corpus(tmp_path, documents=50, bad=0).corpus)} == {
        "good"
    }
    with pytest.raises(ValueError, match=r"bad=1\.5"):
        write_corpus(tmp_path, documents=1, bad=1.5)


def test_runs_as_a_module(tmp_path):
    command = [sys.executable, "-m", "ixt_tools.demo.clock_arithmetic", str(tmp_path)]
    done = subprocess.run(
        [*command, "--documents", "5"], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(tmp_path / "sums.jsonl"), str(tmp_path / "held_out.jsonl")]
    assert len(rows(tmp_path / "sums.jsonl")) == 5
