"""Tiny models of conversations, and their tokenizers."""

from typing import Any

import torch
from transformers import LlamaConfig, LlamaForCausalLM

from ixt_data.conversation import canonical_text
from ixt_train.conditioning.chat_template import set_chat_template
from ixt_train.conditioning.conditioner import SPECIAL_TOKENS, Conditioner
from ixt_train.conditioning.tokenizer import add_special_tokens, train_tokenizer
from ixt_train.config.model_config import TokenizerTraining
from ixt_train.inference.loaded_model import LoadedModel

TALK: list[dict[str, Any]] = [
    {"role": "system", "content": "be short"},
    {"role": "user", "content": "one plus two ?"},
    {"role": "assistant", "content": "three"},
    {"role": "user", "content": "plus one ?"},
]
CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] | trim }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
# As Phi-3's: a conversation that no reply follows ends with another token.
CLOSED = CHATML.replace("{% endif %}", "{% else %}{{ eos_token }}{% endif %}")
OBSERVED = {"best": (1.0, 'is "right" {{ é }}'), "worst": (0.0, "is wrong")}


def a_model(conditioner: Conditioner) -> LoadedModel:
    torch.manual_seed(0)
    config = LlamaConfig(
        vocab_size=len(conditioner.tokenizer),
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=160,
        initializer_range=0.5,
    )
    return LoadedModel(
        LlamaForCausalLM(config).eval(), conditioner.tokenizer, conditioner, 7, "abc"
    )


def bpe(template: str | None) -> Any:
    training = TokenizerTraining(vocab_size=600)
    tokenizer = train_tokenizer([canonical_text([*TALK])], training, SPECIAL_TOKENS)
    if template is None:
        set_chat_template(tokenizer, None)
    else:
        add_special_tokens(tokenizer, [*SPECIAL_TOKENS, "<|im_start|>", "<|im_end|>"])
        tokenizer.chat_template = template
    return tokenizer
