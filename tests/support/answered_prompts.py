"""A store of prompts with several answers, a tiny model, and a preference train config of both."""

import json
from pathlib import Path
from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ixt_data.critics.base import EmbeddedCritic
from ixt_data.critique_runs.annotation import annotate
from ixt_data.ingestion import ingest
from ixt_data.records import Critique, Document
from ixt_data.store.store import Store
from ixt_train.conditioning.conditioner import SPECIAL_TOKENS
from ixt_train.conditioning.tokenizer import add_special_tokens, train_tokenizer
from ixt_train.config.model_config import TokenizerTraining

TEMPLATE = (
    "{{ bos_token }}{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] }}"
    "{% if m['role'] == 'assistant' %}{{ eos_token }}{% endif %}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
"""A conversation ends with the assistant's end token, so that TRL and ixt count the same tokens."""


class Closeness(EmbeddedCritic):
    """Judges the sum that a conversation ends with: 1 is right, and 0.25 less per unit of error."""

    name = "closeness"

    def config(self) -> dict[str, Any]:
        return {}

    def judge(self, document: Document) -> Critique:
        *_, question, answer = json.loads(document.text)["messages"]
        first, _, second, *_ = question["content"].split()
        error = abs(int(first) + int(second) - int(answer["content"].split()[-1]))
        score = max(0.0, 1 - error / 4)
        said = "every step is correct" if not error else "the sum is wrong"
        return Critique(document.doc_id, critique=said, score=score)


def talk(question: str, answer: str) -> list[dict[str, str]]:
    return [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": "ask me a sum"},
        {"role": "user", "content": question},
        {"role": "assistant", "content": answer},
    ]


def write_store(folder: Path, prompts: int = 60, errors: tuple[int, ...] = (0, 1, 3)) -> Store:
    """Write a store in which each prompt has an answer per error, of different lengths."""
    path = folder / "answers.jsonl"
    with path.open("w") as file:
        for n in range(prompts):
            for error in errors:
                words = "it is " * (1 + (n + error) % 3)
                messages = talk(f"{n} + {n % 7} =", f"{words}{n + n % 7 + error}")
                file.write(json.dumps({"messages": messages, "off_by": error}) + "\n")
    store = Store.init(folder / "store")
    ingest(store, "answers", [path], stage="sft")
    annotate(store, "answers", Closeness())
    return store


def write_model(folder: Path, **settings: Any) -> Any:
    """Write a tiny model with its tokenizer, and return the tokenizer."""
    texts = [" ".join(map(str, range(80))), "hello ask me a sum it is + ="]
    tokenizer = train_tokenizer(texts, TokenizerTraining(vocab_size=400), SPECIAL_TOKENS)
    add_special_tokens(tokenizer, ("<|user|>", "<|assistant|>"))
    tokenizer.chat_template = TEMPLATE
    tokenizer.save_pretrained(folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        **{
            "vocab_size": len(tokenizer),
            "hidden_size": 32,
            "intermediate_size": 64,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "num_key_value_heads": 2,
            "initializer_range": 0.2,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
            "pad_token_id": tokenizer.pad_token_id,
        }
        | settings
    )
    LlamaForCausalLM(config).save_pretrained(folder)
    return tokenizer


def preference_tree(store: Store, model: Path, run_folder: Path) -> dict[str, Any]:
    return {
        "mix": {"store": str(store.root), "critic": "closeness", "condition": {"kind": "none"}},
        "run_folder": str(run_folder),
        "stage": "preference",
        "model": {"path": str(model)},
        "tokenizer": {"path": str(model)},
        "max_length": 96,
        "global_batch_size": 8,
        "duration": "8ba",
        "optimizer": {"lr": 3e-3, "weight_decay": 0.0},
        "schedule": {"kind": "constant", "warmup": "0ba"},
        "holdout": 0.2,
        "checkpoint": {"every": "4ba"},
        "eval": {"every": "4ba", "samples": 8},
        "logging": {"every": 1, "tensorboard": False, "progress": False},
        "threads": 1,
    }
