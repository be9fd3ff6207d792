"""SQL over one snapshot: DuckDB views over the files of the snapshot.

The log lists the files one by one; nothing is globbed. The connection can read only these files,
its configuration is locked, and it runs only read-only statements (see `read_only`): DuckDB 2.0
itself would still overwrite an allowed file.
"""

import os
import re
import shutil
import tempfile
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import duckdb
import orjson

from ixt_data.errors import ConfigError, QueryCancelled, QueryError
from ixt_data.log import Log, RowsFile, SavedSelection, Snapshot
from ixt_data.sql.arrow_types import as_plain
from ixt_data.sql.base_columns import CRITIQUES, DOCUMENTS
from ixt_data.sql.column_types import shown_type
from ixt_data.sql.connections import PROGRESS_SETTINGS, connect, enable_progress
from ixt_data.sql.joins import selection_query, sql_literal
from ixt_data.sql.metadata_views import COLUMNS as METADATA_VIEWS
from ixt_data.sql.metadata_views import RowIterable, view_rows
from ixt_data.sql.parquet_scan import escape_glob, sql_list
from ixt_data.sql.query_errors import explain_error
from ixt_data.sql.read_only import find_write
from ixt_data.sql.text_search import SearchFunction, TextSearch
from ixt_data.sql.unreadable_files import explain_unreadable
from ixt_data.sql.views import common_schema, latest_query, quote_name, union_query
from ixt_data.sql.volatility import find_volatile
from ixt_data.storage import Storage

if TYPE_CHECKING:
    import pyarrow as pa


VIEWS = ("documents", "critiques", "critiques_all", *METADATA_VIEWS)
_SELECTED = re.compile(r'\bselected\s*\.\s*(?:"((?:[^"]|"")+)"|(\w+))', re.IGNORECASE)
_FETCH = 10_000

Row = tuple[Any, ...]
Parameters = Sequence[Any] | Mapping[str, Any] | None


# The table of rows that a view shows, and its query over their files.
_QUERIES: dict[str, tuple[str, Callable[[Sequence[RowsFile], dict[str, str]], str]]] = {
    "documents": ("documents", partial(union_query, base=DOCUMENTS)),
    "critiques_all": ("critiques", partial(union_query, base=CRITIQUES, generation=True)),
    "critiques": ("critiques", partial(latest_query, base=CRITIQUES)),
}


class Catalog:
    """The views of one snapshot in a separate in-memory DuckDB.

    Queries use at most half of the machine's memory, or the limit in `IXT_QUERY_MEMORY` (`8GB`,
    `25%`). Larger sorts, joins and groups spill to temporary files.

    Args:
        storage: the storage of the files.
        log: the log, for the view `snapshots`.
        snapshot: the snapshot that the views show.
        before: another snapshot; its `documents` and `critiques` are in the schema `before`.
        find_texts: returns the rows of `search(words)`; without it, the function does not exist.
        plain: Arrow data has no extension types: a UUID is a string, for readers of exports.

    Raises:
        ConfigError: IXT_QUERY_MEMORY is not an amount of memory.
    """

    def __init__(
        self,
        storage: Storage,
        log: Log,
        snapshot: Snapshot,
        before: Snapshot | None = None,
        find_texts: SearchFunction | None = None,
        *,
        plain: bool = False,
    ) -> None:
        self.snapshot = snapshot
        # Cached copies remain as long as the catalog, because a query opens its files late.
        self._files = ExitStack()
        self._release_files = weakref.finalize(self, self._files.close)
        self._connection = connect(plain=plain)
        self._cursors = weakref.WeakSet[duckdb.DuckDBPyConnection]()
        self._latest_cursor = self._connection
        self._limit_memory()
        states = {"main": snapshot, **({"before": before} if before else {})}
        self._unreadable = partial(explain_unreadable, storage, log, states.values())
        self._copies = self._files.enter_context(storage.copies())
        # A view is created when a statement first names it, because that copies its files and
        # reads their footers.
        self._text_search = TextSearch(self._connection, find_texts) if find_texts else None
        self._views = {(schema, view): states[schema] for schema in states for view in _QUERIES}
        for schema in states:
            self._connection.execute(f"CREATE SCHEMA IF NOT EXISTS {schema}")
        self._connection.execute("CREATE SCHEMA selected")
        self._saved = {name.lower(): saved for name, saved in snapshot.selections.items()}
        self._metadata = {view: partial(view_rows, view, log, snapshot) for view in METADATA_VIEWS}
        self._allow_files(states.values())
        self._connection.execute("SET enable_external_access = false")
        # Only for `_cursor`: statements that change settings are not read-only.
        self._connection.execute(f"SET allowed_configs = {sql_list(PROGRESS_SETTINGS)}")
        self._connection.execute("SET lock_configuration = true")

    def _allow_files(self, states: Iterable[Snapshot]) -> None:
        """Let DuckDB read the files of the snapshots, or the folder that gets their copies."""
        folder = self._copies.folder
        if folder is None:
            files = self._copies.get(path for state in states for path in state.rows).values()
            setting, paths = "allowed_paths", [str(file) for file in files]
        else:
            setting, paths = "allowed_directories", [f"{folder}/"]
        names = dict.fromkeys(name for path in paths for name in (path, escape_glob(path)))
        self._connection.execute(f"SET {setting} = {sql_list(names)}")

    def _limit_memory(self) -> None:
        limit = os.environ.get("IXT_QUERY_MEMORY") or "50%"
        try:
            self._connection.execute(f"SET memory_limit = {sql_literal(limit)}")
        except duckdb.Error:
            message = f"IXT_QUERY_MEMORY is {limit!r}, not an amount such as 8GB or 25%"
            raise ConfigError(message) from None
        spill = tempfile.mkdtemp(prefix="ixt-query-")
        self._remove_spill = weakref.finalize(self, shutil.rmtree, spill, ignore_errors=True)
        self._connection.execute(f"SET temp_directory = {sql_literal(spill)}")

    def run(self, sql: str, parameters: Parameters = None) -> duckdb.DuckDBPyConnection:
        """Run one read-only statement; return a cursor with its result.

        Each statement has its own cursor, so results can be read in any order.

        Args:
            sql: the statement.
            parameters: values for `?` and `$1` as a sequence, or for `$name` as a mapping.

        Raises:
            QueryError: the text is not one read-only statement, or DuckDB refuses it.
            QueryCancelled: another thread called `interrupt`.
            SnapshotError: garbage collection has expired the snapshot.
            CorruptError: a file is missing or has another size.
        """
        self._prepare(sql, parameters)
        with self._translating_errors():
            return self._cursor().execute(sql, parameters)

    def _cursor(self) -> duckdb.DuckDBPyConnection:
        cursor = self._connection.cursor()
        enable_progress(cursor)
        self._cursors.add(cursor)
        self._latest_cursor = cursor
        return cursor

    def rows(self, sql: str, parameters: Parameters = None) -> tuple[list[str], Iterator[Row]]:
        """Return the names of the columns, and an iterator over the rows; see `run`."""
        cursor = self.run(sql, parameters)

        def fetch() -> Iterator[Row]:
            with self._translating_errors():
                while batch := cursor.fetchmany(_FETCH):
                    yield from batch

        return [column[0] for column in cursor.description or []], fetch()

    def arrow(self, sql: str, parameters: Parameters = None) -> "pa.Table":
        """Return the result of one read-only statement as an Arrow table.

        UUIDs are `arrow.uuid` unless the catalog is plain. Integers of more than 64 bits, such as
        sums, are decimal128.

        Raises:
            QueryError: see `run`.
        """
        self._prepare(sql, parameters)
        with self._translating_errors():
            return as_plain(self._cursor().sql(sql, params=parameters).to_arrow_table())

    def batches(
        self, sql: str, parameters: Parameters = None, rows: int = 1 << 20
    ) -> "Iterator[pa.RecordBatch]":
        """Yield the result of one read-only statement in batches of `rows` rows; see `arrow`."""
        self._prepare(sql, parameters)
        with self._translating_errors():
            for batch in self._cursor().sql(sql, params=parameters).to_arrow_reader(rows):
                yield as_plain(batch)

    def interrupt(self) -> None:
        """Cancel the running queries, from another thread.

        DuckDB forgets an interrupt that arrives between two statements: call it until they end.
        """
        for cursor in list(self._cursors):
            cursor.interrupt()

    def progress(self) -> float:
        """Return DuckDB's estimate of the latest query's progress in percent; -1 without one."""
        return self._latest_cursor.query_progress()

    @cached_property
    def columns(self) -> dict[str, dict[str, str]]:
        """The DuckDB type of each column, by view."""
        files = list(self.snapshot.rows.values())
        documents = common_schema([f for f in files if f.table == "documents"], DOCUMENTS)
        critiques = common_schema([f for f in files if f.table == "critiques"], CRITIQUES)
        with_generation = critiques | {"generation": "INTEGER"}
        return {
            "documents": {name: shown_type(kind) for name, kind in documents.items()},
            "critiques": critiques,
            "critiques_all": with_generation,
            **METADATA_VIEWS,
        }

    @contextmanager
    def _translating_errors(self) -> Iterator[None]:
        try:
            yield
        except duckdb.InterruptException:
            raise QueryCancelled("the query was cancelled") from None
        except duckdb.Error as error:
            selected = {f"selected.{name}": () for name in self.snapshot.selections}
            raise explain_error(str(error), {**self.columns, **selected}) from None
        except OSError as error:
            # Arrow reports an error of DuckDB in the middle of a stream so, without a number.
            if error.errno is not None:
                raise
            if str(error).startswith("INTERRUPT Error"):
                raise QueryCancelled("the query was cancelled") from None
            raise explain_error(str(error), self.columns) from None

    def statements(self, text: str) -> list[tuple[str, set[str]]]:
        """Split a text into statements, each with the names of its parameters; run none of them.

        Raises:
            QueryError: the text is not valid SQL.
        """
        with self._translating_errors():
            parsed = self._connection.extract_statements(text)
        return [(statement.query.strip(), set(statement.named_parameters)) for statement in parsed]

    def check_query(self, sql: str) -> list[str]:
        """Return the names of the parameters of one read-only statement; do not run it.

        Raises:
            QueryError: it is not valid SQL, or not a single read-only statement.
        """
        self._check_reads(sql, None)
        return sorted(set().union(*(names for _, names in self.statements(sql))))

    def _prepare(self, sql: str, parameters: Parameters = None) -> None:
        self._check_reads(sql, parameters)
        if self._text_search is not None and TextSearch.is_in(sql):
            self._text_search.prepare(self._parse, sql, parameters)
        named = {view for view in VIEWS if re.search(rf"\b{view}\b", sql, re.IGNORECASE)}
        selected = _SELECTED.findall(sql)
        for schema, name in list(self._views):
            # SHOW TABLES and similar statements name no view and refer to all.
            if name in named or not (named or selected):
                self._create(schema, name, self._views.pop((schema, name)))
        for view in named & self._metadata.keys():
            self._fill(view, self._metadata.pop(view)())
        for in_quotes, plain in selected:
            name = (in_quotes.replace('""', '"') or plain).lower()
            # Popped first: a selection that names itself must not recurse without end.
            if (saved := self._saved.pop(name, None)) is not None:
                self._create_selected(saved)

    def _check_reads(self, sql: str, parameters: Parameters) -> None:
        # EXPLAIN ANALYZE runs the statement after it, so that statement must be read-only.
        statement = re.sub(r"^\s*explain(\s+analyze)?\b", "", sql, flags=re.IGNORECASE)
        with self._translating_errors():
            statements = self._connection.extract_statements(statement)
        if len(statements) != 1:
            raise QueryError(f"one statement per query; this text has {len(statements)}")
        kind = statements[0].type
        if kind == duckdb.StatementType.SELECT:
            refused = find_write(self._parse(statement))
        else:
            refused = "PIVOT without IN (...)" if kind.name == "MULTI" else kind.name
        if refused:
            raise QueryError(
                f"only read-only statements (SELECT, DESCRIBE, SUMMARIZE) are valid, not {refused}"
            )
        expected = statements[0].named_parameters
        if isinstance(parameters, Mapping) and (wrong := expected ^ parameters.keys()):
            problem = "has no value" if wrong & expected else "is not in the statement"
            known = ", ".join(f"${name}" for name in sorted(expected)) or "none"
            raise QueryError(f"${min(wrong & expected or wrong)} {problem}; parameters: {known}")

    def _parse(self, statement: str) -> Any:
        """Return DuckDB's parse tree of a SELECT."""
        with self._connection.cursor() as cursor:
            tree = cursor.execute("SELECT json_serialize_sql(?)", [statement]).fetchall()[0][0]
        return orjson.loads(tree)

    def check_repeatable(self, sql: str) -> None:
        """Check that a SELECT gives the same rows in each run.

        Raises:
            QueryError: it depends on the clock, on random numbers or on the session.
        """
        self._check_reads(sql, None)
        columns = {name.lower() for view in self.columns.values() for name in view}
        if found := find_volatile(self._connection, self._parse(sql), columns):
            raise QueryError(
                f"{found} may give another value in each run, so the same predicate would match "
                "other documents. Write a constant, such as DATE '2026-01-31'; for a fixed share "
                "of the documents use hash(doc_id) % 100 < 5"
            )

    def _create(self, schema: str, view: str, state: Snapshot) -> None:
        """Create a view over the files of a snapshot.

        Raises:
            SnapshotError: garbage collection has expired the snapshot.
            CorruptError: a file is missing or has another size.
        """
        table, query = _QUERIES[view]
        rows = [file for file in state.rows.values() if file.table == table]
        try:
            local = self._copies.get(file.path for file in rows)
            files = {path: str(file) for path, file in local.items()}
            self._connection.execute(f"CREATE VIEW {schema}.{view} AS {query(rows, files)}")
        except (duckdb.Error, FileNotFoundError) as error:
            raise self._unreadable(error) from None

    def _create_selected(self, saved: SavedSelection) -> None:
        """Create the view `selected.NAME` of a saved selection.

        Raises:
            QueryError: its predicate is not valid for this snapshot.
        """
        select = selection_query(self.snapshot, saved)
        try:
            self._prepare(select)
            with self._translating_errors():
                name = f"selected.{quote_name(saved.name)}"
                self._connection.execute(f"CREATE VIEW {name} AS {select}")
        except QueryError as error:
            raise QueryError(f"selection {saved.name!r}: {saved.where!r}: {error.reason}") from None

    def close(self) -> None:
        """Close the connection and delete its temporary files."""
        self._connection.close()
        self._remove_spill()
        self._release_files()

    def _fill(self, view: str, rows: RowIterable) -> None:
        columns = METADATA_VIEWS[view]
        declared = ", ".join(f"{name} {kind}" for name, kind in columns.items())
        self._connection.execute(f"CREATE TABLE {view} ({declared})")
        marks = ", ".join("?" * len(columns))
        values = [list(row) for row in rows]
        if values:
            self._connection.executemany(f"INSERT INTO {view} VALUES ({marks})", values)
