"""Documents of JSON texts, and files of JSON lines in portions for several processes."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from ixt_data.errors import ConfigError
from ixt_data.ingestion.fields import Fields, RejectedRecord, excerpt, kind_of, too_long
from ixt_data.ingestion.remarks import Remarks
from ixt_data.ingestion.source_files import SourceFile, SourceInput
from ixt_data.records import Document
from ixt_data.storage import CHUNK, LongLine, TruncatedStream, split_lines

BOM = b"\xef\xbb\xbf"
PORTION_BYTES = 4 << 20
MAX_NESTING = 128
"""Levels of lists and objects in a record; the bound must not depend on Python's own limit."""


@dataclass(frozen=True)
class JsonRecords:
    """Conversion of JSON texts to documents.

    Attributes:
        file: the file, as messages show it.
        name: name of the file, the default source of its documents.
        fields: the fields of text, id and source.
    """

    file: str
    name: str
    fields: Fields

    def documents(
        self, lines: Iterable[bytes], number: int = 0, more: bool = False
    ) -> Iterator[Document | RejectedRecord]:
        """Yield a document or a rejection per line; a corrupt file ends with one rejection.

        Args:
            lines: the JSON texts.
            number: number of lines of the file before these.
            more: whether other lines of the file follow.
        """
        empty: RejectedRecord | None = None
        try:
            for line in lines:
                number += 1
                # An empty line is an error only where another one follows.
                if empty is not None:
                    yield empty
                    empty = None
                if line in (b"", b"\r"):
                    empty = RejectedRecord(self.file, number, "empty line")
                else:
                    yield self._document(line, number)
            if empty is not None and more:
                yield empty
        except TruncatedStream as broken:
            if empty is not None:
                yield empty
            # The last record may be complete although the file is truncated.
            last = self._document(broken.rest, number + 1)
            if isinstance(last, Document):
                yield last
            yield RejectedRecord(self.file, number + 1, str(broken), excerpt(broken.rest))

    def _document(self, line: bytes, number: int) -> Document | RejectedRecord:
        try:
            record = self._record(line)
        except (ValueError, RecursionError) as error:
            reason = _json_error(line, error, self.fields)
            return RejectedRecord(self.file, number, reason, excerpt(line))
        if type(record) is not dict:
            reason = f"not a JSON object but {kind_of(record)}"
            return RejectedRecord(self.file, number, reason, excerpt(line))
        document = self.fields.document(record, self.name, number)
        if isinstance(document, str):
            return RejectedRecord(self.file, number, document, excerpt(line))
        return document

    def _record(self, line: bytes) -> Any:
        """Parse one JSON text.

        Raises:
            ValueError: it is not JSON, or a key occurs twice in one object with several values.
            RecursionError: it is nested more than MAX_NESTING levels deep.
        """
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError:
            if isinstance(line, LongLine) or not (b"NaN" in line or b"Infinity" in line):
                raise
            return self._without_not_finite(line)
        if type(record) is dict:
            inner, has_wide_number = _count_keys(record.values())
            n_keys = len(record) + inner
            # orjson reads integers of more than 64 bits as floats, and keeps the last of two keys.
            if has_wide_number or not _has_distinct_keys(line, record, n_keys, self.fields.text):
                return json.loads(line, object_pairs_hook=_distinct)
        return record

    def _without_not_finite(self, line: bytes) -> Any:
        """Parse JSON with NULL for NaN and Infinity."""
        found: list[str] = []
        record = json.loads(line, parse_constant=found.append, object_pairs_hook=_distinct)
        _count_keys([record], depth=0)
        try:
            # Python accepts lone surrogates, which are not text.
            orjson.dumps(record, default=str)
        except TypeError:
            raise ValueError("a lone surrogate") from None
        self.fields.remarks.add("NaN or Infinity in JSON became NULL", len(found))
        return record


class JsonInput(SourceInput, ABC):
    """One file with JSON objects."""

    def __init__(self, source: SourceFile, fields: Fields) -> None:
        """Keep the file and the names of the fields."""
        self._fields = fields
        super().__init__(source)

    @property
    def identity(self) -> list[Any]:
        """Everything that the records depend on."""
        return [*super().identity, *self._fields.identity]

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield a document or a rejection per record; a corrupt file ends with one rejection."""
        records = JsonRecords(self._source.file, self._source.name, self._fields)
        return records.documents(self._records())

    @abstractmethod
    def _records(self) -> Iterator[bytes]:
        """Yield the JSON text of each record."""


@dataclass
class LinesPortion:
    """Complete lines of one file.

    Attributes:
        records: converts the lines.
        data: the lines.
        place: path of the file, and the offsets of the lines in it; None if it is compressed.
        number: number of lines of the file before these.
        more: whether other lines follow.
        consumed: see `Portion`.
        broken: why the rest of the file cannot be decoded; None otherwise.
    """

    records: JsonRecords
    data: list[bytes]
    place: tuple[Path, int, int] | None
    number: int
    consumed: int
    more: bool = False
    broken: str | None = None
    movable: bool = field(default=True, init=False)
    slow: bool = field(default=False, init=False)

    @property
    def remarks(self) -> Remarks:
        """What the summary says about the records."""
        return self.records.fields.remarks

    @property
    def size(self) -> int:
        """Bytes of the lines."""
        return sum(map(len, self.data))

    def __getstate__(self) -> dict[str, Any]:
        # The other process reads the lines itself.
        return self.__dict__ if self.place is None else {**self.__dict__, "data": []}

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield a document or a rejection per line."""
        lines = split_lines(self._chunks(), self.records.fields.max_bytes)
        return self.records.documents(lines, self.number, self.more)

    def _chunks(self) -> Iterator[bytes]:
        if self.place is not None and not self.data:
            path, start, end = self.place
            with path.open("rb") as file:
                file.seek(start)
                yield file.read(end - start)
        yield from self.data
        if self.broken is not None:
            raise TruncatedStream(self.broken)


class JsonLinesInput(JsonInput):
    """One file with one JSON object per line, which several processes can read."""

    def __init__(self, source: SourceFile, fields: Fields) -> None:
        """Keep the file and the names of the fields.

        Raises:
            ConfigError: `fields.records` is given, which is for JSON files of another form.
        """
        if fields.records:
            raise ConfigError(
                f"{source.file} has one JSON object per line; --records is for one JSON object "
                "that contains the records"
            )
        super().__init__(source, fields)

    def _records(self) -> Iterator[bytes]:
        return split_lines(without_bom(self._source.stream), self._fields.max_bytes)

    def portions(self) -> Iterator[LinesPortion]:
        """Yield the lines in portions of about `PORTION_BYTES`; the division is always the same."""
        previous: LinesPortion | None = None
        for portion in self._portions():
            if previous is not None:
                previous.more = True
                yield previous
            previous = portion
        if previous is not None:
            yield previous

    def _portions(self) -> Iterator[LinesPortion]:
        stream = self._source.stream
        start = at = number = 0
        held: list[bytes] = []
        size = lines = 0

        def portion(end: int, broken: str | None = None) -> LinesPortion:
            fields = replace(self._fields, remarks=Remarks())
            records = JsonRecords(self._source.file, self._source.name, fields)
            path = stream.path
            is_plain = isinstance(path, Path) and not stream.compression
            place = (Path(path), start, end) if is_plain else None
            return LinesPortion(records, held, place, number, stream.consumed, broken=broken)

        try:
            for chunk in stream:
                if at == 0 and not held and chunk.startswith(BOM):
                    chunk = chunk.removeprefix(BOM)
                    start = at = len(BOM)
                size += len(chunk)
                cut = chunk.rfind(b"\n") + 1 if size >= PORTION_BYTES else 0
                if cut:
                    held.append(chunk[:cut])
                    yield portion(at + cut)
                    number += lines + _newlines(chunk)
                    start, held, lines = at + cut, [chunk[cut:]] if cut < len(chunk) else [], 0
                    size = len(chunk) - cut
                else:
                    lines += _newlines(chunk)
                    # More of a line that is too long anyway is not needed.
                    if size <= self._fields.max_bytes + 2 * PORTION_BYTES:
                        held.append(chunk)
                at += len(chunk)
        except TruncatedStream as error:
            yield portion(at, str(error))
            return
        if size:
            yield portion(at)


def _newlines(chunk: bytes) -> int:
    found = _FOUND[: len(chunk)] if len(chunk) <= len(_FOUND) else None
    return int(np.count_nonzero(np.equal(np.frombuffer(chunk, np.uint8), ord("\n"), out=found)))


_FOUND = np.empty(CHUNK, np.bool_)
"""Memory for the comparison of one chunk: new memory takes longer than the comparison."""


def _count_keys(values: Iterable[Any], depth: int = 1) -> tuple[int, bool]:
    """Return the number of keys in the objects among some values, and in those inside of them.

    Also return whether a number may be an integer of more than 64 bits, read as a float.

    Raises:
        RecursionError: the values are nested more than MAX_NESTING levels deep.
    """
    if depth > MAX_NESTING:
        raise RecursionError
    n_keys = 0
    has_wide_number = False
    # Every record passes here: a generator or a call per value takes twice the time.
    for value in values:
        kind = type(value)
        if kind is float:
            if abs(value) >= 2**63 and value.is_integer():
                has_wide_number = True
        elif kind is list or kind is dict:
            inner, is_wide = _count_keys(value.values() if kind is dict else value, depth + 1)
            n_keys += inner + (len(value) if kind is dict else 0)
            has_wide_number = has_wide_number or is_wide
    return n_keys, has_wide_number


def _has_distinct_keys(line: bytes, record: Mapping[str, Any], n_keys: int, field: str) -> bool:
    """Return whether a JSON text surely has no key twice; False proves nothing.

    Args:
        line: the JSON text.
        record: the object in it.
        n_keys: number of keys in the object and in those inside of it.
        field: field of the text, which is most of the line.
    """
    colon = line.find(b":")
    if n_keys and line[colon - 1 : colon] != b'"':
        # A writer that separates keys from their colons by white space.
        return False
    text, key = record.get(field), f'"{field}":'.encode()
    if type(text) is str and len(text) > _LONG and line.count(key) == 1:
        # The JSON of a text is at least as long as the text, and has no key inside.
        start = line.find(key) + len(key)
        line = line[:start] + line[start + 1 + len(text) :]
    found = line.count(b'":')
    if found > n_keys:
        # Of a text with an escaped quote, or of a key that ends with a backslash.
        found += line.count(b'\\\\":') - line.count(b'\\":')
    return found == n_keys


_LONG = 256


class _RepeatedKey(ValueError):
    """A key that occurs twice in one object, with several values."""


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return the object of these pairs.

    Raises:
        _RepeatedKey: of one key, there are several values.
    """
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, value in pairs:
            if found[key] != value:
                raise _RepeatedKey(f"the key {key!r} occurs twice in one object")
    return found


def without_bom(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks of a file without its byte order mark."""
    rest = iter(chunks)
    for first in rest:
        yield first.removeprefix(BOM)
        break
    yield from rest


def _json_error(line: bytes, error: Exception, fields: Fields) -> str:
    if isinstance(line, LongLine):
        return too_long(fields.max_bytes)
    if isinstance(error, _RepeatedKey):
        return str(error)
    if isinstance(error, RecursionError) or "depth limit" in str(error):
        return f"nested more than {MAX_NESTING} levels deep"
    if line.isspace():
        return "empty line"
    try:
        line.decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    if "surrogate" in str(error):
        return "not UTF-8: a lone surrogate"
    if isinstance(error, json.JSONDecodeError):
        return f"not JSON: {error.msg} at column {error.colno}"
    return f"not JSON: {error}"
