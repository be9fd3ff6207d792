"""SQL's `search(words)`: a table macro over the matches of the searches that a statement names.

DuckDB has no table functions in Python. So the words are read from the parse tree of a statement,
and their matches are in a table before the statement runs.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import duckdb

from ixt_data.errors import QueryError
from ixt_data.sql.read_only import objects

if TYPE_CHECKING:
    import pyarrow as pa

SearchFunction = Callable[[str], "pa.Table"]
"""Function that returns the matches of words: `found_by` and the columns of `search(words)`."""
MAX_ROWS = 4_000_000
"""Matches of all searches that a catalog keeps, about 100 bytes each."""
_NAMED = re.compile(r"\bsearch\s*\(", re.IGNORECASE)
_EXPLAIN = re.compile(r"^\s*(explain(\s+analyze)?|describe|summarize)\b", re.IGNORECASE)
_COLUMNS = {
    "doc_id": "UUID",
    "field": "VARCHAR",
    "critic": "VARCHAR",
    "rank": "BIGINT",
    "relevance": "DOUBLE",
}
USAGE = "search() takes one text, such as search('\"brown fox\" jump*') or search($words)"


class TextSearch:
    """The searches of one catalog; each runs once."""

    def __init__(self, connection: duckdb.DuckDBPyConnection, find: SearchFunction) -> None:
        self._connection, self._find = connection, find
        self._done: dict[str, int] | None = None

    @staticmethod
    def is_in(sql: str) -> bool:
        """Return whether a statement may call `search`."""
        return _NAMED.search(sql) is not None

    def prepare(
        self,
        parse: Callable[[str], Any],
        sql: str,
        parameters: Sequence[Any] | Mapping[str, Any] | None,
    ) -> None:
        """Run the searches of a statement.

        Args:
            parse: returns DuckDB's parse tree of a SELECT.
            sql: the statement.
            parameters: its parameters.

        Raises:
            QueryError: an argument of `search` is not a text that is known before the statement
                runs, or a search is not valid.
        """
        if self._done is None:
            columns = ", ".join(f"{name} {kind}" for name, kind in _COLUMNS.items())
            self._connection.execute(f"CREATE TABLE found_texts (found_by VARCHAR, {columns})")
            self._connection.execute(
                f"CREATE MACRO search(words) AS TABLE SELECT {', '.join(_COLUMNS)} "
                "FROM found_texts WHERE found_by = words ORDER BY rank"
            )
            self._done = {}
        for item in objects(parse(_EXPLAIN.sub("", sql))):
            if item.get("type") == "TABLE_FUNCTION":
                function = item["function"]
                if str(function.get("function_name")).lower() == "search":
                    self._search(_words(function["arguments"], parameters))

    def _search(self, words: str) -> None:
        assert self._done is not None
        if words in self._done:
            # The latest ones stay.
            self._done[words] = self._done.pop(words)
            return
        table = self._find(words)
        with self._connection.cursor() as cursor:
            cursor.register("new_texts", table)
            cursor.execute(
                f"INSERT INTO found_texts SELECT found_by, {', '.join(_COLUMNS)} FROM new_texts"
            )
            cursor.unregister("new_texts")
            self._done[words] = table.num_rows
            # A statement in progress still sees rows that are deleted now.
            while len(self._done) > 1 and sum(self._done.values()) > MAX_ROWS:
                oldest = next(iter(self._done))
                del self._done[oldest]
                cursor.execute("DELETE FROM found_texts WHERE found_by = ?", [oldest])


def _words(arguments: Sequence[Any], parameters: Sequence[Any] | Mapping[str, Any] | None) -> str:
    """Return the words of a call."""
    value: Any = None
    if len(arguments) == 1:
        expression = arguments[0]["expression"]
        match expression.get("class"):
            case "CONSTANT":
                literal = expression["literal"]
                value = literal["text"] if literal["kind"] == "STRING" else None
            case "PARAMETER":
                name = str(expression["identifier"])
                if isinstance(parameters, Mapping):
                    value = parameters.get(name)
                elif parameters is not None and name.isdecimal():
                    value = parameters[int(name) - 1]
    if not isinstance(value, str):
        raise QueryError(USAGE)
    return value
