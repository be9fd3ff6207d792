"""Rows of a query as a table, JSON, CSV or Parquet."""

import contextlib
import itertools
import sys
from collections.abc import Iterator
from enum import StrEnum
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from ixt_data.console import rows_table
from ixt_data.errors import QueryError

if TYPE_CHECKING:
    from ixt_data.sql.catalog import Catalog, Parameters, Row


class QueryOutput(StrEnum):
    """How rows are printed."""

    text = "text"
    json = "json"
    csv = "csv"
    parquet = "parquet"


def read_table(
    catalog: "Catalog", sql: str, parameters: "Parameters", limit: int
) -> tuple[list[str], list["Row"], bool]:
    """Names of the columns, the first `limit` rows (0: all), and whether there are more."""
    names, rows = catalog.rows(sql, parameters)
    shown = list(itertools.islice(rows, limit or None))
    return names, shown, bool(limit) and next(rows, None) is not None


def write_rows(
    catalog: "Catalog",
    sql: str,
    parameters: "Parameters",
    output: QueryOutput,
    to: Path | None,
) -> None:
    """Writes all rows to a file or stdout as they come."""
    with contextlib.ExitStack() as stack:
        file = stack.enter_context(to.open("wb")) if to is not None else sys.stdout.buffer
        if output is QueryOutput.parquet:
            _write_parquet(catalog, sql, parameters, file)
        elif output is QueryOutput.csv:
            _write_csv(*catalog.rows(sql, parameters), file)
        elif output is QueryOutput.json:
            _write_json(*catalog.rows(sql, parameters), file)
        else:
            _write_text(catalog, sql, parameters, file)
        file.flush()


def _write_text(catalog: "Catalog", sql: str, parameters: "Parameters", file: Any) -> None:
    from rich.console import Console

    names, rows, _ = read_table(catalog, sql, parameters, 0)
    console = Console(width=10_000)
    with console.capture() as capture:
        console.print(rows_table(names, rows), markup=False)
    lines = (line.rstrip() for line in capture.get().splitlines())
    file.write("".join(f"{line}\n" for line in lines).encode())


def _write_parquet(catalog: "Catalog", sql: str, parameters: "Parameters", file: IO[bytes]) -> None:
    import pyarrow.parquet as pq

    with contextlib.ExitStack() as stack:
        writer = None
        for batch in catalog.batches(sql, parameters):
            if writer is None:
                made = pq.ParquetWriter(file, batch.schema, compression="zstd")
                writer = stack.enter_context(made)
            writer.write_batch(batch)
    if writer is None:
        # No rows, and so no batch that would tell the columns.
        pq.write_table(catalog.arrow(sql, parameters), file, compression="zstd")


def _write_json(names: list[str], rows: Iterator["Row"], file: Any) -> None:
    import orjson

    names, separator = _distinct(names), b"["
    for row in rows:
        record = dict(zip(names, row, strict=True))
        file.write(separator + orjson.dumps(record, default=_plain, option=orjson.OPT_NON_STR_KEYS))
        separator = b",\n"
    file.write(b"]\n" if separator != b"[" else b"[]\n")


def _write_csv(names: list[str], rows: Iterator["Row"], file: Any) -> None:
    import csv
    import io

    text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
    writer = csv.writer(text)
    writer.writerow(names)
    writer.writerows(rows)
    text.detach()


def _distinct(names: list[str]) -> list[str]:
    """The names with `_1`, `_2` where one comes again: an object would keep the last one alone."""
    made: dict[str, None] = {}
    for name in names:
        free = (f"{name}_{n}" if n else name for n in itertools.count())
        made[next(one for one in free if one not in made)] = None
    return list(made)


def _plain(value: Any) -> Any:
    if isinstance(value, bytes):
        return value.hex()
    if hasattr(value, "as_integer_ratio"):
        return float(value)
    if value is None:
        raise QueryError("a value has no JSON form")
    return str(value)
