"""Evaluation against sums computed manually, and of a model that follows its feedback."""

import json
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.errors import ConfigError
from ixt_data.mix import build_condition
from ixt_data.records import Span
from ixt_train.conditioning.conditioner import SPECIAL_TOKENS, Conditioner, tag_token
from ixt_train.conditioning.tokenizer import train_tokenizer
from ixt_train.config.eval_config import EvalConfig, TaskConfig
from ixt_train.config.model_config import TokenizerTraining
from ixt_train.evaluation.held_out import Evaluator, HeldOut, feedback_gain, solve_tasks
from ixt_train.evaluation.tasks import Task, load_task
from ixt_train.inference.loaded_model import LoadedModel, load_model


class Table(torch.nn.Module):
    """A model of pairs: the chances of the next token stand in the row of the last one."""

    device = torch.device("cpu")

    def __init__(self, chances):
        super().__init__()
        self.logits = chances.log()

    def forward(self, input_ids, **_):
        return SimpleNamespace(logits=self.logits[input_ids])


def words(*more):
    training = TokenizerTraining(kind="words", vocab_size=60)
    return train_tokenizer(["a b fine"], training, [*SPECIAL_TOKENS, *more])


def test_loss_equals_the_sum_over_document_tokens():
    tokenizer = words()
    ids = {word: tokenizer.convert_tokens_to_ids(word) for word in ("a", "b", "<|/feedback|>")}
    n = len(tokenizer)
    chances = torch.full((n, n), 1e-6)
    chances[tokenizer.bos_token_id, ids["a"]] = 0.1
    chances[ids["<|/feedback|>"], ids["a"]] = 0.5
    chances[ids["a"], ids["b"]] = 0.25
    chances[ids["b"], ids["a"]] = 0.2
    # The rest of each row goes to a token that does not occur: rows are chances already.
    chances[:, tokenizer.unk_token_id] += 1 - chances.sum(1)
    conditioner = Conditioner(
        tokenizer, build_condition(), {"best": (1.0, "fine"), "worst": (0.0, "")}
    )
    documents = [HeldOut(bytes(16), "a b a", "0.5-1", 1.0), HeldOut(bytes(16), "a b", "0-0.5", 0.0)]
    config = EvalConfig(buckets=(0.0, 0.5, 1.0), feedback=("best", "none"))
    measured = Evaluator(conditioner, config, documents, 32).measure(Table(chances))
    conditioned, unconditioned = (-np.log([first, 0.25, 0.2, first, 0.25]) for first in (0.5, 0.1))
    for name, nats in (("best", conditioned), ("none", unconditioned)):
        assert measured["loss"][name] == pytest.approx(
            {"0-0.5": nats[3:].mean(), "0.5-1": nats[:3].mean(), "all": nats.mean()}, rel=1e-5
        )
    saved = np.log(5)
    follows = measured["feedback_gain"]["best"]
    assert follows["0.5-1"]["gain"] == pytest.approx(saved / 3, rel=1e-5)
    assert follows["all"]["gain"] == pytest.approx(2 * saved / 5, rel=1e-5)
    # Residuals: saved - 3 x 2 saved / 5 and its opposite.
    assert follows["all"]["standard_error"] == pytest.approx(2 * saved / 5 / 5, rel=1e-4)
    assert set(measured["feedback_gain"]) == {"best"}


def test_feedback_gain_and_its_error_equal_the_formula():
    # Two documents of 2 and 4 tokens; feedback saves 1 nat of the first and 5 of the second.
    found = feedback_gain(np.array([4.0, 9.0]), np.array([3.0, 4.0]), np.array([2.0, 4.0]))
    assert found["gain"] == 1.0
    # Residuals 1 - 2 and 5 - 4, so sqrt(2 (1 + 1) / 1) / 6.
    assert found["standard_error"] == pytest.approx(2 / 6)
    assert (
        feedback_gain(np.array([4.0]), np.array([3.0]), np.array([2.0]))["standard_error"] is None
    )


def test_loss_skips_a_token_that_a_tag_replaced():
    tokenizer = words(tag_token("off"))
    n = len(tokenizer)
    conditioner = Conditioner(tokenizer, build_condition(kind="spans", tag_replaces="a"))
    document = HeldOut(bytes(16), "a b a b", "0-1", 0.0, "", (Span(4, 7, "wrong", "off"),))
    config = EvalConfig(buckets=(0.0, 1.0), feedback=("best", "none", "observed"))
    evaluator = Evaluator(conditioner, config, [document], 32)
    # Whatever comes next is as likely as anything, but `a` hardly ever comes.
    chances = torch.full((n, n), 1 / (n - 1))
    chances[:, tokenizer.convert_tokens_to_ids("a")] = 1e-9
    measured = evaluator.measure(Table(chances))
    assert set(measured["loss"]) == {"none", "observed"}
    expected = (np.log(1e9) + 2 * np.log(n - 1)) / 3
    assert measured["loss"]["none"]["all"] == pytest.approx(expected, rel=1e-4)
    assert measured["feedback_gain"]["observed"]["all"]["gain"] == pytest.approx(0, abs=1e-5)


def test_task_with_a_prompt_generates_to_the_end(trained_run: Path, tmp_path: Path) -> None:
    trained = load_model(trained_run)
    from ixt_train.inference.generation import generate

    free = generate(trained, "17 + 5 =", "none", max_new_tokens=3).text.split()
    lines = [
        {"prompt": "17 + 5 =", "answer": f" {free[0]}  ", "stop": free[1]},
        {"prompt": "17 + 5 =", "answer": f"{free[0]}", "stop": "never"},
        {"prompt": "17 + 5 =", "answer": "nothing", "stop": [free[1]]},
        {"segments": [["17 + 5 =", free[0]], [free[1], free[2]]]},
    ]
    path = tmp_path / "mixed.jsonl"
    path.write_text("\n\n".join(map(json.dumps, lines)))
    task = load_task(TaskConfig(name="mixed", path=str(path), feedback="none"), trained.conditioner)
    assert task.solve(trained.model, trained.conditioner) == [True, False, False, True]
    for line, said in (
        ("{}", "neither segments nor"),
        ("[", "not JSON"),
        ("3", "not a JSON object"),
    ):
        path.write_text(line)
        with pytest.raises(ConfigError, match=rf"mixed.*line 1: {said}"):
            load_task(TaskConfig(name="mixed", path=str(path)), trained.conditioner)
    path.write_text("")
    with pytest.raises(ConfigError, match="contains no problem"):
        load_task(TaskConfig(name="mixed", path=str(path)), trained.conditioner)


def test_task_arithmetic_needs_no_file(trained_run: Path, sums: Path) -> None:
    conditioner = load_model(trained_run).conditioner
    built_in = load_task(TaskConfig(name="arithmetic", limit=20), conditioner)
    file = load_task(TaskConfig(name="x", path=str(sums / "held_out.jsonl")), conditioner)
    assert isinstance(built_in, Task)
    assert built_in.items == file.items
    assert len(load_task(TaskConfig(name="arithmetic"), conditioner).items) == 400
    with pytest.raises(ValueError, match=r"not a built-in task \(arithmetic\)"):
        TaskConfig(name="arithmetics")


def test_tasks_on_the_command_line(trained_run: Path, tmp_path: Path) -> None:
    def run(*arguments: str) -> "tuple[int, str]":
        result = CliRunner().invoke(build(), ["eval", str(trained_run), *arguments])
        return result.exit_code, result.output

    options = ("--task", "arithmetic", "--limit", "5", "--feedback", "best", "--feedback", "none")
    code, out = run(*options, "--guidance", "1", "--guidance", "2.5", "--output", "json")
    assert code == 0, out
    rows = json.loads(out.splitlines()[-1])["tasks"]
    assert [(row["feedback"], row["guidance"]) for row in rows] == [
        ("best", 1.0),
        ("best", 2.5),
        ("none", 1.0),
        ("none", 2.5),
    ]
    assert all(row["task"] == "arithmetic" and row["problems"] == 5 for row in rows)
    code, out = run("--samples", "2")
    assert code == 0, out
    assert "Nats per token that feedback saves, compared with none" in out
    assert "±" in out
    code, out = run("--feedback", "best")
    assert code == 2
    assert "--task" in out


@pytest.mark.slow
def test_loss_on_good_documents_is_ordered_by_feedback(follower: Path) -> None:
    result = CliRunner().invoke(build(), ["eval", str(follower), "--output", "json"])
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert figures["documents"]["0.9-1"] == 60
    loss = {name: by_bucket["0.9-1"] for name, by_bucket in figures["loss"].items()}
    assert loss["best"] + 0.05 < loss["none"] < loss["worst"] - 0.5
    assert loss["observed"] == pytest.approx(loss["best"], abs=1e-4)
    follows = figures["feedback_gain"]
    assert follows["best"]["0.9-1"]["gain"] == pytest.approx(loss["none"] - loss["best"], rel=1e-4)
    assert follows["best"]["0.9-1"]["gain"] > 10 * follows["best"]["0.9-1"]["standard_error"]
    # Bad documents are not likelier under best feedback, and likelier under their own.
    assert follows["best"]["0-0.5"]["gain"] < 0 < follows["observed"]["0-0.5"]["gain"]


@pytest.mark.slow
def test_task_score_rises_with_best_feedback_and_guidance(follower: Path) -> None:
    trained: LoadedModel = load_model(follower)

    def exact(feedback: str, guidance: float = 1.0) -> float:
        task = TaskConfig(name="arithmetic", feedback=feedback, guidance=guidance, limit=200)
        (row,) = solve_tasks(trained, [task])
        assert row["problems"] == 200
        return float(row["exact_match"])

    best, none = exact("best"), exact("none")
    assert best > none + 0.2
    assert exact("worst") <= none + 0.02
    assert exact("best", 0.0) == none
    assert none < exact("best", 0.5)
    assert exact("best", 1.5) > none + 0.2
