"""A catalog that several threads ask at once, as a server does, and that keeps what it found."""

import threading
from typing import Any

from ixt_data.log import Log, Snapshot
from ixt_data.sql.catalog import Catalog, Parameters
from ixt_data.storage import Storage


class SharedCatalog(Catalog):
    """A catalog whose `records`, `keep` and `drop` may be called by any thread, at any time."""

    def __init__(self, storage: Storage, log: Log, snapshot: Snapshot) -> None:
        super().__init__(storage, log, snapshot)
        self._lock = threading.Lock()

    def records(self, sql: str, parameters: Parameters = None) -> list[dict[str, Any]]:
        """The result of one reading statement, by column.

        Raises:
            QueryError: see `run`.
        """
        with self._lock:
            self._prepare(sql, parameters)
        with self._explaining(), self._connection.cursor() as cursor:
            found = cursor.execute(sql, parameters)
            names = [column[0] for column in found.description or []]
            return [dict(zip(names, row, strict=True)) for row in found.fetchall()]

    def keep(self, table: str, sql: str) -> None:
        """Keeps the result of one reading statement as a table, until it is dropped.

        Raises:
            QueryError: see `run`.
        """
        with self._lock:
            self._prepare(sql)
        with self._explaining(), self._connection.cursor() as cursor:
            cursor.execute(f"CREATE TABLE {table} AS {sql}")

    def drop(self, table: str) -> None:
        """Drops a table that was kept."""
        with self._connection.cursor() as cursor:
            cursor.execute(f"DROP TABLE {table}")
