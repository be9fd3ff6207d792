"""Rows of a query as a Hugging Face dataset, with types that `datasets` has."""

import datasets
import pyarrow as pa

from ixt_data.errors import QueryError
from ixt_data.sql.arrow_types import without_maps
from ixt_data.sql.connections import connect
from ixt_data.sql.views import quote_name


def hf_dataset(table: pa.Table) -> datasets.Dataset:
    """Return a table of DuckDB's Arrow data as a dataset in memory.

    Raises:
        QueryError: `datasets` has no type for a column.
    """
    with connect(plain=True) as connection:
        connection.register("result", table)
        selected = [
            f"{name}::VARCHAR AS {name}" if pa.types.is_interval(field.type) else name
            for field in table.schema
            for name in [quote_name(field.name)]
        ]
        rows = connection.sql(f"SELECT {', '.join(selected)} FROM result").to_arrow_table()
    for field in (schema := without_maps(rows.schema)):
        try:
            datasets.Features.from_arrow_schema(pa.schema([field]))
        except ValueError:
            raise QueryError(
                f"column {field.name}: datasets has no type for {field.type}; cast it to VARCHAR "
                "in the query"
            ) from None
    return datasets.Dataset(datasets.table.InMemoryTable(rows.cast(schema)))
