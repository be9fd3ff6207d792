"""CSV files, read by DuckDB in a dialect that is stated, with types that lose no character."""

import csv
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from ixt_data.errors import ConfigError, IxtError
from ixt_data.sql.joins import sql_literal
from ixt_data.sql.parquet_scan import escape_glob

DELIMITERS = (",", ";", "\t", "|")
BUFFER_BYTES = 32 << 20
_CHUNK = 1 << 20
_BYTE_ORDER_MARKS = {b"\xff\xfe": "utf-16", b"\xfe\xff": "utf-16"}

# The first type that keeps each value of a column as it is written.
_TYPES = {
    "BOOLEAN": "lower({x}) IN ('true', 'false')",
    "BIGINT": "CAST(TRY_CAST({x} AS BIGINT) AS VARCHAR) = {x}",
    "UBIGINT": "CAST(TRY_CAST({x} AS UBIGINT) AS VARCHAR) = {x}",
    "DECIMAL(38, 0)": "CAST(TRY_CAST({x} AS DECIMAL(38, 0)) AS VARCHAR) = {x}",
    # More than 15 digits do not fit into a DOUBLE; leading zeros are an id, not a number.
    "DOUBLE": r"regexp_full_match({x}, '-?(0|[1-9]\d*)?(\.\d*)?([eE][+-]?\d+)?')"
    " AND isfinite(TRY_CAST({x} AS DOUBLE))"
    r" AND length(regexp_replace({x}, '[^\d]|[eE].*', '', 'g')) <= 15",
}

# Longer values are text: to test a text for all types takes longer than all other work.
_MAX_WRITTEN = 64


class CsvFile:
    """One CSV file with the names of its columns in the first line.

    Quotes are `"`, doubled inside of quotes. An empty field is NULL, `""` is an empty string. A
    column gets the first of BOOLEAN, BIGINT, UBIGINT, DECIMAL(38, 0) and DOUBLE that keeps all its
    values as written, else VARCHAR. Dates stay VARCHAR. The file is read twice: for the types, and
    for the rows.

    Attributes:
        columns: names of the columns, without white space around them; `column2` for the third
            one if it has no name.
    """

    def __init__(
        self, path: Path, shown: str, delimiter: str | None = None, max_line: int = 256 << 20
    ) -> None:
        """Read the first line.

        Args:
            path: the file.
            shown: the file's name in messages.
            delimiter: the character between columns; None: of `,` `;` tab and `|` the one that
                occurs most in the first line.
            max_line: most bytes of a line.

        Raises:
            ConfigError: the delimiter is not one character.
            IxtError: the file has no line, or one that is much too long, or the first line is not
                UTF-8 or no line of CSV.
        """
        from ixt_data.sql.connections import DuckDBError, connect

        if delimiter is not None and len(delimiter) != 1:
            raise ConfigError(f"--delimiter {delimiter!r} is not one character")
        self._shown = shown
        self._error = DuckDBError
        self._connection = connect()
        encoding, header = _first_line(path, shown)
        # DuckDB loses a line that is longer than its buffer, without an error.
        buffer = max(max_line + 1, BUFFER_BYTES)
        if _longest_line(path) >= buffer:
            limit = f"{max_line / (1 << 20):g} MiB"
            raise IxtError(f"{shown} has a line that is longer than {limit} (--max-document-mb)")
        outside_quotes = re.sub(r'"[^"]*"', "", header)
        delimiter = delimiter or max(DELIMITERS, key=outside_quotes.count)
        self.columns = _names(header, delimiter, shown)
        options: dict[str, str | bool | int] = {
            "delim": delimiter,
            "quote": '"',
            "escape": '"',
            "header": True,
            "skip": 0,
            "comment": "",
            "encoding": encoding,
            "all_varchar": True,
            "auto_detect": False,
            "allow_quoted_nulls": False,
            "max_line_size": max_line,
            # By default 16 lines of that size.
            "buffer_size": buffer,
            "hive_partitioning": False,
            # A name such as `a.csv.gz` says nothing: the caller has decoded the file.
            "compression": "none",
            "store_rejects": True,
        }
        listed = ", ".join(f"c{i}: 'VARCHAR'" for i in range(len(self.columns)))
        named = ", ".join(f"{key} = {_literal(value)}" for key, value in options.items())
        file = sql_literal(escape_glob(str(path)))
        self._source = f"read_csv({file}, columns = {{{listed}}}, {named})"

    def _execute(self, sql: str) -> Any:
        try:
            return self._connection.execute(sql)
        except self._error as error:
            raise IxtError(f"{self._shown} cannot be read as CSV: {_cause(error)}") from None

    def _types(self, typed: Sequence[int]) -> tuple[int, dict[int, str]]:
        """Return the number of rows, and the type of each of some columns, by their numbers."""
        tests = [
            f"coalesce(bool_and(CASE WHEN strlen({x}) > {_MAX_WRITTEN} THEN false "
            f"ELSE coalesce({test.format(x=x)}, false) END) FILTER ({x} NOT NULL), false)"
            for x in (f"c{i}" for i in typed)
            for test in _TYPES.values()
        ]
        n_rows, *holds = self._execute(
            f"SELECT {', '.join(['count(*)', *tests])} FROM {self._source}"
        ).fetchone()
        # The second reading finds them again.
        for table in ("reject_errors", "reject_scans"):
            self._connection.execute(f"DROP TABLE IF EXISTS {table}")
        types = {}
        for number, i in enumerate(typed):
            of_column = holds[number * len(_TYPES) : (number + 1) * len(_TYPES)]
            fits = (kind for kind, fit in zip(_TYPES, of_column, strict=True) if fit)
            types[i] = next(fits, "VARCHAR")
        return n_rows, types

    def batches(
        self, rows: int, is_typed: Callable[[str], bool] = lambda name: True
    ) -> Iterator[tuple[Any, float]]:
        """Yield record batches of at most `rows` rows, each with the share of the rows so far.

        Args:
            rows: most rows of a batch.
            is_typed: whether the column of a name gets the type of its values; else it is VARCHAR.

        Raises:
            IxtError: DuckDB cannot read the file.
        """
        numbers = range(len(self.columns))
        total, types = self._types([i for i in numbers if is_typed(self.columns[i])])
        columns = ", ".join(f"CAST(c{i} AS {types.get(i, 'VARCHAR')})" for i in numbers)
        done = 0
        query = self._connection.sql(f"SELECT {columns} FROM {self._source}")
        try:
            for batch in query.to_arrow_reader(rows):
                done += batch.num_rows
                yield batch.rename_columns(self.columns), done / total
        except (self._error, OSError) as error:
            raise IxtError(f"{self._shown} cannot be read as CSV: {_cause(error)}") from None

    def rejected_lines(self) -> Iterator[tuple[int, str, str]]:
        """Yield number, reason and text of each line that is not a row, after `batches` ended."""
        exists = "SELECT count(*) FROM duckdb_tables() WHERE table_name = 'reject_errors'"
        if not self._execute(exists).fetchone()[0]:
            return
        yield from self._execute(
            "SELECT line, any_value(error_message), any_value(csv_line) FROM reject_errors "
            "GROUP BY line ORDER BY line"
        ).fetchall()


def _first_line(path: Path, shown: str) -> tuple[str, str]:
    """Return the encoding, by the byte order mark, and the first line.

    Raises:
        IxtError: the file is empty, or the line is not text.
    """
    with path.open("rb") as file:
        head = file.read(_CHUNK)
    encoding = _BYTE_ORDER_MARKS.get(head[:2], "utf-8")
    # The last character may be cut.
    errors = "surrogateescape" if encoding == "utf-8" else "replace"
    text = head.decode(encoding, errors).removeprefix("\ufeff")
    line = _LINE.match(text)
    header = line.group() if line else ""
    if len(head) == _CHUNK and len(header) == len(text):
        raise IxtError(f"the first line of {shown} is longer than {_CHUNK >> 20} MiB")
    if not header.strip():
        raise IxtError(f"{shown} has no line with the names of its columns")
    if "\0" in header or _BYTES.search(header):
        raise IxtError(
            f"the first line of {shown} is not UTF-8, nor UTF-16 with a byte order mark. "
            f"Convert it: iconv -f ENCODING -t UTF-8 INPUT > OUTPUT"
        )
    return encoding, header


# A line ends outside of quotes.
_LINE = re.compile(r'(?:[^"\r\n]|"(?:[^"]|"")*+(?:"|$))*+')
_BYTES = re.compile("[\udc80-\udcff]")


def _names(header: str, delimiter: str, shown: str) -> list[str]:
    try:
        (names,) = csv.reader([header], delimiter=delimiter, strict=True)
    except (csv.Error, ValueError) as error:
        raise IxtError(f"the first line of {shown} has no names of columns: {error}") from None
    return [name.strip() or f"column{i}" for i, name in enumerate(names)]


def _longest_line(path: Path) -> int:
    """Return the bytes of the longest line, if it has more than a chunk; else less than that."""
    longest = size = 0
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK):
            ends = [at for end in (b"\n", b"\r") for at in (chunk.find(end), chunk.rfind(end))]
            found = [at for at in ends if at >= 0]
            longest = max(longest, size + (min(found) if found else len(chunk)))
            size = len(chunk) - max(found) if found else size + len(chunk)
    return longest


def _cause(error: Exception) -> str:
    lines = str(error).split("\n")
    if "state machine reached an invalid state" in lines[0]:
        return r"its lines may end in several ways. Make them one: sed 's/\r$//' INPUT > OUTPUT"
    # The first line of an error about a line has only its number.
    found = (line for line in lines if line.startswith("Maximum line size"))
    return next(found, lines[0])


def _literal(value: str | bool | int) -> str:
    return sql_literal(value) if isinstance(value, str) else str(value).lower()
