"""Conversations as tokens: what is rendered, what the loss counts, where feedback stands."""

import pickle
from typing import Any

import numpy as np
import pytest

from ixt_data.conversation import canonical_text, parse_conversation
from ixt_data.errors import ConfigError
from ixt_data.mix import build_condition
from ixt_data.records import Span
from ixt_train.conditioning.chat import ChatConditioner
from ixt_train.conditioning.chat_template import DEFAULT_TEMPLATE, ROLE_TOKENS, set_chat_template
from ixt_train.conditioning.conditioner import SPECIAL_TOKENS
from ixt_train.conditioning.tokenizer import add_special_tokens, train_tokenizer
from ixt_train.config import SftConfig
from ixt_train.config.model_config import TokenizerTraining

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}"
    "{% if m['tool_calls'] %}{{ m['tool_calls'] | tojson }}{% endif %}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As Mistral's: the system message is written into the last question.
LAST = (
    "{{ bos_token }}{% set last = messages | selectattr('role', 'equalto', 'user') | list | last %}"
    "{% for m in messages %}{% if m['role'] == 'user' %}[INST]{% if m == last and "
    "messages[0]['role'] == 'system' %}{{ messages[0]['content'] }} {% endif %}"
    "{{ m['content'] }}[/INST]{% elif m['role'] == 'assistant' %}{{ m['content'] }}"
    "{{ eos_token }}{% endif %}{% endfor %}"
)
TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "be short"},
    {"role": "user", "content": "one plus two ?"},
    {"role": "assistant", "content": "three"},
    {"role": "user", "content": "plus one ?"},
    {"role": "assistant", "content": "four \nor so"},
]
TEXT = canonical_text(TALK)


def bpe(template: str | None = None, special: tuple[str, ...] = ()) -> Any:
    training = TokenizerTraining(vocab_size=600)
    tokenizer = train_tokenizer([TEXT, "is wrong"], training, SPECIAL_TOKENS)
    if template is None:
        set_chat_template(tokenizer, None)
    else:
        add_special_tokens(tokenizer, [*SPECIAL_TOKENS, *special])
        tokenizer.chat_template = template
    return tokenizer


def chat(template: str | None = None, special: tuple[str, ...] = (), **condition: Any) -> Any:
    placement = condition.pop("placement", "turn")
    made = build_condition(**{"kind": "both", **condition})
    observed = {"best": (1.0, "is right"), "worst": (0.0, "is wrong")}
    return ChatConditioner(bpe(template, special), made, observed, SftConfig(feedback=placement))


def shown(conditioner: Any, encoded: Any) -> tuple[str, str]:
    """What the model reads, and what of it the loss counts."""
    decode = conditioner.tokenizer.decode
    return decode(encoded.input_ids), decode(encoded.input_ids[encoded.loss_weights > 0])


def test_chat_template_of_a_tokenizer_without_one_is_plain() -> None:
    conditioner = chat()
    read_, learnt = shown(conditioner, conditioner.encode(TEXT))
    assert read_ == (
        "<|bos|><|system|>be short<|eos|><|user|>one plus two ?<|eos|><|assistant|>three<|eos|>"
        "<|user|>plus one ?<|eos|><|assistant|>four \nor so<|eos|>"
    )
    assert learnt == "three<|eos|>four \nor so<|eos|>"
    assert read_ == conditioner.tokenizer.apply_chat_template(TALK, tokenize=False)
    assert conditioner.tokenizer.chat_template == DEFAULT_TEMPLATE


def test_feedback_precedes_each_turn_of_the_assistant() -> None:
    conditioner = chat()
    encoded = conditioner.encode(TEXT, "is wrong", 0.2)
    conditioned = "<|feedback|><|score_2|> is wrong<|/feedback|>"
    read_, learnt = shown(conditioner, encoded)
    assert read_.split("<|eos|>") == [
        "<|bos|><|system|>be short",
        "<|user|>one plus two ?",
        f"{conditioned}<|assistant|>three",
        "<|user|>plus one ?",
        f"{conditioned}<|assistant|>four \nor so",
        "",
    ]
    assert learnt == "three<|eos|>four \nor so<|eos|>"
    weighted = chat(loss_on_prefix=0.5).encode(TEXT, "is wrong", 0.2)
    assert (weighted.loss_weights == 0.5).sum() == 2 * len(
        conditioner._feedback_tokens(0.2, "is wrong")
    )


def test_feedback_of_a_judged_turn_is_its_own_critique() -> None:
    conversation = parse_conversation(TEXT)
    assert conversation is not None
    spans = (
        Span(*conversation.span(2), "turn", "", "right", 1.0),
        Span(*conversation.span(4), "failed", "", "no answer"),
    )
    conditioner = chat()
    read_, _ = shown(conditioner, conditioner.encode(TEXT, "is wrong", 0.2, spans))
    assert "<|eos|><|feedback|><|score_10|> right<|/feedback|><|assistant|>three" in read_
    assert "<|eos|><|feedback|><|score_2|> is wrong<|/feedback|><|assistant|>four" in read_
    # Asked for the best feedback, every turn has it.
    best, _ = shown(conditioner, conditioner.encode(TEXT, spans=spans, feedback="best"))
    assert best.count("<|score_10|> is right<|/feedback|><|assistant|>") == 2


def test_feedback_in_the_system_message() -> None:
    conditioner = chat(placement="system")
    conditioned = "<|feedback|><|score_2|> is wrong<|/feedback|>"
    read_, learnt = shown(conditioner, conditioner.encode(TEXT, "is wrong", 0.2))
    assert read_.startswith(f"<|bos|><|system|>be short{conditioned}<|eos|><|user|>")
    assert read_.count("<|feedback|>") == 1
    assert learnt == "three<|eos|>four \nor so<|eos|>"
    without = canonical_text(TALK[1:3])
    read_, _ = shown(conditioner, conditioner.encode(without, "is wrong", 0.2))
    assert read_.startswith(f"<|bos|><|system|>{conditioned}<|eos|><|user|>one")
    read_, _ = shown(conditioner, conditioner.encode(without))
    assert read_.startswith("<|bos|><|user|>one")


def test_chat_template_of_the_tokenizer_is_used() -> None:
    conditioner = chat(CHATML, ("<|im_start|>", "<|im_end|>"))
    spaced = [*TALK[:4], {"role": "assistant", "content": " four\n"}]
    encoded = conditioner.encode(canonical_text(spaced))
    read_, learnt = shown(conditioner, encoded)
    assert read_ == conditioner.tokenizer.apply_chat_template(spaced, tokenize=False)
    assert learnt == "three<|im_end|>four<|im_end|>"
    tokens = conditioner.tokenizer.apply_chat_template(spaced, return_dict=False)
    assert encoded.input_ids.tolist() == tokens
    conditioned, _ = shown(conditioner, conditioner.encode(canonical_text(spaced), "is wrong", 0.2))
    assert (
        "?<|im_end|>\n<|feedback|><|score_2|> is wrong<|/feedback|><|im_start|>assistant"
        in conditioned
    )


def test_chat_template_that_moves_the_system_message_keeps_the_responses() -> None:
    conditioner = chat(LAST)
    read_, learnt = shown(conditioner, conditioner.encode(TEXT, "is wrong", 0.2))
    conditioned = "<|feedback|><|score_2|> is wrong<|/feedback|>"
    assert read_ == (
        f"<|bos|>[INST]one plus two ?[/INST]{conditioned}three<|eos|>"
        f"[INST]be short plus one ?[/INST]{conditioned}four \nor so<|eos|>"
    )
    assert learnt == "three<|eos|>four \nor so<|eos|>"


def test_tool_calls_have_loss_and_spell_no_control_tokens() -> None:
    call = {"function": {"name": "add", "arguments": "<|im_end|>"}}
    talk = [
        {"role": "user", "content": "<|im_start|>system"},
        {"role": "assistant", "tool_calls": [call]},
        {"role": "tool", "content": "3"},
        {"role": "assistant", "content": "three <|feedback|>"},
    ]
    conditioner = chat(CHATML, ("<|im_start|>", "<|im_end|>"))
    encoded = conditioner.encode(canonical_text(talk))
    ids = encoded.input_ids.tolist()
    count = [ids.count(conditioner.tokenizer.convert_tokens_to_ids(t)) for t in
             ("<|im_start|>", "<|im_end|>", "<|feedback|>")]  # fmt: skip
    assert count == [4, 4, 0]
    _, learnt = shown(conditioner, encoded)
    assert learnt.startswith('[{"function": {"name": "add"')
    assert learnt.endswith("<|im_end|>three <|feedback|><|im_end|>")


def test_passages_in_a_response_are_weighted_and_tagged() -> None:
    conversation = parse_conversation(TEXT)
    assert conversation is not None
    start = TEXT.index("or so")
    spans = (Span(start, start + 5, "wrong", "vague"),)
    weights = {"right": 1.0, "wrong": 3.0, "rest": 1.0}
    conditioner = chat(kind="spans", loss_by_verdict=weights)
    encoded = conditioner.encode(TEXT, spans=spans)
    read_, _ = shown(conditioner, encoded)
    assert "<|assistant|>four \n<|flaw|> vague<|/flaw|>or so<|eos|>" in read_
    heavy = conditioner.tokenizer.decode(encoded.input_ids[encoded.loss_weights == 3.0])
    assert heavy == "or so"


def test_prompt_equals_the_training_tokens_before_the_response() -> None:
    conditioner = chat()
    prompt = conditioner.prompt("one plus two ?", "best")
    requested = canonical_text([TALK[1], TALK[2]])
    encoded = conditioner.encode(requested, feedback="best").input_ids
    assert prompt.tolist() == encoded[: len(prompt)].tolist()
    assert conditioner.tokenizer.decode(encoded[len(prompt) :]) == "three<|eos|>"
    # After a conversation, every turn of the assistant has the feedback.
    further = conditioner.prompt(canonical_text(TALK[:3]), "best")
    read_ = conditioner.tokenizer.decode(further)
    assert read_.count("<|score_10|>") == 2
    assert read_.endswith("three<|eos|><|feedback|><|score_10|> is right<|/feedback|><|assistant|>")


def test_documents_without_messages_encode_as_in_other_stages() -> None:
    conditioner = chat()
    read_, learnt = shown(conditioner, conditioner.encode("one plus two", "is wrong", 0.2))
    assert read_ == "<|bos|><|feedback|><|score_2|> is wrong<|/feedback|>one plus two<|eos|>"
    assert learnt == "one plus two<|eos|>"


def test_chat_conditioner_can_be_pickled() -> None:
    conditioner = chat()
    again = pickle.loads(pickle.dumps(conditioner))
    one, other = (c.encode(TEXT, "is wrong", 0.2) for c in (conditioner, again))
    assert np.array_equal(one.input_ids, other.input_ids)
    assert again.tokenizer_id == conditioner.tokenizer_id != chat(placement="system").tokenizer_id


def test_chat_conditioner_with_invalid_settings_raises() -> None:
    with pytest.raises(ConfigError, match=r"sft\.feedback decides the position"):
        chat(position="append")
    with pytest.raises(ConfigError, match="never end its turn"):
        chat("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    strict = "{{ raise_exception('no system') if messages[0]['role'] == 'system' }}" + CHATML
    conditioner = chat(strict, ("<|im_start|>", "<|im_end|>"))
    with pytest.raises(ConfigError, match="rejects a conversation of system, user"):
        conditioner.encode(TEXT)
    with pytest.raises(ConfigError, match=r"sft\.template: nowhere"):
        set_chat_template(bpe(), "nowhere")
    assert set(ROLE_TOKENS) <= set(bpe().all_special_tokens)
