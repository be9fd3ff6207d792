"""The tokenizer: loaded from a folder or trained, with the feedback tokens."""

import heapq
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from hashlib import blake2b
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import (
    Regex,
    Tokenizer,
    decoders,
    models,
    pre_tokenizers,
    trainers,
)

from ixt_data.errors import ConfigError
from ixt_train.config import TokenizerTraining

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

PAD, BOS, EOS, UNKNOWN = "<|pad|>", "<|bos|>", "<|eos|>", "<|unknown|>"
ROLES = {"pad_token": PAD, "bos_token": BOS, "eos_token": EOS}
# Runs of white space stay whole and words carry their leading space: indented code stays short.
_PRETOKENS = Regex(r" ?[\p{L}_]+| ?\p{N}{1,3}| ?[^\s\p{L}\p{N}_]+|\s+(?!\S)|\s+")


def train_tokenizer(
    texts: Iterable[str], training: TokenizerTraining, special: Sequence[str]
) -> "PreTrainedTokenizerFast":
    """Train a tokenizer of the given kind and size on `texts`.

    Args:
        texts: training texts, read once.
        training: kind and vocabulary size.
        special: feedback tokens; they and the roles get the first ids.

    Raises:
        ConfigError: the vocabulary is too small for the special tokens.
    """
    from transformers import PreTrainedTokenizerFast

    reserved = list(dict.fromkeys([*ROLES.values(), UNKNOWN, *special]))
    min_size = len(reserved) + (256 if training.kind == "bpe" else 1)
    if training.vocab_size < min_size:
        raise ConfigError(
            f"tokenizer.train.vocab_size: {training.vocab_size} is too small; "
            f"{training.kind} with {len(reserved)} special tokens needs {min_size}"
        )
    train = _train_words if training.kind == "words" else train_bpe
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=train(texts, training.vocab_size, reserved),
        unk_token=UNKNOWN,
        clean_up_tokenization_spaces=False,
        **ROLES,
    )
    return add_special_tokens(tokenizer, special)


def _train_words(texts: Iterable[str], vocab_size: int, reserved: list[str]) -> Tokenizer:
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(text.split())
    known = ((-n, word) for word, n in counts.items() if word not in reserved)
    words = [word for _, word in heapq.nsmallest(vocab_size - len(reserved), known)]
    vocabulary = {word: i for i, word in enumerate([*reserved, *words])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    return tokenizer


def train_bpe(texts: Iterable[str], vocab_size: int, reserved: list[str]) -> Tokenizer:
    """Train byte-level BPE; without texts each byte is a token."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(_PRETOKENS, behavior="isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size,
        special_tokens=reserved,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return tokenizer


def load_tokenizer(folder: str | Path, special: Sequence[str] = ()) -> "PreTrainedTokenizerFast":
    """Load the tokenizer in a folder; add roles and feedback tokens that it does not have.

    Raises:
        ConfigError: the folder contains no tokenizer.
    """
    from transformers import AutoTokenizer

    if not Path(folder).is_dir():
        raise ConfigError(f"tokenizer.path: {folder} is not a folder")
    try:
        tokenizer = AutoTokenizer.from_pretrained(str(folder), local_files_only=True)
    except (OSError, ValueError) as error:
        raise ConfigError(f"tokenizer.path: no tokenizer in {folder} ({error})") from None
    return add_special_tokens(tokenizer, special)


def add_special_tokens(tokenizer: Any, special: Sequence[str]) -> "PreTrainedTokenizerFast":
    """Add the roles and tokens that `tokenizer` does not have; keep the others unchanged."""
    roles = {role: token for role, token in ROLES.items() if getattr(tokenizer, role) is None}
    others = [token for token in special if token not in ROLES.values()]
    # By position: transformers 5 renamed the argument that says whether to replace existing ones.
    tokenizer.add_special_tokens({**roles, "additional_special_tokens": others}, False)
    return tokenizer


def tokenizer_id(tokenizer: Any) -> str:
    """Return 12 hex digits over everything that decides how text becomes tokens."""
    text = tokenizer.backend_tokenizer.to_str()
    processor = json.loads(text)["post_processor"] or {}
    if processor.get("type") == "TemplateProcessing" and not processor["special_tokens"]:
        # Transformers 5 adds a template that changes nothing.
        plain = Tokenizer.from_str(text)
        plain.post_processor = None
        text = plain.to_str()
    return blake2b(text.encode(), digest_size=6).hexdigest()


def control_tokens(tokenizer: Any) -> list[int]:
    """Return the ids that a model must never generate: all special tokens but the end."""
    added = tokenizer.backend_tokenizer.get_added_tokens_decoder()
    special = {number for number, token in added.items() if token.special}
    return sorted((special | set(tokenizer.all_special_ids)) - {tokenizer.eos_token_id})
