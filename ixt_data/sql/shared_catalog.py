"""A catalog for concurrent queries of several threads, with materialized results."""

import threading
from typing import Any

from ixt_data.log import Log, Snapshot
from ixt_data.sql.catalog import Catalog, Parameters
from ixt_data.sql.text_search import SearchFunction
from ixt_data.storage import Storage


class SharedCatalog(Catalog):
    """A catalog whose `records`, `keep` and `drop` are safe to call from any thread."""

    def __init__(
        self,
        storage: Storage,
        log: Log,
        snapshot: Snapshot,
        find_texts: SearchFunction | None = None,
    ) -> None:
        super().__init__(storage, log, snapshot, find_texts=find_texts)
        self._lock = threading.Lock()

    def records(self, sql: str, parameters: Parameters = None) -> list[dict[str, Any]]:
        """Return the rows of one read-only statement as dicts by column.

        Raises:
            QueryError: see `run`.
        """
        with self._lock:
            self._prepare(sql, parameters)
        with self._translating_errors(), self._connection.cursor() as cursor:
            result = cursor.execute(sql, parameters)
            names = [column[0] for column in result.description or []]
            return [dict(zip(names, row, strict=True)) for row in result.fetchall()]

    def keep(self, table: str, sql: str) -> None:
        """Materialize the result of one read-only statement as a table, until `drop`.

        Raises:
            QueryError: see `run`.
        """
        with self._lock:
            self._prepare(sql)
        with self._translating_errors(), self._connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE {table} AS {sql}")

    def drop(self, table: str) -> None:
        """Drop a table that `keep` created."""
        with self._connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE {table}")
