"""The trial request: what each kind of server takes and gives, and what is done without."""

import dataclasses

import pytest
from fake_answers import THINKING
from fake_vllm import Running
from judging import PLAIN, QUICK, document, judged
from server_shapes import SHAPES

from ixt_data.critics.vllm.capabilities import (
    Capabilities,
    RefusedRequest,
    StructuredOutput,
    context_in_message,
)
from ixt_data.critics.vllm.critic import VllmCritic
from ixt_data.critics.vllm.prompts import JudgeSampling
from ixt_data.errors import CriticError

FORMS = {"anthropic": "prompt", "together": "json_object", "tgi": "json_object"} | {
    "ollama, old": "json_object",
    "proxy without structure": "prompt",
}
THINKS = {"openrouter": "field", "together": "inline", "llama.cpp": "field", "ollama": "inline"} | {
    "sglang": "field",
    "lm studio": "inline",
}


@pytest.mark.parametrize("shape", SHAPES)
def test_documents_are_judged_by_each_kind_of_server(shape: str) -> None:
    texts = [f"A page about the number {i}." for i in range(5)]
    sampling = JudgeSampling(max_tokens=1200, seed=3, thinking_budget=400)
    with (
        Running({"shape": shape, "tokenize": False, "keep_bodies": True}) as fake,
        VllmCritic(fake.url, model="judge", sampling=sampling, timeouts=QUICK) as critic,
    ):
        line = critic.describe()[0]
        found = list(critic.run(map(document, texts)))
        refused = fake.fake.requests["refused"]
        expected = FORMS.get(shape, "json_schema")
        assert f"structured output: {expected}, logprobs: no, thinking: " in line
        assert f"thinking: {THINKS.get(shape, 'none')}" in line
        assert {critique.status for critique in found} == {"ok"}
        how = {"estimated_tokens", "no_expected"}
        how |= set() if expected == "json_schema" else {f"answer_by_{expected}"}
        assert all(set(critique.flags) <= how for critique in found)
        assert all(how <= {*critique.flags, "estimated_tokens"} for critique in found)
        thinks = shape in THINKS
        assert {critique.thinking for critique in found} == {THINKING if thinks else None}
        # What a server refuses is asked for once, at the trial.
        assert fake.fake.requests["refused"] == refused


@pytest.mark.parametrize(
    ("shape", "context"),
    [("openrouter", "65,536"), ("llama.cpp", "8,192"), ("lm studio", "4,096"), ("tgi", "unknown")],
)
def test_context_is_that_which_the_server_reports(shape: str, context: str) -> None:
    with (
        Running({"shape": shape, "tokenize": False}) as fake,
        VllmCritic(fake.url, model="judge", sampling=PLAIN, timeouts=QUICK) as critic,
    ):
        assert f"context {context}, " in critic.describe()[0]


def test_short_context_limits_the_budgets_and_says_so() -> None:
    sampling = dataclasses.replace(PLAIN, thinking_budget=3000)
    with (
        Running({"context": 4096, "keep_bodies": True}) as fake,
        VllmCritic(fake.url, model="judge", sampling=sampling, timeouts=QUICK) as critic,
    ):
        _, note, _ = critic.describe()
        (critique,) = critic.run([document("A page. " * 20000)])
        (body,) = fake.fake.bodies
    assert "(--max-tokens is 4,096): the context has 4,096" in note
    assert body["max_tokens"] < 2048
    assert 0 < body["thinking_token_budget"] < body["max_tokens"] - 400
    assert critique.flags == ("excerpted",)


def test_context_too_small_for_the_rubric_is_an_error() -> None:
    with Running({"context": 900}) as fake, pytest.raises(CriticError, match="is too small: the r"):
        judged(fake, "A page.")


@pytest.mark.parametrize("form", StructuredOutput)
def test_structured_output_that_the_user_names_is_taken_or_refused(form: StructuredOutput) -> None:
    with Running({"shape": "together", "tokenize": False}) as fake:
        if form is StructuredOutput.json_schema:
            with pytest.raises(CriticError, match="give structured output by json_schema: "):
                judged(fake, "A page.", structured=form.value)
        else:
            (critique,) = judged(fake, "A page.", structured=form.value)
            assert f"answer_by_{form}" in critique.flags
    with pytest.raises(CriticError, match="'xml' is unknown; valid are auto, json_schema"):
        VllmCritic("http://127.0.0.1:1/v1", structured="xml")


def test_samples_of_a_server_with_one_completion_are_several_requests() -> None:
    with Running({"shape": "llama.cpp", "tokenize": False}) as fake:
        (critique,) = judged(fake, "A page.", sampling=dataclasses.replace(PLAIN, samples=3))
        assert (critique.status, critique.scores["samples"]) == ("ok", 3)
        assert fake.fake.requests["chat"] == 3


def test_answer_with_loose_syntax_is_repaired_and_flagged() -> None:
    with Running({"shape": "proxy without structure", "tokenize": False}) as fake:
        (critique,) = judged(fake, "[[loose]] A page.")
    assert critique.flags == ("answer_by_prompt", "answer_repaired")
    assert critique.status == "ok"


def test_server_without_a_list_of_models_needs_a_name() -> None:
    with (
        Running({"shape": "tgi", "tokenize": False}) as fake,
        pytest.raises(CriticError, match="does not list its models: give --model"),
    ):
        judged(fake, "A page.", model=None)


def test_refused_effort_is_an_error_with_its_name() -> None:
    sampling = dataclasses.replace(PLAIN, reasoning_effort="low")
    with Running({"shape": "openai reasoning", "tokenize": False, "keep_bodies": True}) as fake:
        (critique,) = judged(fake, "A page.", sampling=sampling)
        (body,) = fake.fake.bodies
    assert (critique.status, body["reasoning_effort"]) == ("ok", "low")
    assert not {"temperature", "top_p", "max_tokens"} & set(body)
    with (
        Running({"shape": "openai", "tokenize": False}) as fake,
        pytest.raises(CriticError, match="reasoning_effort"),
    ):
        judged(fake, "A page.", sampling=sampling)


@pytest.mark.parametrize(
    ("message", "context"),
    [
        ("This model's maximum context length is 2,048 tokens. However, you asked", 2048),
        ("the request exceeds the available context size n_ctx 4096", 4096),
        ("something else is wrong with 17 tokens", None),
    ],
)
def test_context_is_read_from_an_error(message: str, context: int | None) -> None:
    assert context_in_message(message) == context


def test_refusal_of_everything_ends_with_the_servers_message() -> None:
    server = Capabilities()
    for _ in range(3):
        server = server.without(RefusedRequest("", "no"), None)
    assert server.structured is StructuredOutput.prompt
    with pytest.raises(CriticError, match="refuses the trial request: no"):
        server.without(RefusedRequest("", "no"), None)
