"""Documents of JSON files: lines of objects, an array of objects, or one object."""

import json
import re
from collections.abc import Iterable, Iterator
from typing import Any

import orjson

from ixt_data.errors import ConfigError
from ixt_data.ingestion.fields import TOO_LONG, Fields, RejectedRecord, excerpt, kind_of
from ixt_data.ingestion.json_elements import NoArray, split_elements
from ixt_data.ingestion.source_files import SourceFile, SourceInput
from ixt_data.records import Document
from ixt_data.storage import MAX_TEXT, LongLine, TruncatedStream, split_lines

BOM = b"\xef\xbb\xbf"


class JsonLinesInput(SourceInput):
    """One file with one JSON object per line."""

    def __init__(self, source: SourceFile, fields: Fields) -> None:
        """Keep the file and the names of the fields.

        Raises:
            ConfigError: `fields.records` is given, which is for JSON files of another form.
        """
        if fields.records and type(self) is JsonLinesInput:
            raise ConfigError(
                f"{source.file} has one JSON object per line; --records is for one JSON object "
                "that contains the records"
            )
        self.file, self.name = source.file, source.name
        self._fields = fields
        super().__init__(source)

    def __iter__(self) -> Iterator[Document | RejectedRecord]:
        """Yield a document or a rejection per line; a corrupt file ends with one rejection."""
        number = 0
        empty: RejectedRecord | None = None
        try:
            for number, line in enumerate(self._records(), 1):
                # An empty line is an error only where another one follows.
                if empty is not None:
                    yield empty
                    empty = None
                if line in (b"", b"\r"):
                    empty = RejectedRecord(self.file, number, "empty line")
                else:
                    yield self._document(line, number)
        except TruncatedStream as broken:
            if empty is not None:
                yield empty
            # The last record may be complete although the file is truncated.
            last = self._document(broken.rest, number + 1)
            if isinstance(last, Document):
                yield last
            yield RejectedRecord(self.file, number + 1, str(broken), excerpt(broken.rest))

    def _records(self) -> Iterator[bytes]:
        return split_lines(_without_bom(self._source.stream))

    def _document(self, line: bytes, number: int) -> Document | RejectedRecord:
        try:
            record = orjson.loads(line)
        except orjson.JSONDecodeError as error:
            record = self._without_not_finite(line)
            if record is None:
                return RejectedRecord(self.file, number, _json_error(line, error), excerpt(line))
        if type(record) is dict and _has_wide_number(record):
            # orjson reads integers of more than 64 bits as floating-point numbers.
            record = json.loads(line)
        if type(record) is not dict:
            reason = f"not a JSON object but {kind_of(record)}"
            return RejectedRecord(self.file, number, reason, excerpt(line))
        document = self._fields.document(record, self.name, number)
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
        self._fields.remarks.add("NaN or Infinity in JSON became NULL", len(found))
        return record


def _has_wide_number(record: dict[str, Any]) -> bool:
    """Return whether a number may be an integer of more than 64 bits, read as a float."""
    # Every record passes here: a generator or a call per value takes twice the time.
    for value in record.values():
        if type(value) is float and abs(value) >= 2**63 and value.is_integer():
            return True
    return False


class JsonArrayInput(JsonLinesInput):
    """One file with an array of JSON objects: the whole file, or at the path `fields.records`."""

    def _records(self) -> Iterator[bytes]:
        path = self._fields.records.split(".") if self._fields.records else []
        try:
            yield from split_elements(_without_bom(self._source.stream), path)
        except NoArray:
            where = f"at --records {self._fields.records}" if path else "of records"
            raise ConfigError(f"{self.file} has no array {where}") from None


class JsonObjectInput(JsonLinesInput):
    """One file with one JSON object, which is one document."""

    def _records(self) -> Iterator[bytes]:
        parts: list[bytes] = []
        for chunk in _without_bom(self._source.stream):
            parts.append(chunk)
            if sum(map(len, parts)) > MAX_TEXT:
                parts = [LongLine(parts[0])]
                break
        whole = parts[0] if len(parts) == 1 else b"".join(parts)
        self._check(whole)
        yield whole

    def _check(self, whole: bytes) -> None:
        """Raise if the object contains records instead of being one."""
        try:
            record = orjson.loads(whole)
        except orjson.JSONDecodeError:
            return
        if type(record) is not dict or self._fields.has_text(record):
            return
        keys = [key for key, value in record.items() if _is_records(value)]
        if keys:
            raise ConfigError(
                f"{self.file} is one JSON object without a field {self._fields.text!r}; "
                f"--records can be: {', '.join(keys)}"
            )


def _is_records(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is dict for item in value)


def open_json(source: SourceFile, fields: Fields) -> JsonLinesInput:
    """Return the reader for the form of a JSON file.

    The form is an array if the file begins with `[`. It is lines if the first line is a complete
    object and another line follows, or if the name ends with `.jsonl` or `.ndjson`. Else it is one
    object.
    """
    if fields.records:
        return JsonArrayInput(source, fields)
    head = source.head.removeprefix(BOM).lstrip()
    # Lines of arrays are lines, each a rejected record; one array in one line is an array.
    first = _first_line(source)
    follows = first is not None and head[len(first) :].strip() != b""
    if head[:1] == b"[" and not (first and follows and _parses(first)):
        return JsonArrayInput(source, fields)
    if source.suffix in (".jsonl", ".ndjson") or (first and follows and _parses(first)):
        return JsonLinesInput(source, fields)
    if head[:1] == b"{":
        return JsonObjectInput(source, fields)
    return JsonLinesInput(source, fields)


def _first_line(source: SourceFile) -> bytes | None:
    """Return the first line that is not empty; None if the file cannot be decoded up to it."""
    try:
        for line in split_lines(_without_bom(source.stream)):
            if line.strip():
                return line
    except TruncatedStream:
        pass
    return None


def _parses(line: bytes) -> bool:
    try:
        orjson.loads(line)
    except orjson.JSONDecodeError:
        return False
    return True


def looks_like_json(head: bytes) -> bool:
    """Return whether the first bytes of a file begin a JSON object or an array of objects."""
    return re.match(rb'(\xef\xbb\xbf)?\s*(\[\s*)?\{\s*("|\})', head) is not None


def _without_bom(chunks: Iterable[bytes]) -> Iterator[bytes]:
    rest = iter(chunks)
    for first in rest:
        yield first.removeprefix(BOM)
        break
    yield from rest


def _json_error(line: bytes, error: orjson.JSONDecodeError) -> str:
    if isinstance(line, LongLine):
        return TOO_LONG
    if line.isspace():
        return "empty line"
    try:
        line.decode()
    except UnicodeDecodeError:
        return "not UTF-8"
    if "surrogate" in error.msg:
        return "not UTF-8: a lone surrogate"
    return f"not JSON: {error.msg} at column {error.colno}"
