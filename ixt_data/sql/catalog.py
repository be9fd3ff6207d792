"""SQL over one snapshot: DuckDB views over the snapshot's own files, and nothing else in reach.

The only module that imports duckdb. The files are listed one by one from the log, never globbed.
The connection may read those files and no others, its configuration is locked, and only reading
statements are run (see `statements`): over an allowed file DuckDB itself would still write (2.0).
"""

import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from errno import ENOENT
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import duckdb
import orjson

from ixt_data.errors import (
    ConfigError,
    CorruptError,
    QueryCancelled,
    QueryError,
    SnapshotError,
    StoreError,
)
from ixt_data.log import Log, RowsFile, SavedSelection, Snapshot
from ixt_data.sql.derived_columns import DerivedColumns
from ixt_data.sql.hugeint import as_decimals
from ixt_data.sql.joins import selection_query, sql_literal
from ixt_data.sql.metadata_views import COLUMNS as SMALL
from ixt_data.sql.metadata_views import RowIterable, view_rows
from ixt_data.sql.query_errors import explain_error
from ixt_data.sql.read_only import find_write
from ixt_data.sql.views import common_schema, latest_query, quote_name, sql_list, union_query
from ixt_data.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa


DOCUMENTS = {
    "doc_id": "UUID",
    "corpus": "VARCHAR",
    "stage": "VARCHAR",
    "source": "VARCHAR",
    "source_id": "VARCHAR",
    "n_bytes": "BIGINT",
    "n_chars": "BIGINT",
    "shard": "VARCHAR",
    "row": "INTEGER",
}
CRITIQUES = {
    "doc_id": "UUID",
    "critic": "VARCHAR",
    "critic_id": "VARCHAR",
    "status": "VARCHAR",
    "score": "DOUBLE",
    "scores": "MAP(VARCHAR, DOUBLE)",
    "expected": "DOUBLE",
    "entropy": "DOUBLE",
    "critique": "VARCHAR",
    "n_thinking_tokens": "BIGINT",
    "flags": "VARCHAR[]",
    "n_spans": "INTEGER",
    "error": "VARCHAR",
    "attempts": "INTEGER",
    "shard": "VARCHAR",
    "row": "INTEGER",
}
ROW_GROUP = 61_440
"""Rows of a group in merged files, half of DuckDB's default: a lookup unpacks one in each lane."""

VIEWS = ("documents", "critiques", "critiques_all", *SMALL)
_SELECTED = re.compile(r'\bselected\s*\.\s*(?:"((?:[^"]|"")+)"|(\w+))', re.IGNORECASE)
_FETCH = 10_000

Row = tuple[Any, ...]
Parameters = Sequence[Any] | Mapping[str, Any] | None


class Catalog:
    """The views of one snapshot in an in-memory DuckDB of their own.

    Queries take at most half of the machine's memory, or what `IXT_QUERY_MEMORY` says (`8GB`,
    `25%`); sorts, joins and groups that need more spill to the folder for temporary files.

    Args:
        storage: where the files are.
        log: for the view `snapshots`.
        snapshot: what the views show.
        before: another snapshot, whose `documents` and `critiques` are in the schema `before`.

    Raises:
        ConfigError: IXT_QUERY_MEMORY is no amount of memory.
    """

    def __init__(
        self, storage: Storage, log: Log, snapshot: Snapshot, before: Snapshot | None = None
    ) -> None:
        self.snapshot = snapshot
        self._connection = _connect()
        self._bound_memory()
        states = {"main": snapshot, **({"before": before} if before else {})}
        self._unreadable = partial(_unreadable, storage, log, states.values())
        try:
            files = _local_files(storage, states.values())
        except FileNotFoundError as error:
            raise self._unreadable(error) from None
        # Made when a statement first names them, since to make one reads the footers of its files.
        self._views: dict[tuple[str, str], str] = {}
        for schema, state in states.items():
            self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
            self._views |= {(schema, name): query for name, query in _views(state, files).items()}
        self._connection.execute("CREATE SCHEMA selected")
        self._saved = {name.lower(): saved for name, saved in snapshot.selections.items()}
        self._small = {view: partial(view_rows, view, log, snapshot) for view in SMALL}
        self._connection.execute(f"SET allowed_paths = {sql_list(files.values())}")
        self._connection.execute("SET enable_external_access = false")
        self._connection.execute("SET lock_configuration = true")

    def _bound_memory(self) -> None:
        limit = os.environ.get("IXT_QUERY_MEMORY") or "50%"
        try:
            self._connection.execute(f"SET memory_limit = {sql_literal(limit)}")
        except duckdb.Error:
            what = f"IXT_QUERY_MEMORY is {limit!r}, not an amount such as 8GB or 25%"
            raise ConfigError(what) from None
        spill = tempfile.mkdtemp(prefix="ixt-query-")
        self._forget = weakref.finalize(self, shutil.rmtree, spill, ignore_errors=True)
        self._connection.execute(f"SET temp_directory = {sql_literal(spill)}")

    def run(self, sql: str, parameters: Parameters = None) -> duckdb.DuckDBPyConnection:
        """Runs one reading statement; the connection then holds its result.

        Args:
            sql: the statement.
            parameters: for `?` and `$1` in their order, or for `$name` by name.

        Raises:
            QueryError: not exactly one reading statement, or DuckDB refuses it.
            Cancelled: see `interrupt`.
        """
        self._prepare(sql, parameters)
        with self._explaining():
            return self._connection.execute(sql, parameters)

    def rows(self, sql: str, parameters: Parameters = None) -> tuple[list[str], Iterator[Row]]:
        """The names of the columns, and the rows as they come; see `run`."""
        cursor = self.run(sql, parameters)

        def fetched() -> Iterator[Row]:
            with self._explaining():
                while batch := cursor.fetchmany(_FETCH):
                    yield from batch

        return [column[0] for column in cursor.description or []], fetched()

    def arrow(self, sql: str, parameters: Parameters = None) -> "pa.Table":
        """The result of one reading statement as an Arrow table.

        UUIDs are `arrow.uuid`; what is wider than 64 bits, as a sum of integers is, decimal128.

        Raises:
            QueryError: see `run`.
        """
        self._prepare(sql, parameters)
        with self._explaining():
            return as_decimals(self._connection.sql(sql, params=parameters).to_arrow_table())

    def batches(
        self, sql: str, parameters: Parameters = None, rows: int = 1 << 20
    ) -> "Iterator[pa.RecordBatch]":
        """The result of one reading statement, so many rows at a time; see `arrow`."""
        self._prepare(sql, parameters)
        with self._explaining():
            for batch in self._connection.sql(sql, params=parameters).to_arrow_reader(rows):
                yield as_decimals(batch)

    def interrupt(self) -> None:
        """Stops the query that runs, from another thread."""
        self._connection.interrupt()

    def progress(self) -> float:
        """How far the running query is, in percent, as DuckDB estimates it; -1 if none runs."""
        return self._connection.query_progress()

    @cached_property
    def columns(self) -> dict[str, dict[str, str]]:
        """Columns with their types, by view."""
        files = list(self.snapshot.rows.values())
        documents = common_schema([f for f in files if f.table == "documents"], DOCUMENTS)
        critiques = common_schema([f for f in files if f.table == "critiques"], CRITIQUES)
        every = critiques | {"generation": "INTEGER"}
        return {"documents": documents, "critiques": critiques, "critiques_all": every, **SMALL}

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except duckdb.InterruptException:
            raise QueryCancelled("the query was cancelled") from None
        except duckdb.Error as error:
            selected = {f"selected.{name}": () for name in self.snapshot.selections}
            raise explain_error(str(error), {**self.columns, **selected}) from None

    def statements(self, text: str) -> list[tuple[str, set[str]]]:
        """The statements in a text, each with the names of its parameters; nothing is run.

        Raises:
            QueryError: it is no SQL.
        """
        with self._explaining():
            found = self._connection.extract_statements(text)
        return [(statement.query.strip(), set(statement.named_parameters)) for statement in found]

    def _prepare(self, sql: str, parameters: Parameters = None) -> None:
        self._check_reads(sql, parameters)
        named = {view for view in VIEWS if re.search(rf"\b{view}\b", sql, re.IGNORECASE)}
        selected = _SELECTED.findall(sql)
        for schema, name in list(self._views):
            # SHOW TABLES and its like name none, and mean all.
            if name in named or not (named or selected):
                self._create(schema, name, self._views.pop((schema, name)))
        for view in named & self._small.keys():
            self._fill(view, self._small.pop(view)())
        for in_quotes, plain in selected:
            name = (in_quotes.replace('""', '"') or plain).lower()
            # Popped first: one that names itself must not go round and round.
            if (saved := self._saved.pop(name, None)) is not None:
                self._create_selected(saved)

    def _check_reads(self, sql: str, parameters: Parameters) -> None:
        # EXPLAIN ANALYZE runs what it explains, so what follows it is what must read.
        statement = re.sub(r"^\s*explain(\s+analyze)?\b", "", sql, flags=re.IGNORECASE)
        with self._explaining():
            statements = self._connection.extract_statements(statement)
        if len(statements) != 1:
            raise QueryError(f"one statement at a time; this has {len(statements)}")
        kind = statements[0].type
        if kind == duckdb.StatementType.SELECT:
            with self._connection.cursor() as cursor:
                tree = cursor.execute("SELECT json_serialize_sql(?)", [statement]).fetchall()[0][0]
            what = find_write(orjson.loads(tree))
        else:
            what = "PIVOT without IN (...)" if kind.name == "MULTI" else kind.name
        if what:
            raise QueryError(f"only reading statements (SELECT, DESCRIBE, SUMMARIZE), not {what}")
        wanted = statements[0].named_parameters
        if isinstance(parameters, Mapping) and (wrong := wanted ^ parameters.keys()):
            what = "has no value" if wrong & wanted else "is not in the statement"
            known = ", ".join(f"${name}" for name in sorted(wanted)) or "none"
            raise QueryError(f"${min(wrong & wanted or wrong)} {what}; parameters: {known}")

    def _create(self, schema: str, name: str, query: str) -> None:
        try:
            self._connection.execute(f"CREATE VIEW {schema}.{name} AS {query}")
        except duckdb.Error as error:
            raise self._unreadable(error) from None

    def _create_selected(self, saved: SavedSelection) -> None:
        """The view `selected.NAME` of a saved selection.

        Raises:
            QueryError: its predicate fits this snapshot no more.
        """
        select = selection_query(self.snapshot, saved)
        try:
            self._prepare(select)
            with self._explaining():
                name = f"selected.{quote_name(saved.name)}"
                self._connection.execute(f"CREATE VIEW {name} AS {select}")
        except QueryError as error:
            raise QueryError(f"selection {saved.name!r}: {saved.where!r}: {error.reason}") from None

    def close(self) -> None:
        """Lets the connection go."""
        self._connection.close()
        self._forget()

    def _fill(self, view: str, rows: RowIterable) -> None:
        columns = SMALL[view]
        declared = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        self._connection.execute(f"CREATE TABLE {view} ({declared})")
        marks = ", ".join("?" * len(columns))
        values = [list(row) for row in rows]
        if values:
            self._connection.executemany(f"INSERT INTO {view} VALUES ({marks})", values)


def _connect() -> duckdb.DuckDBPyConnection:
    """An in-memory DuckDB that fetches nothing and prints nothing: stdout is for results."""
    connection = duckdb.connect(":memory:")
    for setting in (
        "autoinstall_known_extensions = false",
        "autoload_known_extensions = false",
        "arrow_lossless_conversion = true",
        # Without the first there is no progress to ask for, without the second it is printed.
        "enable_progress_bar = true",
        "enable_progress_bar_print = false",
        # A view is bound when it is made and when it is asked: footers are parsed once.
        "parquet_metadata_cache = true",
    ):
        connection.execute(f"SET {setting}")
    # Cursors begin with the global value, and could not change it once it is locked.
    connection.execute("SET GLOBAL python_enable_replacements = false")
    return connection


def _views(state: Snapshot, files: dict[str, str]) -> dict[str, str]:
    """The queries of the views over files of rows."""
    rows = list(state.rows.values())
    critiques = [file for file in rows if file.table == "critiques"]
    documents = [file for file in rows if file.table == "documents"]
    return {
        "documents": union_query(documents, files, DOCUMENTS),
        "critiques_all": union_query(critiques, files, CRITIQUES, generation=True),
        "critiques": latest_query(critiques, files, CRITIQUES),
    }


def _local_files(storage: Storage, states: Iterable[Snapshot]) -> dict[str, str]:
    found = storage.local_files(path for state in states for path in state.rows)
    return {path: str(file) for path, file in found.items()}


def _unreadable(
    storage: Storage, log: Log, states: Iterable[Snapshot], error: Exception
) -> StoreError:
    """What keeps the views from being made: a version that was let go, or damage."""
    oldest = log.snapshot().min_version
    for state in states:
        for path, file in state.rows.items():
            try:
                size = storage.local(path).stat().st_size
            except FileNotFoundError:
                if state.version < oldest:
                    return SnapshotError(
                        f"version {state.version} was let go by garbage collection; there are "
                        f"versions from {oldest} on, and what tags keep (`ixt tag` lists them)"
                    )
                return CorruptError(f"{path}: missing. {_VERIFY}")
            if size != file.bytes:
                return CorruptError(f"{path}: {size} bytes instead of {file.bytes}. {_VERIFY}")
    return CorruptError(f"{str(error).strip().splitlines()[0]}. {_VERIFY}")


_VERIFY = "`ixt verify` tells what is damaged and what mends it"


def merge_rows(
    rows: Sequence[RowsFile],
    files: dict[str, str],
    base: dict[str, str],
    target: Path,
    derived: DerivedColumns | None = None,
) -> dict[str, str]:
    """Writes the rows of some files of one table into one Parquet file, sorted by document.

    Sorting spills to disk: memory stays below a quarter of the machine's.

    Args:
        rows: the files.
        files: local path by key.
        base: columns that are always there, with their types.
        target: the file to write.
        derived: columns to add to the rows.

    Returns:
        The type of each column.

    Raises:
        FileNotFoundError: one of the files is gone.
        StoreError: the new one cannot be written.
    """
    schema = common_schema(rows, base)
    connection = _connect()
    try:
        connection.execute("SET memory_limit = '25%'")
        connection.execute(f"SET temp_directory = {sql_literal(str(target.parent))}")
        merged = f"SELECT * FROM ({union_query(rows, files, base)})"
        if derived is not None:
            merged = derived.onto(merged, schema)
        merged += " ORDER BY doc_id"
        # The paths are ours, not a user's: this connection runs nothing else.
        connection.execute(
            f"COPY ({merged}) TO {sql_literal(str(target))} "
            f"(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {ROW_GROUP})"
        )
    except duckdb.IOException as error:
        # A file that another compaction has replaced, or a full disk.
        if missing := next((path for path in files.values() if not Path(path).exists()), None):
            raise FileNotFoundError(ENOENT, "No such file", missing) from None
        raise StoreError(f"{target.name} cannot be written: {error}") from None
    finally:
        connection.close()
    return schema if derived is None else schema | dict(derived.columns)
