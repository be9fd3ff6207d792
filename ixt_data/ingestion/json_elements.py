"""The elements of a JSON array as bytes, one by one, in bounded memory."""

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress

from ixt_data.ingestion.fields import too_long
from ixt_data.storage import MAX_TEXT, TruncatedStream

# A string without its end matches too, without the last group. `*+` never backtracks.
_TOKEN = re.compile(rb'"[^"\\]*+(?:\\.[^"\\]*+)*+(")?|[\[\]{}:,]', re.DOTALL)


class NoArray(Exception):
    """A JSON value without an array at the path."""


def split_elements(
    chunks: Iterable[bytes], path: Sequence[str] = (), limit: int = MAX_TEXT
) -> Iterator[bytes]:
    """Yield each element of an array.

    Args:
        chunks: the JSON text, without a byte order mark.
        path: keys of the objects around the array; empty: the array is the complete text.
        limit: most bytes of an element.

    Raises:
        TruncatedStream: the text ends inside of the array, or the chunks raised it. `rest` is the
            incomplete element. Or an element has more than `limit` bytes, a second array is at the
            path, or the text continues after its end.
        NoArray: the text has no array at `path`.
    """
    tokens = _Tokens(chunks, limit)
    keys: list[str] = []
    if not _enter_array(tokens, list(path), keys):
        raise NoArray
    yield from _elements(tokens)
    if path and _enter_array(tokens, list(path), keys):
        raise TruncatedStream(f"a second array at {'.'.join(path)}")
    if keys:
        raise TruncatedStream("truncated JSON: the object has no end")
    if rest := tokens.rest():
        more = TruncatedStream("the JSON text continues after its end")
        more.rest = b"]" + rest
        raise more


def _elements(tokens: "_Tokens") -> Iterator[bytes]:
    """Yield the elements up to the end of the array."""
    depth = 0
    tokens.start = tokens.at
    try:
        for token in tokens:
            if token in b"[{":
                depth += 1
            elif depth and token in b"]}":
                depth -= 1
            elif not depth and token in b",]":
                element = tokens.element()
                if element or token == b",":
                    yield element
                if token == b"]":
                    return
    except TruncatedStream as broken:
        broken.rest = tokens.element(to_end=True)
        raise
    endless = TruncatedStream("truncated JSON: the array has no end")
    endless.rest = tokens.element(to_end=True)
    raise endless


def _enter_array(tokens: "_Tokens", path: list[str], keys: list[str]) -> bool:
    """Read up to the start of the next array at `path`; return whether it exists.

    Args:
        tokens: the tokens.
        path: keys of the objects around the array.
        keys: keys of the open objects, which this changes.
    """
    last = b""
    inside_arrays = 0
    for token in tokens:
        if token == b"[":
            if not inside_arrays and keys == path:
                return True
            inside_arrays += 1
        elif token == b"]":
            inside_arrays -= 1
        elif inside_arrays:
            pass
        elif token == b"{":
            keys.append("")
        elif token == b"}":
            keys.pop()
            if not keys:
                return False
        elif token == b":" and keys:
            keys[-1] = _key(last)
        last = token
        tokens.forget()
    return False


def _key(token: bytes) -> str:
    """Return the text of a string with its quotes."""
    if b"\\" in token:
        with suppress(ValueError):
            return str(json.loads(token))
    return token[1:-1].decode(errors="replace")


class _Tokens:
    """The tokens of a JSON text: strings and punctuation.

    Attributes:
        at: position after the last token in the buffer.
        start: position of the text that must stay in the buffer.
    """

    def __init__(self, chunks: Iterable[bytes], limit: int) -> None:
        self._limit = limit
        self._chunks = iter(chunks)
        self._buffer = b""
        self.at = self.start = 0

    def __iter__(self) -> Iterator[bytes]:
        more = True
        while more:
            for match in _TOKEN.finditer(self._buffer, self.at):
                token = match.group()
                if token[:1] == b'"' and match.group(1) is None:
                    break
                self.at = match.end()
                yield token
            more = self._fill()

    def _fill(self) -> bool:
        """Read until the buffer has doubled: a long string is scanned a few times only."""
        kept = self._buffer[self.start :]
        if len(kept) > self._limit:
            raise TruncatedStream(f"a value is {too_long(self._limit)}")
        self.at -= self.start
        self.start = 0
        parts, n_bytes = [kept], 0
        for chunk in self._chunks:
            parts.append(chunk)
            n_bytes += len(chunk)
            if n_bytes >= len(kept):
                break
        self._buffer = b"".join(parts)
        return n_bytes > 0

    def forget(self) -> None:
        """Release everything up to the last token."""
        self.start = self.at

    def element(self, to_end: bool = False) -> bytes:
        """Return the text from `start` to the last token, which begins the next element."""
        found = self._buffer[self.start :] if to_end else self._buffer[self.start : self.at - 1]
        self.start = self.at
        return found.strip()

    def rest(self) -> bytes:
        """Return the start of the text after the last token, without white space."""
        found = self._buffer[self.at :].lstrip()
        while not found and (chunk := next(self._chunks, None)) is not None:
            found = chunk.lstrip()
        return found
