"""Exported folders in plain transformers: the same logits, prompts and conversations."""

from datetime import date
from pathlib import Path
from typing import Any

import pytest
import torch
from chat_models import CHATML, CLOSED, OBSERVED, TALK, a_model, bpe
from transformers import AutoModelForCausalLM, AutoTokenizer

from ixt_data.errors import ConfigError
from ixt_data.mix import build_condition
from ixt_train.conditioning.chat import ChatConditioner
from ixt_train.conditioning.conditioner import SPECIAL_TOKENS, Conditioner, Feedback
from ixt_train.conditioning.tokenizer import train_tokenizer
from ixt_train.config import SftConfig
from ixt_train.config.model_config import TokenizerTraining
from ixt_train.inference.decoding import TokenSampling
from ixt_train.inference.generation import (
    GenerationRequest,
    generate,
    generate_texts,
    read_requests,
)
from ixt_train.inference.loaded_model import LoadedModel, load_model
from ixt_train.inference.model_export import export_model


def same_logits(trained: LoadedModel, folder: Path, ids: torch.Tensor) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder)
    with torch.no_grad():
        assert torch.equal(model(ids).logits, trained.model(ids).logits)


@pytest.mark.parametrize("kind", ["words", "bpe"])
def test_card_prefix_equals_the_training_tokens(kind: Any, tmp_path: Path) -> None:
    training = TokenizerTraining(kind=kind, vocab_size=600)
    texts = ["17 + 5 = 22", 'is "right" {{ é }}', "is wrong"]
    tokenizer = train_tokenizer(texts, training, SPECIAL_TOKENS)
    trained = a_model(Conditioner(tokenizer, build_condition(), OBSERVED))
    card = export_model(trained, tmp_path / "out")
    plain = AutoTokenizer.from_pretrained(tmp_path / "out")
    for said in ("best", "worst", "none"):
        # One word a token needs a space to know where one begins.
        text = card["prefixes"][said] + (" " if kind == "words" else "") + "17 + 5"
        ids = plain(text, return_tensors="pt")["input_ids"]
        assert ids[0].tolist() == trained.conditioner.prompt("17 + 5", said).tolist()
        same_logits(trained, tmp_path / "out", ids)
    again = load_model(tmp_path / "out")
    assert generate(again, "17 +") == generate(trained, "17 +")
    assert set(card["banned_tokens"]) == set(tokenizer.all_special_ids) - {tokenizer.eos_token_id}


@pytest.mark.parametrize("placement", ["turn", "system"])
@pytest.mark.parametrize("template", [None, CHATML, CLOSED])
@pytest.mark.parametrize("talk", [TALK, TALK[1:], TALK[1:2]])
def test_exported_chat_template_inserts_the_best_feedback(
    placement: Any, template: str | None, talk: list[dict[str, Any]], tmp_path: Path
) -> None:
    conditioner = ChatConditioner(
        bpe(template), build_condition(), OBSERVED, SftConfig(feedback=placement)
    )
    own = conditioner.tokenizer.chat_template
    export_model(a_model(conditioner), tmp_path / "out")
    assert conditioner.tokenizer.chat_template == own
    plain = AutoTokenizer.from_pretrained(tmp_path / "out")

    def ids(**requested: str) -> list[int]:
        return list(
            plain.apply_chat_template(
                talk, add_generation_prompt=True, return_dict=False, **requested
            )
        )

    worst = plain.decode(conditioner.prompt("", "worst")[1:])
    assert ids() == conditioner.reply(talk, "best").tolist()
    assert ids(feedback="") == conditioner.reply(talk, "none").tolist()
    assert ids(feedback=worst) == conditioner.reply(talk, Feedback(0.0, "is wrong")).tolist()
    # Loaded by us, the template is the one of training again.
    assert load_model(tmp_path / "out").conditioner.reply(talk).tolist() == ids()


def test_exported_chat_template_writes_the_date_of_training(tmp_path: Path) -> None:
    dated = "{{ bos_token }}{{ strftime_now('%d %b %Y') }}" + CHATML.removeprefix("{{ bos_token }}")
    for observed in (OBSERVED, {}):
        sft = SftConfig(date=date(2024, 2, 29))
        conditioner = ChatConditioner(bpe(dated), build_condition(kind="none"), observed, sft)
        folder = tmp_path / f"out{len(observed)}"
        export_model(a_model(conditioner), folder)
        plain = AutoTokenizer.from_pretrained(folder)
        ids = plain.apply_chat_template(TALK, add_generation_prompt=True, return_dict=False)
        assert "29 Feb 2024" in plain.decode(ids)
        assert list(ids) == conditioner.reply(TALK, "none").tolist()


def test_chat_model_replies_and_ends_its_turn(tmp_path: Path) -> None:
    conditioner = ChatConditioner(bpe(CHATML), build_condition(), OBSERVED)
    tokenizer, end = conditioner.tokenizer, "<|im_end|>"
    assert tokenizer.convert_ids_to_tokens(list(conditioner.ends)) == ["<|eos|>", end]
    trained = a_model(conditioner)
    lines = ['{"messages": [{"role": "user", "content": "plus one ?"}], "feedback": "none"}']
    requests = [
        *read_requests(lines, "file", GenerationRequest("")),
        GenerationRequest("plus one ?", "none"),
    ]
    requested, said = generate_texts(trained, requests, TokenSampling(max_new_tokens=20))
    assert requested == said
    assert "<|" not in said.text
    how = TokenSampling(temperature=1000.0, samples=20, max_new_tokens=100)
    hot = generate_texts(trained, [GenerationRequest("plus one ?")], how)
    assert {row.ending for row in hot} == {"end", "length"}
    assert not any("<|" in row.text for row in hot)
    other = a_model(Conditioner(bpe(None), build_condition(), OBSERVED))
    with pytest.raises(ConfigError, match="not trained on conversations"):
        generate_texts(other, requests, TokenSampling())
