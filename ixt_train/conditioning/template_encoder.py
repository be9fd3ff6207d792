"""Rendered conversations as tokens: only the template writes control tokens.

A rendered text is tokenized as a whole, as `apply_chat_template(tokenize=True)` does. To tell the
template's control tokens from the same words in a message, the former have another first
character, private to this module, and the tokenizer's copy knows only that spelling.
"""

import json
import re
from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer

from ixt_train.conditioning.encoder import TokenArray

# Private-use characters of plane 16; the last is the position of feedback.
_FIRST_ALIAS, FEEDBACK_MARK = 0x100000, "\U0010fffd"
FEEDBACK_ID = -1
"""The id of `FEEDBACK_MARK` in encoded text."""


class EncodedText(NamedTuple):
    """Tokens of a text.

    Attributes:
        ids: int32[T].
        offsets: first and last character of each token, int64[T, 2].
        is_control: whether the token is a control token, bool[T].
    """

    ids: TokenArray
    offsets: npt.NDArray[np.int64]
    is_control: npt.NDArray[np.bool_]


class TemplateEncoder:
    """An encoder of text whose control tokens are spelled by `alias`.

    Attributes:
        ids: id of each control token.
        pattern: matches any control token as the template spells it.
    """

    def __init__(self, tokenizer: Any, control: Iterable[str]) -> None:
        """Copy a fast tokenizer under new spellings of some added tokens."""
        backend = tokenizer.backend_tokenizer
        names = sorted(control, key=lambda name: (-len(name), name))
        self.ids = {name: int(backend.token_to_id(name)) for name in names}
        self.pattern = _any_of(names)
        self._aliases = {
            name: chr(_FIRST_ALIAS + number) + name[1:] for number, name in enumerate(names)
        }
        self._names = {alias: name for name, alias in self._aliases.items()}
        self._alias_pattern = _any_of(self._names)
        self._backend, self._original_ids, self._is_control = self._copy(
            backend, tokenizer.unk_token_id
        )

    def alias(self, text: str, without: Collection[str] | None = ()) -> str:
        """Return a text with its control tokens in the private spelling, of the same length.

        Args:
            text: written by the template, or by a message of the assistant.
            without: control tokens that stay text; None is all of them.
        """
        if without is None:
            return text
        return self.pattern.sub(
            lambda match: match[0] if match[0] in without else self._aliases[match[0]], text
        )

    def names_in(self, text: str) -> list[str]:
        """Return the control tokens of a text in the private spelling, in order."""
        return [self._names[alias] for alias in self._alias_pattern.findall(text)]

    def plain(self, text: str) -> str:
        """Return a message's text; the private spelling of a control token becomes the known one.

        Only a text that was made to forge control tokens contains one.
        """
        if text.isascii():
            return text
        return self._alias_pattern.sub(lambda match: self._names[match[0]], text).replace(
            FEEDBACK_MARK, "\ufffd"
        )

    def encode(self, text: str) -> EncodedText:
        """Encode a text; the id of `FEEDBACK_MARK` is `FEEDBACK_ID`."""
        encoding = self._backend.encode(text, add_special_tokens=False)
        raw = np.array(encoding.ids, np.int64)
        offsets = np.array(encoding.offsets, np.int64).reshape(-1, 2)
        return EncodedText(self._original_ids[raw], offsets, self._is_control[raw])

    def _copy(
        self, backend: Tokenizer, unknown: int | None
    ) -> tuple[Tokenizer, TokenArray, npt.NDArray[np.bool_]]:
        """Return the copy; for each of its ids, the original one and whether it is control."""
        settings = json.loads(backend.to_str())
        settings.update(truncation=None, padding=None, post_processor=None)
        for entry in settings["added_tokens"]:
            entry["content"] = self._aliases.get(entry["content"], entry["content"])
        copy = Tokenizer.from_str(json.dumps(settings))
        copy.add_special_tokens([FEEDBACK_MARK])
        added = copy.get_added_tokens_decoder()
        size = max([copy.get_vocab_size(with_added_tokens=True), *(n + 1 for n in added)])
        original, is_control = np.arange(size, dtype=np.int32), np.zeros(size, bool)
        if unknown is not None:
            # One token per word: the vocabulary has the word of a control token.
            original[[n for n in self.ids.values() if n < size]] = unknown
        for number, token in added.items():
            name = self._names.get(token.content, token.content)
            is_control[number] = token.content in self._names or name == FEEDBACK_MARK
            is_mark = name == FEEDBACK_MARK
            original[number] = FEEDBACK_ID if is_mark else backend.token_to_id(name)
        return copy, original, is_control


def added_tokens(tokenizer: Any) -> Mapping[str, bool]:
    """Return the added tokens that are words, and whether each is marked as special."""
    return {
        token.content: bool(token.special)
        for token in tokenizer.backend_tokenizer.get_added_tokens_decoder().values()
        if len(token.content.strip()) > 1
    }


def _any_of(names: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(re.escape, names)) or r"(?!)")
