"""lm-evaluation-harness asks our models, offline, a task of our own in each of its three ways."""

import json
import math
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from harness_tasks import evaluate_tasks
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.errors import ConfigError
from ixt_train.inference.loaded_model import load_model


def by_name(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], float]:
    return {(r["task"], r["feedback"], r["guidance"]): r["value"] for r in rows}


@pytest.mark.slow
def test_harness_custom_task_of_each_type(follower: Path, tasks: Path, tmp_path: Path) -> None:
    feedback = ("--feedback", "best", "--feedback", "none", "--guidance", 1, "--guidance", 2)
    rows = evaluate_tasks(follower, tasks, tmp_path, "--lm-eval", "choose,write,roll", *feedback)
    found = by_name(rows)
    assert len(found) == 3 * 2 * 2
    for kind, better in (("write", 1), ("choose", 1), ("roll", -1)):
        assert better * (found[kind, "best", 1.0] - found[kind, "none", 1.0]) > 0.05
    for gamma in (1.0, 2.0):
        # Guidance from none to none changes nothing.
        assert found["roll", "none", gamma] == pytest.approx(found["roll", "none", 1.0])
    assert found["roll", "best", 2.0] != pytest.approx(found["roll", "best", 1.0], rel=1e-3)

    trained = load_model(follower)
    nats, count = 0.0, 0
    for line in (tasks / "sums.jsonl").read_text().splitlines():
        text = json.loads(line)["text"]
        prefix = trained.conditioner.prompt("", "best").tolist()
        ids = prefix + trained.tokenizer(text)["input_ids"]
        logits = trained.model(torch.tensor([ids])).logits[0].detach().log_softmax(-1)
        nats -= float(logits[range(len(prefix) - 1, len(ids) - 1), ids[len(prefix) :]].sum())
        count += len(text.split())
    assert found["roll", "best", 1.0] == pytest.approx(math.exp(nats / count), rel=1e-4)


def test_harness_windows_keep_the_feedback_and_count_each_token_once(trained_run: Path) -> None:
    from lm_eval.api.instance import Instance

    from ixt_train.evaluation.harness import ConditionedLM

    model = ConditionedLM(load_model(trained_run), "worst", batch_size=3)
    # Twice what the model holds: 96 tokens, of which the feedback takes some.
    text = " ".join(["17 + 5 = 22"] * 40)
    seen = []
    score = model._loglikelihood_tokens
    model._loglikelihood_tokens = lambda windows, *a: seen.extend(windows) or score(windows, *a)
    (nats,) = model.loglikelihood_rolling(
        [Instance(request_type="loglikelihood_rolling", doc={}, arguments=(text,), idx=0)], True
    )
    assert nats < 0
    assert len(seen) > 2
    assert [t for _, _, after in seen for t in after] == model.tok_encode(text)
    for _, context, after in seen:
        prefix_ = model._prefix(context, model._context_budget - len(after), 0)
        assert prefix_.conditioned[: len(model._conditioned)] == model._conditioned
        assert len(prefix_.conditioned) + len(after) <= 96


def test_harness_long_contexts_keep_feedback_and_end(trained_run: Path) -> None:
    from lm_eval.api.instance import Instance

    from ixt_train.evaluation.harness import ConditionedLM

    model = ConditionedLM(str(trained_run), "every step is correct", score=0.7, guidance=1.5)

    def ask(kind: str, *arguments: Any) -> Any:
        request = Instance(request_type=kind, doc={}, arguments=arguments, idx=0)
        return getattr(model, kind)([request], disable_tqdm=True)[0]

    long = " ".join(["17 + 5 = 22"] * 40)
    assert ask("loglikelihood", long, " - 8 = 14") == pytest.approx(
        ask("loglikelihood", f"3 + 4 = 7 {long}", " - 8 = 14")
    )
    assert ask("loglikelihood", "", "17 + 5")[0] < 0
    settings = {"until": [";"], "max_gen_toks": 6, "do_sample": True, "temperature": 0.7}
    assert ";" not in ask("generate_until", long, settings)
    with pytest.raises(ConfigError, match="does not fit"):
        ask("loglikelihood", "17", long)


@pytest.mark.slow
def test_harness_without_the_task_raises(trained_run: Path, tasks: Path) -> None:
    def ask(*options: str) -> None:
        command = ["eval", str(trained_run), "--lm-eval", "nothing", *options]
        CliRunner().invoke(build(), command, catch_exceptions=False)

    with pytest.raises(ConfigError, match="no task nothing in its own list or in"):
        ask("--lm-eval-path", str(tasks))
    with pytest.raises(ConfigError, match="is not a folder"):
        ask("--lm-eval-path", str(tasks / "sums.jsonl"))


def test_harness_without_its_package_names_the_extra(trained_run: Path) -> None:
    # A process of its own: here another test may have imported the harness already.
    code = "import sys; sys.modules['lm_eval'] = None; from ixt_data.cli import main; main()"
    command = [sys.executable, "-c", code, "eval", str(trained_run), "--lm-eval", "hellaswag"]
    found = subprocess.run(command, capture_output=True, text=True, check=False)
    assert found.returncode == 1
    assert re.search(r"lm_eval is not installed. Run: pip .*ixt\[eval\]", found.stderr)
