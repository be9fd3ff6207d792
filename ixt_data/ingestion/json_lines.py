"""Documents of JSON texts, and files of JSON lines in portions for several processes."""

import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
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
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            record = self._without_not_finite(line)
            if record is None:
                reason = _json_error(line, error, self.fields)
                return RejectedRecord(self.file, number, reason, excerpt(line))
        if type(record) is dict and _has_wide_number(record.values()):
            # orjson reads integers of more than 64 bits as floating-point numbers.
            record = json.loads(line)
        if type(record) is not dict:
            reason = f"not a JSON object but {kind_of(record)}"
            return RejectedRecord(self.file, number, reason, excerpt(line))
        document = self.fields.document(record, self.name, number)
        if isinstance(document, str):
            return RejectedRecord(self.file, number, document, excerpt(line))
        return document

    def _without_not_finite(self, line: bytes) -> Any:
        """Parse JSON with NULL for NaN and Infinity; return None for other invalid JSON."""
        if isinstance(line, LongLine) or not (b"NaN" in line or b"Infinity" in line):
            return None
        found: list[str] = []
        try:
            record = json.loads(line, parse_constant=found.append)
            # Python accepts lone surrogates, which are not text.
            orjson.dumps(record, default=str)
        except (ValueError, TypeError, RecursionError):
            return None
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


def _has_wide_number(values: Iterable[Any]) -> bool:
    """Return whether a number may be an integer of more than 64 bits, read as a float."""
    # Every record passes here: a generator or a call per value takes twice the time.
    for value in values:
        kind = type(value)
        if kind is float:
            if abs(value) >= 2**63 and value.is_integer():
                return True
        elif (kind is list and _has_wide_number(value)) or (
            kind is dict and _has_wide_number(value.values())
        ):
            return True
    return False


def without_bom(chunks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the chunks of a file without its byte order mark."""
    rest = iter(chunks)
    for first in rest:
        yield first.removeprefix(BOM)
        break
    yield from rest


def _json_error(line: bytes, error: orjson.JSONDecodeError, fields: Fields) -> str:
    if isinstance(line, LongLine):
        return too_long(fields.max_bytes)
    if line.isspace():
        return "empty line"
    try:
        line.decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    if "surrogate" in error.msg:
        return "not UTF-8: a lone surrogate"
    return f"not JSON: {error.msg} at column {error.colno}"
