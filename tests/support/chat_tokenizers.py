"""Tokenizers of the kinds that chat models have, made from a template's own control tokens."""

import json
import re
from typing import Any

from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast

from ixt_train.conditioning.conditioner import SPECIAL_TOKENS
from ixt_train.conditioning.tokenizer import add_special_tokens, train_tokenizer
from ixt_train.config.model_config import TokenizerTraining

KINDS = ("bytes", "first", "always", "prepend")
"""Byte-level BPE, and SentencePiece's with a space before the first piece, each piece, the text."""
_CONTROL = re.compile(
    r"<\|[^<>\s]{1,40}>|<[^<>\s]{1,20}\|>|<｜[^<>｜\s]{1,40}｜>|<[a-z_/]{2,40}>|\[/?[A-Z_]{3,20}\]"
)
_WORDS = "one plus two three four be short user assistant ? "


def chat_tokenizer(template: str, eos: str, kind: str = "bytes", plain: str = "") -> Any:
    """Return a tokenizer of a kind; control tokens with a character of `plain` are not special."""
    names = sorted({*_CONTROL.findall(template), eos})
    if kind == "bytes":
        tokenizer = train_tokenizer([_WORDS], TokenizerTraining(vocab_size=400), SPECIAL_TOKENS)
    else:
        tokenizer = _sentencepiece(kind)
    tokenizer.backend_tokenizer.add_tokens(
        [
            AddedToken(
                name,
                special=not any(character in name for character in plain),
                normalized=False,
                # As in Phi-3's tokenizer, which follows SentencePiece.
                rstrip=kind != "bytes" and name.startswith("<|"),
            )
            for name in names
        ]
    )
    tokenizer.eos_token = eos
    tokenizer.chat_template = template
    return tokenizer


def _sentencepiece(kind: str) -> Any:
    backend = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True))
    if kind == "prepend":
        backend.normalizer = normalizers.Sequence(
            [normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")]
        )
    else:
        backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=kind, split=False)
    alphabet = ["<unk>", *(f"<0x{number:02X}>" for number in range(256))]
    trainer = trainers.BpeTrainer(vocab_size=400, special_tokens=alphabet, show_progress=False)
    backend.train_from_iterator([_WORDS] * 5, trainer)
    settings = json.loads(backend.to_str())
    settings["added_tokens"] = settings["added_tokens"][:1]
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=Tokenizer.from_str(json.dumps(settings)),
        unk_token="<unk>",
        bos_token="<s>",
        eos_token="</s>",
        pad_token="<pad>",
    )
    return add_special_tokens(tokenizer, SPECIAL_TOKENS)
