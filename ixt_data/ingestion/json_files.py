"""Documents of JSON files: lines of objects, an array of objects, or one object."""

import re
from collections.abc import Iterator

import orjson

from ixt_data.errors import ConfigError
from ixt_data.ingestion.fields import Fields
from ixt_data.ingestion.json_elements import NoArray, split_elements
from ixt_data.ingestion.json_lines import BOM, JsonInput, JsonLinesInput, without_bom
from ixt_data.ingestion.source_files import SourceFile, check_encoding
from ixt_data.storage import LongLine, TruncatedStream, split_lines


class JsonArrayInput(JsonInput):
    """One file with an array of JSON objects: the whole file, or at the path `fields.records`."""

    def _records(self) -> Iterator[bytes]:
        path = self._fields.records.split(".") if self._fields.records else []
        try:
            chunks = without_bom(self._source.stream)
            yield from split_elements(chunks, path, self._fields.max_bytes)
        except NoArray:
            where = f"at --records {self._fields.records}" if path else "of records"
            raise ConfigError(f"{self._source.file} has no array {where}") from None


class JsonObjectInput(JsonInput):
    """One file with one JSON object, which is one document."""

    def _records(self) -> Iterator[bytes]:
        parts: list[bytes] = []
        for chunk in without_bom(self._source.stream):
            parts.append(chunk)
            if sum(map(len, parts)) > self._fields.max_bytes:
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
                f"{self._source.file} is one JSON object without a field {self._fields.text!r}; "
                f"--records can be: {', '.join(keys)}"
            )


def _is_records(value: object) -> bool:
    return isinstance(value, list) and bool(value) and all(type(item) is dict for item in value)


def open_json(source: SourceFile, fields: Fields) -> JsonInput:
    """Return the reader for the form of a JSON file.

    The form is an array if the file begins with `[`. It is lines if the first line is a complete
    object and another line follows, or if the name ends with `.jsonl` or `.ndjson`. Else it is one
    object.

    Raises:
        ConfigError: the file is not UTF-8, by its byte order mark.
    """
    check_encoding(source)
    if fields.records:
        return JsonArrayInput(source, fields)
    head = source.head.removeprefix(BOM).lstrip()
    # Lines of arrays are lines, each a rejected record; one array in one line is an array.
    first = _first_line(source, fields)
    follows = first is not None and head[len(first) :].strip() != b""
    if head[:1] == b"[" and not (first and follows and _parses(first)):
        return JsonArrayInput(source, fields)
    if source.suffix in (".jsonl", ".ndjson") or (first and follows and _parses(first)):
        return JsonLinesInput(source, fields)
    if head[:1] == b"{":
        return JsonObjectInput(source, fields)
    return JsonLinesInput(source, fields)


def _first_line(source: SourceFile, fields: Fields) -> bytes | None:
    """Return the first line that is not empty; None if the file cannot be decoded up to it."""
    try:
        for line in split_lines(without_bom(source.stream), fields.max_bytes):
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
