"""The SQL of the views: one SELECT per group of files of rows with the same columns."""

from collections.abc import Sequence

from ixt_data.log import RowsFile
from ixt_data.sql.column_types import (
    NULL,
    merge_types,
    parse_type,
    read_column,
    store_column,
)
from ixt_data.sql.parquet_scan import read_parquet


def union_query(
    rows: Sequence[RowsFile],
    files: dict[str, str],
    base: dict[str, str],
    *,
    generation: bool = False,
    stored: bool = False,
) -> str:
    """Return a UNION ALL of one SELECT per schema; missing columns are typed NULLs.

    Args:
        rows: the files of one table.
        files: local path by key.
        base: columns that every table has, with their types.
        generation: add the generation of each file as a column.
        stored: return the values as a file of rows has them; see `store_column`.
    """
    columns = common_schema(rows, base)
    groups: dict[tuple[frozenset[tuple[str, str]], int], list[str]] = {}
    for file in rows:
        group = (frozenset(file.schema.items()), file.generation if generation else 0)
        groups.setdefault(group, []).append(files[file.path])
    selects = []
    for (pairs, number), paths in groups.items():
        selected = [_column(name, kind, dict(pairs), stored) for name, kind in columns.items()]
        selected += [f"{number} AS generation"] if generation else []
        selects.append(f"SELECT {', '.join(selected)} FROM {read_parquet(paths)}")
    if not selects:
        nothing = [_column(name, kind, {}, stored) for name, kind in columns.items()]
        nothing += ["0 AS generation"] if generation else []
        return f"SELECT {', '.join(nothing)} WHERE false"
    return " UNION ALL ".join(selects)


def common_schema(rows: Sequence[RowsFile], base: dict[str, str]) -> dict[str, str]:
    """Return the columns of all files: base first, then by first appearance, types widened."""
    columns = dict(base)
    for file in rows:
        for name, kind in file.schema.items():
            if name not in base:
                columns[name] = widen(columns.get(name, kind), kind)
    return columns


def widen(one: str, other: str) -> str:
    """Return a type that holds the values of both: VARCHAR where the rules have none.

    An ingest refuses such a pair. Two that commit at the same time can still write one.
    """
    merged = merge_types(parse_type(one), parse_type(other))
    return "VARCHAR" if merged is None else str(merged)


def latest_query(critiques: Sequence[RowsFile], files: dict[str, str], base: dict[str, str]) -> str:
    """Return a query for the row of the highest generation per document and critic.

    Without repeated critiques this is a plain scan. Otherwise rows of higher generations replace
    those of generation 0 by an anti join (11M rows: 0.62 s; a window over all rows: 2.17 s).
    """
    if not any(file.generation for file in critiques):
        return union_query(critiques, files, base)
    rows = union_query(critiques, files, base, generation=True)
    # NOT MATERIALIZED: DuckDB pushes a filter on the view down to the files.
    return (
        f"WITH critiques_all AS NOT MATERIALIZED ({rows}), tail AS ("
        "SELECT * FROM critiques_all WHERE generation > 0 QUALIFY row_number() OVER "
        "(PARTITION BY doc_id, critic ORDER BY generation DESC) = 1), found AS ("
        "SELECT * FROM critiques_all ANTI JOIN tail USING (doc_id, critic) WHERE generation = 0 "
        "UNION ALL SELECT * FROM tail) SELECT * EXCLUDE (generation) FROM found"
    )


def _column(name: str, kind: str, present: dict[str, str], stored: bool) -> str:
    quoted = quote_name(name)
    value = read_column(quoted, present.get(name, NULL), kind)
    if stored:
        value = store_column(value, kind)
    return quoted if value == quoted else f"{value} AS {quoted}"


def quote_name(name: str) -> str:
    """Return a name as a quoted SQL identifier."""
    return '"' + name.replace('"', '""') + '"'
