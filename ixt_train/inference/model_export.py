"""Export: a model folder that transformers, vLLM and others load without this package."""

import json
from pathlib import Path
from typing import Any, Literal

from transformers import GenerationConfig

from ixt_data.errors import ConfigError
from ixt_train.conditioning import ChatConditioner
from ixt_train.inference.generation import told_text
from ixt_train.inference.loaded_model import CARD, FORMAT, LoadedModel
from ixt_train.runs import feedback_record

_RENDERED = (
    "{% macro ixt_rendered(messages, add_generation_prompt) %}TEMPLATE{% endmacro %}"
    "{% set ixt_told = feedback if feedback is defined else BEST %}"
)
# As in training: before the assistant's header if the template separates it, else after it.
_TURN = (
    "{% set ixt_whole = ixt_rendered(messages, add_generation_prompt) %}"
    "{% set ixt = namespace(at=0) %}{% for message in messages %}"
    "{% if message['role'] == 'assistant' and not loop.first %}"
    "{% set ixt_before = ixt_rendered(messages[:loop.index0], false) %}"
    "{% if ixt_whole[:ixt_before | length] == ixt_before %}"
    "{{ ixt_whole[ixt.at:ixt_before | length] }}{{ ixt_told }}"
    "{% set ixt.at = ixt_before | length %}{% endif %}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{% set ixt_before = ixt_rendered(messages, false) %}"
    "{% if ixt_whole[:ixt_before | length] == ixt_before %}"
    "{{ ixt_whole[ixt.at:ixt_before | length] }}{{ ixt_told }}"
    "{% set ixt.at = ixt_before | length %}{% endif %}{% endif %}{{ ixt_whole[ixt.at:] }}"
)
_SYSTEM = (
    "{% if ixt_told and messages[0]['role'] in ['system', 'developer'] %}"
    "{% set messages = [{'role': messages[0]['role'], "
    "'content': messages[0]['content'] + ixt_told}] + messages[1:] %}"
    "{% elif ixt_told %}{% set messages = [{'role': 'system', 'content': ixt_told}] + messages %}"
    "{% endif %}{{ ixt_rendered(messages, add_generation_prompt) }}"
)


def export_model(trained: LoadedModel, folder: str | Path) -> dict[str, Any]:
    """Write weights (safetensors), config, tokenizer, generation config and ixt.json.

    The generation config bans control tokens. ixt.json contains the prefixes that condition a
    document on the best or the worst feedback. The chat template of a model of conversations
    inserts the best feedback; its variable `feedback` replaces it, and "" removes it.

    Raises:
        ConfigError: the folder exists and is not empty.
    """
    folder = Path(folder)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder} already exists; export into a new folder")
    tokenizer, model, conditioner = trained.tokenizer, trained.model, trained.conditioner
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=list(conditioner.ends),
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=conditioner.banned,
    )
    model.save_pretrained(folder, safe_serialization=True)
    own_template = tokenizer.chat_template
    tokenizer.chat_template = told_template(trained)
    tokenizer.save_pretrained(folder)
    tokenizer.chat_template = own_template
    card = model_card(trained)
    (folder / CARD).write_text(json.dumps(card, indent=2) + "\n")
    return {"folder": str(folder), **card}


def model_card(trained: LoadedModel) -> dict[str, Any]:
    """Return the content of ixt.json: the condition, and the feedback to prompt with."""
    conditioner, tokenizer = trained.conditioner, trained.tokenizer
    choices: tuple[Literal["best", "worst", "none"], ...] = ("best", "worst", "none")
    # Some tokenizers insert the beginning token themselves, and servers use them so.
    begins = tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
    bos = "" if begins else tokenizer.bos_token
    asked = [c for c in choices if c == "none" or c in conditioner.observed]
    chat = None
    if isinstance(conditioner, ChatConditioner):
        chat = {"feedback": conditioner.placement, "template": tokenizer.chat_template}
    return {
        "format": FORMAT,
        "step": trained.step,
        "digest": trained.digest,
        "prefix": {choice: bos + told_text(trained, choice) for choice in asked},
        "banned": conditioner.banned,
        "feedback": feedback_record(conditioner.observed),
        "condition": conditioner.condition.model_dump(mode="json"),
        "chat": chat,
    }


def told_template(trained: LoadedModel) -> str | None:
    """Return the chat template with the best feedback that training observed, if any."""
    conditioner, template = trained.conditioner, trained.tokenizer.chat_template
    if not isinstance(conditioner, ChatConditioner) or "best" not in conditioner.observed:
        return template  # type: ignore[no-any-return]
    best = told_text(trained, "best")
    if not best:
        return template  # type: ignore[no-any-return]
    rendered = _RENDERED.replace("BEST", json.dumps(best)).replace("TEMPLATE", template)
    return rendered + (_TURN if conditioner.placement == "turn" else _SYSTEM)
