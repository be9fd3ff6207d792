"""The encoder: text to token ids, the same for streamed text and for stored tokens."""

import json
from collections.abc import Collection
from functools import lru_cache
from hashlib import blake2b
from typing import Any

import numpy as np
import numpy.typing as npt
from tokenizers import Encoding, Tokenizer

from ixt_data.errors import ConfigError
from ixt_data.log import TOKENS
from ixt_train.conditioning.tokenizer import tokenizer_id

TokenArray = npt.NDArray[np.int32]

# Critiques repeat: rules and verifiers have a few hundred sentences.
_CACHE_SIZE, _MAX_CACHED_CHARACTERS = 1 << 14, 500


class Encoder:
    """An encoder of plain text: no text can produce control tokens.

    Attributes:
        family: name of this encoder's token family in a store.
        dtype: integer type of the stored tokens.
    """

    def __init__(self, tokenizer: Any, control: Collection[str] = ()) -> None:
        """Copy how a fast Hugging Face tokenizer splits text.

        Args:
            tokenizer: the tokenizer.
            control: added tokens that no text can spell, besides those marked as special.

        Raises:
            ConfigError: the tokenizer is not a fast one.
        """
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise ConfigError(
                f"{type(tokenizer).__name__} is not a fast tokenizer; load one with AutoTokenizer"
            )
        self.backend = _plain_text_backend(tokenizer.backend_tokenizer, control)
        self._spellable = _spellable_control_tokens(self.backend, tokenizer)
        self._unknown = tokenizer.unk_token_id
        added = tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
        plain = sorted(t.content for t in added if t.content in control and not t.special)
        identity = f"{tokenizer_id(tokenizer)} {self._spellable.tolist()} {self._unknown}"
        identity += f" {plain}" if plain else ""
        self.family = f"{TOKENS}/{blake2b(identity.encode(), digest_size=6).hexdigest()}"
        is_small = len(tokenizer) <= 1 << 16
        self.dtype: npt.DTypeLike = np.dtype("<u2" if is_small else "<u4")
        self._short_words = lru_cache(_CACHE_SIZE)(self._encode_words)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_short_words"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._short_words = lru_cache(_CACHE_SIZE)(self._encode_words)

    def document(self, text: str) -> TokenArray:
        """Return the tokens of a document, int32[T]."""
        return self.documents([text])[0]

    def documents(self, texts: list[str]) -> list[TokenArray]:
        """Encode documents, int32[T] each, on all cores if TOKENIZERS_PARALLELISM allows it."""
        encoded = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return [self._ids(encoding) for encoding in encoded]

    def document_with_offsets(self, text: str) -> tuple[TokenArray, npt.NDArray[np.int64]]:
        """Return a document's tokens int32[T] and their character offsets int64[T, 2]."""
        encoding = self.backend.encode(text, add_special_tokens=False)
        return self._ids(encoding), np.array(encoding.offsets, np.int64).reshape(-1, 2)

    def words(self, text: str) -> TokenArray:
        """Return the tokens of a critique or a tag, which follow a control token."""
        return (self._short_words if len(text) <= _MAX_CACHED_CHARACTERS else self._encode_words)(
            text
        )

    def _encode_words(self, text: str) -> TokenArray:
        ids = self.document(f" {text.strip()}")
        ids.setflags(write=False)
        return ids

    def _ids(self, encoding: Encoding) -> TokenArray:
        ids = np.array(encoding.ids, np.int32)
        if len(self._spellable):
            ids[np.isin(ids, self._spellable)] = self._unknown
        return ids


def _plain_text_backend(backend: Tokenizer, control: Collection[str]) -> Tokenizer:
    """Return a copy that neither truncates nor pads, and reads control tokens as plain text."""
    settings = json.loads(backend.to_str())
    for entry in settings["added_tokens"]:
        entry["special"] |= entry["content"] in control
    copy = Tokenizer.from_str(json.dumps(settings))
    copy.no_truncation()
    copy.no_padding()
    copy.encode_special_tokens = True
    return copy


def _spellable_control_tokens(backend: Tokenizer, tokenizer: Any) -> TokenArray:
    """Return control tokens that plain text can still spell, as with one token per word."""
    if tokenizer.unk_token_id is None:
        return np.empty(0, np.int32)
    spellable = [
        number
        for token, number in zip(
            tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True
        )
        if number in backend.encode(token, add_special_tokens=False).ids
        and number != tokenizer.unk_token_id
    ]
    return np.array(spellable, np.int32)
