"""Enrichers of this package: statistics, language and number of tokens of a text."""

import re
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from ixt_data.errors import ConfigError, MissingExtra, describe_failure

LANGUAGE_CHARACTERS = 10_000
"""Characters of a text from which its language is found."""
_LETTER = re.compile(r"[^\W\d_]")


class TextStatistics:
    """Words, lines, and how well a text compresses: repetitive text has a high ratio."""

    columns: ClassVar[Mapping[str, str]] = {
        "n_words": "BIGINT",
        "n_lines": "BIGINT",
        "compression_ratio": "DOUBLE",
    }

    def enrich(self, text: str) -> Mapping[str, Any]:
        """Return the statistics of a text."""
        import zstandard

        data = text.encode()
        packed = len(zstandard.ZstdCompressor(level=3).compress(data))
        return {
            "n_words": len(text.split()),
            "n_lines": text.count("\n") + 1,
            "compression_ratio": len(data) / packed,
        }


class TextLanguage:
    """The language of a text, by the model in the package py3langid.

    Raises:
        MissingExtra: py3langid is not installed.
    """

    columns: ClassVar[Mapping[str, str]] = {
        "language": "VARCHAR",
        "language_confidence": "DOUBLE",
    }

    def __init__(self) -> None:
        MissingExtra.require("language", "py3langid")

    @cached_property
    def _identifier(self) -> Any:
        from py3langid.langid import MODEL_FILE, LanguageIdentifier

        return LanguageIdentifier.from_model_file(MODEL_FILE, norm_probs=True)

    def enrich(self, text: str) -> Mapping[str, Any]:
        """Return the code of ISO 639-1 and its probability; nothing for a text without letters."""
        start = text[:LANGUAGE_CHARACTERS]
        if not _LETTER.search(start):
            return {}
        language, confidence = self._identifier.classify(start)
        return {"language": language, "language_confidence": float(confidence)}


class TokenCount:
    """The number of tokens of a text, without special tokens.

    Args:
        tokenizer: a folder with a tokenizer.json, or such a file.
        column: name of the column.

    Raises:
        ConfigError: the file cannot be read as a tokenizer, or the name is not that of a column.
        MissingExtra: tokenizers is not installed.
    """

    def __init__(self, tokenizer: str, column: str = "n_tokens") -> None:
        MissingExtra.require("train", "tokenizers")
        if not re.fullmatch(r"[A-Za-z_]\w{0,62}", column):
            raise ConfigError(f"column {column!r}: use letters, digits and _, no digit first")
        path = Path(tokenizer)
        self._path = path / "tokenizer.json" if path.is_dir() else path
        self.columns: Mapping[str, str] = {column: "BIGINT"}
        self._column = column
        _ = self._tokenizer
        # Each process reads the file.
        del self.__dict__["_tokenizer"]

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        try:
            return Tokenizer.from_str(self._path.read_text(encoding="utf-8"))
        # The library raises bare exceptions.
        except Exception as error:
            raise ConfigError(
                f"tokenizer: {self._path} cannot be read: {describe_failure(error)}"
            ) from None

    def enrich(self, text: str) -> Mapping[str, Any]:
        """Return the number of tokens of a text."""
        return {self._column: len(self._tokenizer.encode(text, add_special_tokens=False).ids)}
