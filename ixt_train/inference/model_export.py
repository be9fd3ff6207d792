"""Export: a model folder that transformers, vLLM and others load without this package."""

import datetime
import json
import re
from pathlib import Path
from typing import Any, Literal

from transformers import GenerationConfig

from ixt_data.errors import ConfigError
from ixt_train.conditioning import ChatConditioner
from ixt_train.inference.generation import feedback_text
from ixt_train.inference.loaded_model import FORMAT, LoadedModel
from ixt_train.runs import EXPORT_CARD, feedback_record

_CLOCK = re.compile(r"""strftime_now\(\s*(["'])(.*?)\1\s*\)""")
_RENDERED = (
    "{% macro ixt_rendered(messages, add_generation_prompt) %}TEMPLATE{% endmacro %}"
    "{% set ixt_feedback = feedback if feedback is defined else BEST %}"
)
# As in training: before the assistant's header. Some templates end a text that no reply follows.
_TURN = (
    "{% set ixt_complete = ixt_rendered(messages, add_generation_prompt) %}"
    "{% set ixt = namespace(at=0) %}"
    "{% for number in range(1, messages | length + (1 if add_generation_prompt else 0)) %}"
    "{% if number == messages | length or messages[number]['role'] == 'assistant' %}"
    "{% set ixt_before = ixt_rendered(messages[:number], false) %}"
    "{% set ixt_asked = ixt_rendered(messages[:number], true) %}"
    "{% set ixt_place = ixt_before | length if ixt_complete.startswith(ixt_before) else "
    "(ixt_asked | length - HEADER if ixt_complete.startswith(ixt_asked) else -1) %}"
    "{% if ixt_place >= 0 %}{{ ixt_complete[ixt.at:ixt_place] }}{{ ixt_feedback }}"
    "{% set ixt.at = ixt_place %}{% endif %}{% endif %}{% endfor %}{{ ixt_complete[ixt.at:] }}"
)
_SYSTEM = (
    "{% if ixt_feedback and messages[0]['role'] in ['system', 'developer'] %}"
    "{% set messages = [{'role': messages[0]['role'], "
    "'content': messages[0]['content'] + ixt_feedback}] + messages[1:] %}"
    "{% elif ixt_feedback %}"
    "{% set messages = [{'role': 'system', 'content': ixt_feedback}] + messages %}"
    "{% endif %}{{ ixt_rendered(messages, add_generation_prompt) }}"
)


def export_model(loaded: LoadedModel, folder: str | Path) -> dict[str, Any]:
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
    tokenizer, model, conditioner = loaded.tokenizer, loaded.model, loaded.conditioner
    model.generation_config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=list(conditioner.ends),
        pad_token_id=tokenizer.pad_token_id,
        suppress_tokens=conditioner.banned_tokens,
    )
    model.save_pretrained(folder, safe_serialization=True)
    training_template = tokenizer.chat_template
    tokenizer.chat_template = feedback_template(loaded)
    tokenizer.save_pretrained(folder)
    tokenizer.chat_template = training_template
    card = model_card(loaded)
    (folder / EXPORT_CARD).write_text(json.dumps(card, indent=2) + "\n")
    return {"folder": str(folder), **card}


def model_card(loaded: LoadedModel) -> dict[str, Any]:
    """Return the content of ixt.json: the condition, and the feedback to prompt with."""
    conditioner, tokenizer = loaded.conditioner, loaded.tokenizer
    choices: tuple[Literal["best", "worst", "none"], ...] = ("best", "worst", "none")
    # Some tokenizers insert the beginning token themselves, and servers use them so.
    adds_bos = tokenizer("")["input_ids"][:1] == [tokenizer.bos_token_id]
    bos = "" if adds_bos else tokenizer.bos_token
    available = [c for c in choices if c == "none" or c in conditioner.observed]
    chat = None
    if isinstance(conditioner, ChatConditioner):
        chat = {
            "feedback": conditioner.placement,
            "date": conditioner.sft.date.isoformat(),
            "template": tokenizer.chat_template,
        }
    return {
        "format": FORMAT,
        "step": loaded.step,
        "digest": loaded.digest,
        "prefixes": {choice: bos + feedback_text(loaded, choice) for choice in available},
        "banned_tokens": conditioner.banned_tokens,
        "feedback": feedback_record(conditioner.observed),
        "condition": conditioner.condition.model_dump(mode="json"),
        "chat": chat,
    }


def with_fixed_date(template: str, date: datetime.date) -> str:
    """Return a template that writes a fixed date wherever it asks for the current one."""
    return _CLOCK.sub(lambda match: json.dumps(date.strftime(match[2])), template)


def feedback_template(loaded: LoadedModel) -> str | None:
    """Return the chat template with the best feedback that training observed, if any.

    It writes the date of training: a server would write its own, which the model never saw.
    """
    conditioner, template = loaded.conditioner, loaded.tokenizer.chat_template
    if not isinstance(conditioner, ChatConditioner):
        return template  # type: ignore[no-any-return]
    template = with_fixed_date(template, conditioner.sft.date)
    best = feedback_text(loaded, "best") if "best" in conditioner.observed else ""
    if not best:
        return template
    rendered = _RENDERED.replace("BEST", json.dumps(best)).replace("TEMPLATE", template)
    if conditioner.placement == "system":
        return rendered + _SYSTEM
    return rendered + _TURN.replace("HEADER", str(len(conditioner.template.header)))
