"""A process that runs the queries of users; see `query_pool`.

DuckDB cannot interrupt every query: a list of 200 million numbers took 320 s and 15 GB. So such
queries run here, under limits of the operating system, and a signal ends them. The process reads
one request per line on stdin. On stdout it writes a line when it has received a request, and one
with the response.
"""

import resource
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import orjson

from ixt_data.console import format_count
from ixt_data.errors import IxtError, QueryError
from ixt_data.sql import Catalog, QueryOutput, write_rows
from ixt_data.store import Store

MAX_CELL_CHARS = 2000
"""Characters of a cell that a page shows."""
MAX_CELLS = 200_000
_LASTING = ("OutOfMemoryException", "FatalException", "InternalException", "IOException")
"""Errors of DuckDB after which it refuses further queries, or keeps memory that they need."""
MAX_FILE_BYTES = 8 << 30
"""Maximum size of a file that a query may spill."""


def main(root: str, max_memory_bytes: str) -> None:
    """Respond to requests until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    memory = int(max_memory_bytes)
    resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))
    resource.setrlimit(resource.RLIMIT_FSIZE, (MAX_FILE_BYTES, MAX_FILE_BYTES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    store, catalogs = Store.open(root), dict[tuple[int, int | None], Catalog]()
    respond({"ready": True})
    for line in sys.stdin.buffer:
        request = orjson.loads(line)
        respond({"is_received": True})
        # The alarm also ends native code, and a process whose server has exited.
        signal.alarm(request["seconds"] + 2)
        try:
            catalog = _catalog(store, catalogs, (request["at"], request["before"]))
            respond(_run(catalog, request))
        except IxtError as error:
            respond({"error": str(error), "is_spent": _is_lasting(error)})
        except MemoryError:
            message = "the query needs more memory than it may use; see --sql-memory"
            respond({"error": message, "is_spent": True})
        except Exception as error:
            # For example an error of DuckDB while rows are fetched.
            respond({"error": f"the query failed: {error}"[:MAX_CELL_CHARS], "is_spent": True})
        signal.alarm(0)


def _is_lasting(error: BaseException) -> bool:
    """Return whether the next query of this process may fail for the same reason."""
    return type(error.__context__).__name__ in _LASTING


def respond(record: dict[str, Any]) -> None:
    """Write one line."""
    sys.stdout.buffer.write(orjson.dumps(record, default=str, option=_JSON) + b"\n")
    sys.stdout.buffer.flush()


_JSON = orjson.OPT_NON_STR_KEYS


def _catalog(
    store: Store,
    catalogs: dict[tuple[int, int | None], Catalog],
    versions: tuple[int, int | None],
) -> Catalog:
    if versions not in catalogs:
        for other in list(catalogs):
            catalogs.pop(other).close()
        catalogs[versions] = store.catalog(*versions)
    return catalogs[versions]


def _run(catalog: Catalog, request: dict[str, Any]) -> dict[str, Any]:
    start, max_rows = time.perf_counter(), request["rows"]
    values = request["values"] or None
    if request["sort"] is not None:
        _check_sort(catalog, request, values)
    if request["file"] is not None:
        record = _write_file(catalog, request, values)
        return {**record, "seconds": time.perf_counter() - start}
    result = catalog.run(request["sql"], values)
    columns = [column[0] for column in result.description or []]
    if max_rows * len(columns) > MAX_CELLS:
        max_rows = max(1, MAX_CELLS // len(columns))
    rows = result.fetchmany(max_rows + 1)
    convert: Callable[[Any], Any] = _cell if request["shortened"] else _plain
    shown = [[convert(value) for value in row] for row in rows[:max_rows]]
    return {
        "columns": columns,
        "types": [str(column[1]) for column in result.description or []],
        "has_more": len(rows) > max_rows,
        "rows": shown,
        "seconds": time.perf_counter() - start,
    }


def _check_sort(catalog: Catalog, request: dict[str, Any], values: Any) -> None:
    """Check the statement that `sql` sorts: it is valid by itself, and has the column.

    Raises:
        QueryError: it is not a single read-only statement, cannot be sorted, or has fewer columns.
    """
    bare, sort = request["sorted"], request["sort"]
    catalog.check_query(bare)
    try:
        result = catalog.run(f"FROM (\n{bare}\n) LIMIT 0", values)
    except QueryError:
        # The error of the user's own text, if that is the cause.
        catalog.run(bare, values)
        raise QueryError("sort: the rows of this statement cannot be sorted") from None
    n_columns = len(result.description or [])
    if sort > n_columns:
        has = format_count(n_columns, "column")
        raise QueryError(f"sort: column {sort} does not exist; the result has {has}")


def _write_file(catalog: Catalog, request: dict[str, Any], values: Any) -> dict[str, Any]:
    """Write the first rows to the file; the response has no rows."""
    output, path = QueryOutput(request["format"]), Path(request["file"])
    has_more = write_rows(catalog, request["sql"], values, output, path, request["rows"])
    return {"columns": [], "types": [], "has_more": has_more, "rows": []}


def _cell(value: Any) -> str | None:
    """Return a value as a page shows it."""
    if value is None:
        return None
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, bytes):
        return value[: MAX_CELL_CHARS // 2].hex()
    text = _json(value) if isinstance(value, list | dict | tuple) else str(value)
    if len(text) <= MAX_CELL_CHARS:
        return text
    return f"{text[:MAX_CELL_CHARS]}… ({len(text):,} characters)"


def _json(value: Any) -> str:
    """Return a nested value as JSON."""
    try:
        return orjson.dumps(value, default=_plain_scalar, option=_JSON).decode()
    except TypeError:
        # An integer of more than 64 bits; a long list takes several times as long so.
        return orjson.dumps(_plain(value), default=str, option=_JSON).decode()


def _plain_scalar(value: Any) -> str:
    return value.hex() if isinstance(value, bytes) else str(value)


def _plain(value: Any) -> Any:
    """Return a value that JSON can contain: bytes as digits, a long integer as text."""
    if isinstance(value, bytes):
        return value.hex()
    if isinstance(value, int) and not -(1 << 63) <= value < 1 << 64:
        return str(value)
    if isinstance(value, list | tuple):
        return [_plain(one) for one in value]
    if isinstance(value, dict):
        return {
            str(key) if isinstance(key, tuple) else _plain(key): _plain(one)
            for key, one in value.items()
        }
    return value


if __name__ == "__main__":
    main(*sys.argv[1:])
