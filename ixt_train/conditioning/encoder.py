"""The encoder: text to token ids, the same while training reads and when tokens are written."""

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

# Critiques repeat themselves: rules and verifiers have a few hundred sentences.
_REMEMBERED, _REMEMBERED_CHARACTERS = 1 << 14, 500


class Encoder:
    """Plain text to tokens: whatever a text spells, control tokens do not come out of it.

    Attributes:
        family: where the tokens of this encoder stand in a store.
        dtype: of those tokens.
    """

    def __init__(self, tokenizer: Any) -> None:
        """Take over how a fast Hugging Face tokenizer splits text.

        Raises:
            ConfigError: it is no fast tokenizer.
        """
        if getattr(tokenizer, "backend_tokenizer", None) is None:
            raise ConfigError(f"{type(tokenizer).__name__} is no fast tokenizer (tokenizers)")
        self.backend = _text_only(tokenizer.backend_tokenizer)
        self._forged = _forgeable(self.backend, tokenizer)
        self._unknown = tokenizer.unk_token_id
        own = f"{tokenizer_id(tokenizer)} {self._forged.tolist()} {self._unknown}"
        self.family = f"{TOKENS}/{blake2b(own.encode(), digest_size=6).hexdigest()}"
        few = len(tokenizer) <= 1 << 16
        self.dtype: npt.DTypeLike = np.dtype("<u2" if few else "<u4")
        self._short_words = lru_cache(_REMEMBERED)(self._encode_words)

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_short_words"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._short_words = lru_cache(_REMEMBERED)(self._encode_words)

    def document(self, text: str) -> TokenArray:
        """Return the tokens of a document."""
        return self.documents([text])[0]

    def documents(self, texts: list[str]) -> list[TokenArray]:
        """Return the tokens of some documents, on all cores where TOKENIZERS_PARALLELISM allows it."""
        encoded = self.backend.encode_batch_fast(texts, add_special_tokens=False)
        return [self._ids(encoding) for encoding in encoded]

    def document_with_offsets(self, text: str) -> tuple[TokenArray, npt.NDArray[np.int64]]:
        """Return the tokens of a document, and the characters from where to where each one stands."""
        encoding = self.backend.encode(text, add_special_tokens=False)
        return self._ids(encoding), np.array(encoding.offsets, np.int64).reshape(-1, 2)

    def words(self, text: str) -> TokenArray:
        """Return the tokens of a critique or a tag, which follow a control token."""
        return (self._short_words if len(text) <= _REMEMBERED_CHARACTERS else self._encode_words)(
            text
        )

    def _encode_words(self, text: str) -> TokenArray:
        ids = self.document(f" {text.strip()}")
        ids.setflags(write=False)
        return ids

    def _ids(self, encoding: Encoding) -> TokenArray:
        ids = np.array(encoding.ids, np.int32)
        if len(self._forged):
            ids[np.isin(ids, self._forged)] = self._unknown
        return ids


def _text_only(backend: Tokenizer) -> Tokenizer:
    """Return a copy that neither cuts nor pads, and takes control tokens in a text for plain letters."""
    copy = Tokenizer.from_str(backend.to_str())
    copy.no_truncation()
    copy.no_padding()
    copy.encode_special_tokens = True
    return copy


def _forgeable(backend: Tokenizer, tokenizer: Any) -> TokenArray:
    """Control tokens that plain text can still spell, as with one word per token."""
    if tokenizer.unk_token_id is None:
        return np.empty(0, np.int32)
    found = [
        number
        for token, number in zip(
            tokenizer.all_special_tokens, tokenizer.all_special_ids, strict=True
        )
        if number in backend.encode(token, add_special_tokens=False).ids
        and number != tokenizer.unk_token_id
    ]
    return np.array(found, np.int32)
