"""The `import` critic: existing critiques from a Parquet or JSONL file.

The whole table is in memory as Arrow columns, plus one dictionary of keys: about 200 bytes per
critique in addition to its text.
"""

import hashlib
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Set
from dataclasses import replace
from pathlib import Path
from typing import Any

import orjson
import pyarrow as pa
import pyarrow.parquet as pq

from ixt_data.critics.base import EmbeddedCritic
from ixt_data.errors import CriticError
from ixt_data.records import ID_BYTES, OK, Critique, Document, Span, format_id, parse_id
from ixt_data.storage import ByteStream, LongLine, TruncatedStream, split_lines

RULES_VERSION = 1
MISSING, INVALID = "missing", "invalid"
SUFFIXES = (".parquet", ".jsonl", ".jsonl.gz", ".jsonl.zst")
BATCH_ROWS = 4096
_SCHEMA = pa.schema(
    [
        ("status", pa.string()),
        ("critique", pa.large_string()),
        ("score", pa.float64()),
        ("thinking", pa.large_string()),
        # Sub-scores, spans and flags as one JSON value, read for one document at a time.
        ("extra", pa.large_binary()),
    ]
)
_log = logging.getLogger(__name__)


class _BadRecord(ValueError):
    """A record is wrong; the caller adds file and line to the message."""


class ImportCritic(EmbeddedCritic):
    """Critic that gives a document the file's critique for its `doc_id`, else its `source_id`.

    Columns: `doc_id` (hex, UUID or 16 bytes) or `source_id`; `critique`, `score`, `scores`,
    `thinking`, `spans`, `flags`, `status`; other columns are ignored. A document without a record
    gets the status `missing`. The last of several records with the same key counts.

    Args:
        path: the file; its name ends in .parquet, .jsonl, .jsonl.gz or .jsonl.zst.
        score_min: the file's lowest score, which becomes 0.
        score_max: the file's highest score, which becomes 1.

    Attributes:
        duplicates: number of records that a later record with the same key replaced.

    Raises:
        CriticError: the file cannot be read or a record is wrong; the message names file and line.
    """

    name = "import"

    def __init__(
        self, path: str | Path, score_min: float | str = 0.0, score_max: float | str = 1.0
    ) -> None:
        self.path = Path(path)
        self._low, self._high = _scale(score_min, score_max)
        self._check_path()
        self._hash = _content_hash(self.path)
        self.shared_source_ids: Set[str] = frozenset()
        self._rows: dict[bytes | str, int] = {}
        self.duplicates = 0
        self._table = self._load()
        if self.duplicates:
            _log.warning(
                "%s: %d records were replaced by a later record with the same key",
                self.path,
                self.duplicates,
            )

    def config(self) -> dict[str, Any]:
        """Return the critic's config, with a hash of the file: a changed file has a new id."""
        return {
            "critic": self.name,
            "rules": RULES_VERSION,
            "content": self._hash,
            "score_min": self._low,
            "score_max": self._high,
        }

    def judge(self, document: Document) -> Critique:
        """Return the imported critique of one document."""
        row = self._rows.get(document.doc_id)
        if row is None and document.source_id:
            row = self._rows.get(document.source_id)
            if row is not None and document.source_id in self.shared_source_ids:
                error = f"source_id {document.source_id!r} is that of several documents; use doc_id"
                return Critique(document.doc_id, status=INVALID, error=error)
        if row is None:
            tried = f"doc_id {format_id(document.doc_id)} or source_id {document.source_id!r}"
            return Critique(document.doc_id, status=MISSING, error=f"no critique for {tried}")
        record = {name: self._table.column(name)[row].as_py() for name in _SCHEMA.names}
        scores, spans, flags = orjson.loads(record.pop("extra"))
        out_of_range = [span for span in spans if span[1] > len(document.text)]
        if out_of_range:
            error = f"span {out_of_range[0][:2]} ends beyond the {len(document.text)} characters"
            return Critique(document.doc_id, status=INVALID, error=error)
        return Critique(
            document.doc_id,
            **record,
            scores=scores,
            spans=tuple(Span(*span) for span in spans),
            flags=tuple(flags),
        )

    def _check_path(self) -> None:
        if not self.path.name.lower().endswith(SUFFIXES):
            raise CriticError(f"import: {self.path} must end in one of {', '.join(SUFFIXES)}")
        if not self.path.is_file():
            raise CriticError(f"import: file {self.path} does not exist")

    def _load(self) -> pa.Table:
        batches: list[pa.RecordBatch] = []
        rows: list[dict[str, Any]] = []
        read = _read_parquet if self.path.suffix.lower() == ".parquet" else _read_jsonl
        for number, record in read(self.path):
            try:
                key, row = self._normalize(record)
            except _BadRecord as bad:
                raise CriticError(f"import: {self.path} line {number}: {bad}") from None
            self.duplicates += key in self._rows
            self._rows[key] = len(rows) + BATCH_ROWS * len(batches)
            rows.append(row)
            if len(rows) == BATCH_ROWS:
                batches.append(pa.RecordBatch.from_pylist(rows, _SCHEMA))
                rows = []
        batches.append(pa.RecordBatch.from_pylist(rows, _SCHEMA))
        return pa.Table.from_batches(batches, _SCHEMA).combine_chunks()

    def _normalize(self, record: Any) -> tuple[bytes | str, dict[str, Any]]:
        if not isinstance(record, Mapping):
            raise _BadRecord("it is not a JSON object")
        status = _text(record, "status") or OK
        row = {
            "status": status,
            "critique": _text(record, "critique") or "",
            "score": self._score(record.get("score")),
            "thinking": _text(record, "thinking"),
            "extra": orjson.dumps(
                [_sub_scores(record), list(map(_span, _items(record, "spans"))), _flags(record)]
            ),
        }
        if status == OK and not row["critique"] and row["score"] is None:
            raise _BadRecord("it has neither a critique nor a score")
        return _key_of(record), row

    def _score(self, value: Any) -> float | None:
        if value is None or (isinstance(value, float) and math.isnan(value)):
            return None
        if not _is_number(value) or not self._low <= value <= self._high:
            raise _BadRecord(
                f"score={value!r} is not between {self._low:g} and {self._high:g}; for another"
                " scale give the options score_min and score_max"
            )
        return float((value - self._low) / (self._high - self._low))


def _scale(low: float | str, high: float | str) -> tuple[float, float]:
    try:
        scale = float(low), float(high)
    except ValueError:
        scale = math.nan, math.nan
    if not (math.isfinite(scale[1] - scale[0]) and scale[0] < scale[1]):
        raise CriticError(
            f"import: score_min={low!r} and score_max={high!r} must be numbers, the first lower"
        )
    return scale


def _content_hash(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.blake2b(digest_size=16)).hexdigest()


def _read_jsonl(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield line numbers from 1 and the records; blank lines are skipped."""
    number = 0
    try:
        for number, line in enumerate(split_lines(ByteStream(path)), 1):
            if isinstance(line, LongLine):
                raise CriticError(f"import: {path} line {number}: the line is too long")
            if line.strip():
                yield number, orjson.loads(line)
    except (TruncatedStream, orjson.JSONDecodeError) as error:
        line_number = number if isinstance(error, orjson.JSONDecodeError) else number + 1
        raise CriticError(f"import: {path} line {line_number}: {error}") from None


def _read_parquet(path: Path) -> Iterator[tuple[int, Any]]:
    """Yield row numbers from 1 and the records."""
    number = 0
    try:
        with pq.ParquetFile(path) as file:
            for batch in file.iter_batches(batch_size=BATCH_ROWS):
                for number, record in enumerate(batch.to_pylist(), number + 1):  # noqa: B020
                    yield number, record
    except (pa.ArrowException, OSError) as error:
        raise CriticError(f"import: {path} after line {number}: {error}") from None


def _key_of(record: Mapping[str, Any]) -> bytes | str:
    """Return a record's key: 16 bytes of a doc_id, or the text of a source_id."""
    doc_id, source_id = record.get("doc_id"), record.get("source_id")
    if doc_id is None:
        if source_id is None or isinstance(source_id, float) or str(source_id) == "":
            raise _BadRecord("it has neither a doc_id nor a source_id")
        return str(source_id)
    if isinstance(doc_id, bytes) and len(doc_id) == ID_BYTES:
        return doc_id
    try:
        return parse_id(str(doc_id))
    except ValueError:
        raise _BadRecord(f"doc_id={doc_id!r} is not 32 hexadecimal digits or a UUID") from None


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _text(record: Mapping[str, Any], name: str) -> str | None:
    value = record.get(name)
    if value is not None and not isinstance(value, str):
        raise _BadRecord(f"{name}={value!r} is not text")
    return value


def _items(record: Mapping[str, Any], name: str) -> list[Any]:
    value = record.get(name)
    if value is not None and not isinstance(value, list):
        raise _BadRecord(f"{name}={value!r} is not a list")
    return value or []


def _flags(record: Mapping[str, Any]) -> list[str]:
    flags = _items(record, "flags")
    if not all(isinstance(flag, str) for flag in flags):
        raise _BadRecord(f"flags={flags!r} is not a list of names")
    return flags


def _sub_scores(record: Mapping[str, Any]) -> dict[str, float]:
    value = record.get("scores") or {}
    # A Parquet map is a list of pairs; a struct has nulls for the names of other rows.
    pairs: Iterable[Any] = value.items() if isinstance(value, Mapping) else value
    try:
        # An export of ours has a list of objects with key and value.
        pairs = (p.values() if isinstance(p, Mapping) else p for p in pairs)
        scores = {str(name): number for name, number in pairs if number is not None}
    except (TypeError, ValueError):
        raise _BadRecord(f"scores={value!r} are not numbers by name") from None
    for name, number in scores.items():
        if not _is_number(number):
            raise _BadRecord(f"scores.{name}={number!r} is not a number")
    return {name: float(number) for name, number in scores.items()}


def _span(value: Any) -> list[Any]:
    """Return a span in its stored form, from a list of its fields or from an object."""
    try:
        span = Span(**value) if isinstance(value, Mapping) else Span(*value)
    except TypeError:
        raise _BadRecord(
            f"span {value!r} is not [start, end, verdict, tag, comment, score]"
        ) from None
    tag, comment = span.tag or "", span.comment or ""
    if not all(isinstance(part, str) for part in (span.verdict, tag, comment)):
        raise _BadRecord(f"span {value!r}: verdict, tag and comment must be text")
    if not (type(span.start) is type(span.end) is int and 0 <= span.start <= span.end):
        raise _BadRecord(f"span {value!r}: start and end must be offsets with start <= end")
    if span.score is not None and not (_is_number(span.score) and 0 <= span.score <= 1):
        raise _BadRecord(f"span {value!r}: its score is not between 0 and 1")
    return replace(span, tag=tag, comment=comment).to_json()
