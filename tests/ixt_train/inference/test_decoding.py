"""Decoding: guidance, sampling, stop strings, rows side by side, against plain arithmetic."""

from collections import Counter

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ixt_data.errors import ConfigError
from ixt_data.mix import build_condition
from ixt_train.conditioning.conditioner import Conditioner
from ixt_train.conditioning.tokenizer import train_tokenizer
from ixt_train.config.model_config import TokenizerTraining
from ixt_train.inference.decoding import (
    GenerationPrefix,
    TokenSampling,
    choose_tokens,
    cut_at_stop,
    generate_all,
    score_continuations,
)

WORDS = [f"w{i}" for i in range(30)]
PROMPTS = ([7, 8, 9], [10], [11, 12, 13, 14, 15, 16], [7, 8])


@pytest.fixture(scope="module")
def conditioner():
    training = TokenizerTraining(kind="words", vocab_size=50)
    return Conditioner(
        train_tokenizer([" ".join(WORDS)], training, ["<|x|>"]), build_condition(kind="none")
    )


@pytest.fixture(scope="module")
def model(conditioner):
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(conditioner.tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=2,
        num_attention_heads=2,
        max_position_embeddings=64,
        initializer_range=0.5,
    )
    return LlamaForCausalLM(config).eval()


def prefix_(prompts=PROMPTS, before=(5, 6), token_budget=12, seed=0):
    return [
        GenerationPrefix((1, *before, *p), (1, *p), token_budget, seed + i)
        for i, p in enumerate(prompts)
    ]


@torch.inference_mode()
def slow_greedy(model, conditioner, row, gamma):
    """The same by the formula: the complete text through the model again for every token."""
    ids = ()
    while len(ids) < row.token_budget:
        conditioned, base = (
            model(torch.tensor([[*side, *ids]])).logits[0, -1].log_softmax(-1)
            for side in (row.conditioned, row.base)
        )
        scores = base + gamma * (conditioned - base)
        scores[conditioner.banned_tokens] = -torch.inf
        token = int(scores.argmax())
        if token in conditioner.ends:
            break
        ids += (token,)
    return ids


@pytest.mark.parametrize("gamma", [0.0, 1.0, 3.0])
def test_generate_all_in_a_batch_equals_each_row_alone(model, conditioner, gamma):
    rows = prefix_()
    together = generate_all(model, conditioner, rows, TokenSampling(guidance=gamma, batch_size=3))
    assert [row.ids for row in together] == [
        slow_greedy(model, conditioner, r, gamma) for r in rows
    ]
    assert all((row.ending == "length") == (len(row.ids) == 12) for row in together)


def test_guidance_interpolates_and_extrapolates(model, conditioner):
    rows = prefix_()

    def texts(**how):
        return [row.ids for row in generate_all(model, conditioner, rows, TokenSampling(**how))]

    unconditioned = [GenerationPrefix(row.base, row.base, row.token_budget) for row in rows]
    assert texts(guidance=0.0) == [
        r.ids for r in generate_all(model, conditioner, unconditioned, TokenSampling())
    ]
    assert texts(guidance=0.0) != texts() != texts(guidance=3.0)


def test_control_tokens_are_never_generated_at_any_temperature(model, conditioner):
    how = TokenSampling(temperature=100.0)
    rows = prefix_([[7]] * 40, token_budget=30)
    tokens = {t for row in generate_all(model, conditioner, rows, how) for t in row.ids}
    assert len(tokens) > 20
    assert not tokens & {*conditioner.banned_tokens, *conditioner.ends}


def test_sample_depends_on_its_seed_only(model, conditioner):
    how = TokenSampling(temperature=1.5, top_p=0.95)
    rows = prefix_(seed=100)
    together = generate_all(model, conditioner, rows, how)
    alone = [generate_all(model, conditioner, [row], how)[0] for row in rows]
    assert together == alone
    assert generate_all(model, conditioner, prefix_(seed=200), how) != together


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ({"temperature": 1.0}, [0.4, 0.3, 0.2, 0.1]),
        ({"temperature": 0.5}, [16 / 30, 9 / 30, 4 / 30, 1 / 30]),
        ({"temperature": 1.0, "top_k": 2}, [4 / 7, 3 / 7, 0, 0]),
        # The token that passes the share is still in.
        ({"temperature": 1.0, "top_p": 0.6}, [4 / 7, 3 / 7, 0, 0]),
        ({"temperature": 1.0, "top_p": 0.71}, [4 / 9, 3 / 9, 2 / 9, 0]),
        ({"temperature": 1.0, "top_p": 1e-9}, [1, 0, 0, 0]),
        ({}, [1, 0, 0, 0]),
    ],
)
def test_sampling_follows_the_probabilities(how, expected):
    n = 20_000
    scores = torch.tensor([0.1, 0.4, 0.2, 0.3]).log().expand(n, 4)
    evenly = (torch.arange(n, dtype=torch.float64) + 0.5) / n
    counts = Counter(choose_tokens(scores, TokenSampling(**how), lambda: evenly).tolist())
    assert [counts[i] / n for i in (1, 3, 2, 0)] == pytest.approx(expected, abs=2e-4)


def test_row_ends_before_its_stop_string(model, conditioner):
    (free,) = generate_all(model, conditioner, prefix_([[7]]), TokenSampling())
    stop = conditioner.tokenizer.decode(free.ids[4:6])
    (row,) = generate_all(model, conditioner, prefix_([[7]]), TokenSampling(stop=("never", stop)))
    assert row.ending == "stop"
    assert row.ids == free.ids[: len(row.ids)]
    text = conditioner.tokenizer.decode(row.ids)
    assert stop in text
    assert stop not in cut_at_stop(text, (stop,))
    assert cut_at_stop("a b c b", ("x", "c", "b")) == "a "


def test_score_continuations_equals_the_complete_text(model, conditioner):
    after = [(9, 10), (11,), (12, 13, 14), (15,)]
    for gamma in (1.0, 2.0):
        found = score_continuations(model, prefix_(), after, gamma=gamma, banned_tokens=[0], pad=0)
        for row, own, (nats, greedy) in zip(prefix_(), after, found, strict=True):
            expected, likeliest = 0.0, True
            for i, token in enumerate(own):
                conditioned, base = (
                    model(torch.tensor([[*side, *own[:i]]])).logits[0, -1].detach().log_softmax(-1)
                    for side in (row.conditioned, row.base)
                )
                scores = (base + gamma * (conditioned - base)).log_softmax(-1)
                expected += float(scores[token])
                likeliest &= int(scores[1:].argmax()) + 1 == token
            assert nats == pytest.approx(expected, abs=1e-4)
            assert greedy == likeliest


@pytest.mark.parametrize(
    ("how", "match"),
    [
        ({"temperature": -1}, "temperature: -1 is not 0 or more"),
        ({"top_p": 0}, "top_p: 0 is not above 0"),
        ({"samples": 2}, "greedy samples would all be the same"),
        ({"stop": ("",)}, "stop"),
    ],
)
def test_token_sampling_with_invalid_settings_raises(how, match):
    with pytest.raises(ConfigError, match=match):
        TokenSampling(**how)
