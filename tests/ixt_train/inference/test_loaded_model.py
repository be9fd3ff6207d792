"""Using a trained model: tasks, loss by bucket, generation, export."""

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.errors import ConfigError
from ixt_data.mix import Mix
from ixt_data.store.store import Store
from ixt_train.conditioning.tokenizer import control_tokens
from ixt_train.config.eval_config import EvalConfig, TaskConfig
from ixt_train.evaluation.held_out import Evaluator, bucket_names, held_out_documents
from ixt_train.evaluation.tasks import TaskProblem, load_task, solve, tokenize_problem
from ixt_train.inference.generation import generate
from ixt_train.inference.loaded_model import LoadedModel, load_model
from ixt_train.inference.model_export import export_model

BEST = "<|feedback|> <|score_10|> every step is correct <|/feedback|>"


@pytest.fixture(scope="module")
def trained(trained_run: Path) -> LoadedModel:
    return load_model(trained_run)


def test_tokenize_problem_splits_at_segments(trained: LoadedModel) -> None:
    segments = [("17 + 5 =", "22"), ("- 8 =", "14")]
    problem = tokenize_problem(segments, trained.tokenizer)
    decode = trained.tokenizer.decode
    assert [decode(ids) for ids in problem.given] == ["17 + 5 =", "- 8 ="]
    assert [decode(ids) for ids in problem.answers] == ["22", "14"]


def test_solve_feeds_back_the_models_own_answers(trained: LoadedModel) -> None:
    """Against generation with the complete text as input again for each token."""
    tokenizer, model = trained.tokenizer, trained.model
    banned_tokens = [*control_tokens(tokenizer), tokenizer.eos_token_id]
    prefix = trained.conditioner.prompt("", "best").tolist()
    text, segments = "", []
    for given in ("17 + 5 =", "- 8 =", "+ 2 ="):
        text = f"{text} {given}".strip()
        ids = prefix + tokenizer(text)["input_ids"]
        logits = model(torch.tensor([ids])).logits[0, -1].detach()
        logits[banned_tokens] = -torch.inf
        answer = tokenizer.decode(int(logits.argmax()))
        text += f" {answer}"
        segments.append((given, answer))
    right = tokenize_problem(segments, tokenizer, prefix)
    wrong = tokenize_problem([*segments[:2], (segments[2][0], "+")], tokenizer, prefix)
    other = tokenize_problem(segments[:1], tokenizer, prefix)
    assert solve(model, [right, wrong, other], banned_tokens) == [True, False, True]


def test_task_line_can_have_its_own_feedback(trained: LoadedModel, tmp_path: Path) -> None:
    line = {"segments": [["1 + 1 =", "2"]], "feedback": "is wrong", "score": 0.3}
    (tmp_path / "task.jsonl").write_text(json.dumps(line))
    task = TaskConfig(name="t", path=str(tmp_path / "task.jsonl"), feedback="given")
    (problem,) = load_task(task, trained.conditioner).items
    assert isinstance(problem, TaskProblem)
    assert "<|score_3|>" in trained.tokenizer.decode(problem.conditioned)
    with pytest.raises(ConfigError, match="task t"):
        load_task(task.model_copy(update={"path": "nowhere"}), trained.conditioner)


@pytest.mark.parametrize("max_length", [96, 24])
def test_loss_by_bucket_counts_document_tokens(
    trained: LoadedModel, sums: Path, max_length: int
) -> None:
    store = Store.open(sums / "store")
    edges = (0.0, 0.5, 1.0)
    documents = held_out_documents(store, Mix(critic="arithmetic"), 0.2, edges, 3)
    assert {d.bucket for d in documents} == set(bucket_names(edges))
    config = EvalConfig(buckets=edges, feedback=("none", "best"), batch_size=2)
    measured = Evaluator(trained.conditioner, config, documents, max_length).measure(trained.model)
    prefixes = [trained.conditioner.prompt("", name).tolist() for name in ("none", "best")]
    # Long documents end where they would under the longest feedback.
    fit = max_length - max(len(prefix) for prefix in prefixes)
    for feedback, prefix in zip(("none", "best"), prefixes, strict=True):
        nats, tokens = 0.0, 0
        for document in documents:
            ids = prefix + trained.tokenizer(document.text)["input_ids"][:fit]
            logits = trained.model(torch.tensor([ids])).logits[0].detach()
            picked = logits.log_softmax(-1)[range(len(ids) - 1), ids[1:]]
            nats -= float(picked[len(prefix) - 1 :].sum())
            tokens += len(ids) - len(prefix)
        assert measured["loss"][feedback]["all"] == pytest.approx(nats / tokens, rel=1e-5)


def test_exported_model_equals_transformers(trained: LoadedModel, tmp_path: Path) -> None:
    folder = tmp_path / "model"
    card = export_model(trained, folder)
    model = AutoModelForCausalLM.from_pretrained(folder)
    tokenizer = AutoTokenizer.from_pretrained(folder)
    prompt = card["prefixes"]["best"] + " 17 + 5 ="
    ids = tokenizer(prompt, return_tensors="pt")["input_ids"]
    assert ids[0].tolist() == trained.conditioner.prompt("17 + 5 =", "best").tolist()
    with torch.no_grad():
        assert torch.equal(model(ids).logits, trained.model(ids).logits)
    assert (folder / "model.safetensors").exists()
    again = load_model(folder)
    assert generate(again, "17 + 5 =") == generate(trained, "17 + 5 =")
    with pytest.raises(ConfigError, match="new folder"):
        export_model(trained, folder)


def test_verbs_print_one_json_object(trained_run: Path, tmp_path: Path) -> None:
    def verb(*arguments: str) -> dict[str, object]:
        result = CliRunner().invoke(build(), [*arguments, "--output", "json"])
        assert result.exit_code == 0, result.output
        return dict(json.loads(result.stdout))

    newest = str(next((trained_run / "checkpoints").iterdir()))
    written = verb("generate", newest, "--feedback", "best", "--prompt", "17 + 5 =")
    assert {"prompt", "feedback", "text", "tokens"} <= set(written)
    assert verb("eval", str(trained_run))["step"] == 40
    assert verb("export-model", str(trained_run), str(tmp_path / "out"))["step"] == 40


def test_load_model_of_an_invalid_path_raises(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is not a run folder, a checkpoint in its checkpoints/"):
        load_model(tmp_path)
