"""Generation under feedback, of models with a prefix, with spans, and without either."""

import json
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM
from typer.testing import CliRunner

from ixt_data.cli.app import build
from ixt_data.errors import ConfigError
from ixt_data.mix import build_condition
from ixt_train.conditioning.conditioner import (
    SPECIAL_TOKENS,
    Conditioner,
    Feedback,
    tag_token,
)
from ixt_train.conditioning.tokenizer import train_tokenizer
from ixt_train.config.model_config import TokenizerTraining
from ixt_train.inference.decoding import TokenSampling
from ixt_train.inference.generation import (
    GenerationRequest,
    generate,
    generate_texts,
    read_requests,
)
from ixt_train.inference.loaded_model import LoadedModel, choose_feedback, load_model

BEST = "<|feedback|> <|score_10|> every step is correct <|/feedback|>"
TEXT = "17 + 5 = 22 - 8 = 14 ;"


@pytest.fixture(scope="module")
def trained(trained_run: Path) -> LoadedModel:
    return load_model(trained_run)


def untrained(**condition: object) -> LoadedModel:
    special = [*SPECIAL_TOKENS, *map(tag_token, ("off by one", "random"))]
    tokenizer = train_tokenizer([TEXT], TokenizerTraining(kind="words", vocab_size=60), special)
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=24,
        initializer_range=0.5,
    )
    conditioner = Conditioner(tokenizer, build_condition(**condition))
    return LoadedModel(LlamaForCausalLM(config).eval(), tokenizer, conditioner, 0, "")


def test_generate_is_conditioned_and_generates_no_control_tokens(trained: LoadedModel) -> None:
    best = generate(trained, "17 + 5 =", "best", max_new_tokens=12)
    assert best.feedback == BEST
    assert 0 < best.tokens <= 12
    assert "<|" not in best.text
    assert best.text.startswith(" ")
    assert generate(trained, "17 + 5 =", "none").feedback == ""
    conditioned = generate(trained, "17 + 5 =", "reads minus as plus", score=0.5, max_new_tokens=1)
    assert conditioned.feedback.startswith("<|feedback|> <|score_5|> reads minus")
    hot = [generate(trained, "1", temperature=5.0, seed=s, max_new_tokens=8) for s in (1, 2, 1)]
    assert hot[0] == hot[2] != hot[1]


def test_generate_several_samples_of_several_prompts(trained: LoadedModel) -> None:
    requests = [
        GenerationRequest("17 + 5 ="),
        GenerationRequest("3", "worst"),
        GenerationRequest("17 + 5 =", "none"),
    ]
    how = TokenSampling(temperature=2.0, samples=3, max_new_tokens=6, stop=(";",), batch_size=4)
    written = generate_texts(trained, requests, how)
    assert [(w.prompt, w.sample) for w in written] == [
        (request.prompt, sample) for request in requests for sample in range(3)
    ]
    assert len({w.text for w in written[:3]}) > 1
    assert "<|score_0|>" in written[3].feedback
    assert not any(";" in w.text for w in written)
    assert generate_texts(trained, requests[1:2], how) == written[3:6]


def test_generate_with_a_prompt_that_fills_the_model_raises() -> None:
    model = untrained(kind="none")
    assert generate(model, "17 " * 20, "none", max_new_tokens=64).tokens <= 3
    with pytest.raises(ConfigError, match="fill the model's 24 positions"):
        generate(model, "17 " * 24, "none")


def test_generate_with_spans_puts_the_tag_at_the_end() -> None:
    inserted, replaced = untrained(kind="spans"), untrained(kind="spans", tag_replaces="=")

    def tokens(trained: LoadedModel, prompt: str, feedback: str) -> list[str]:
        choice = choose_feedback(trained.conditioner, feedback)
        ids = trained.conditioner.prompt(prompt, choice).tolist()
        return list(trained.tokenizer.convert_ids_to_tokens(ids))[1:]

    assert tokens(inserted, "17 + 5 =", "best") == ["17", "+", "5", "="]
    assert tokens(inserted, "17", "off by one") == ["17", "<|flaw:off by one|>"]
    assert tokens(inserted, "17 + 5 =", "random") == ["17", "+", "5", "=", "<|flaw:random|>"]
    assert tokens(replaced, "17 + 5 =", "off by one") == ["17", "+", "5", "<|flaw:off by one|>"]
    assert "<|" not in generate(replaced, "17 + 5 =", "random", temperature=50.0).text
    away = generate(replaced, "17", "best", guidance=9.0, against="random")
    assert away.text != generate(replaced, "17", "best").text
    with pytest.raises(ConfigError, match="a tag: off by one, random"):
        generate(inserted, "17", "worst")


def test_generate_without_feedback_in_training_raises() -> None:
    model = untrained(kind="none")
    assert generate(model, "17", "best") == generate(model, "17", "none")
    for said in ("worst", "every step is correct"):
        with pytest.raises(ConfigError, match="trained without feedback"):
            generate(model, "17", said)


@pytest.mark.parametrize("choice", ["bets", "Best", "worse", "given", "", " none"])
def test_feedback_that_is_not_a_known_word_raises(trained: LoadedModel, choice: str) -> None:
    for settings in ({"feedback": choice}, {"against": choice, "guidance": 2.0}):
        with pytest.raises(ConfigError, match="not a known word") as caught:
            generate(trained, "17 + 5 =", **settings)
    assert "Valid: best, worst, none, or a text of several words" in str(caught.value)
    assert f"a text of one word is text:{choice}" in str(caught.value)


def test_feedback_text_has_several_words_or_a_mark(trained: LoadedModel) -> None:
    for choice in ("every step is correct", "text:every step is correct"):
        said = choose_feedback(trained.conditioner, choice, 0.3)
        assert said == Feedback(0.3, "every step is correct")
    assert choose_feedback(trained.conditioner, "text:best", 0.3) == Feedback(0.3, "best")
    assert choose_feedback(trained.conditioner, "text:", 0.3) == Feedback(0.3, "")


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (("--feedback", "bets"), 1, "did you mean 'best'"),
        (("--feedback", "best", "--score", "0.5"), 2, "goes with a feedback text, not with best"),
    ],
)
def test_generate_with_wrong_feedback_on_the_command_line(
    trained_run: Path, arguments: tuple[str, ...], code: int, said: str
) -> None:
    done = CliRunner().invoke(build(), ["generate", str(trained_run), *arguments])
    assert done.exit_code == code
    shown = f"{done.output} {done.exception}".replace("│", " ")
    assert said in " ".join(shown.split())


def test_generate_prompts_of_a_file_on_the_command_line(trained_run: Path, tmp_path: Path) -> None:
    lines = [{"prompt": "17 + 5 ="}, {"prompt": "3 +", "feedback": "none"}]
    path = tmp_path / "prompts.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))

    def run(*arguments: str, stdin: str | None = None) -> "tuple[int, str, str]":
        command = ["generate", str(trained_run), *arguments]
        result = CliRunner().invoke(build(), command, input=stdin)
        return result.exit_code, result.stdout, result.output

    options = ("--max-new-tokens", "4", "--guidance", "1.5", "--output", "json")
    code, out, said = run("--prompts", str(path), *options)
    assert code == 0, said
    written = json.loads(out)["generations"]
    assert [w["feedback"] for w in written] == [BEST, ""]
    assert {"prompt", "feedback", "text", "tokens", "ending", "sample"} == set(written[0])
    assert json.loads(run("--prompts", "-", *options, stdin=path.read_text())[1]) == json.loads(out)
    code, out, _ = run("--prompt", "17 + 5 =", "--prompt", "3", "--max-new-tokens", "2")
    assert code == 0
    assert out.startswith("17 + 5 =")
    path.write_text('{"prompt": "3", "feedback": 1}')
    with pytest.raises(ConfigError, match="line 1: feedback: 1 is not text"):
        read_requests(path.read_text().splitlines(), "prompts.jsonl", GenerationRequest(""))
    path.write_text('{"prompt": 3}')
    with pytest.raises(ConfigError, match=r"line 1: .*prompt: 3 is not text"):
        CliRunner().invoke(
            build(), ["generate", str(trained_run), "--prompts", str(path)], catch_exceptions=False
        )
