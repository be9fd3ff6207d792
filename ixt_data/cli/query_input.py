"""SQL and parameters as a user enters them."""

from pathlib import Path
from typing import Any

import typer

from ixt_data.errors import QueryError, describe_failure

LIMIT = 100


def parse_parameter(pair: str) -> tuple[str, Any]:
    """Return name and value of `NAME=VALUE`; the value is JSON if it parses, else text."""
    import orjson

    name, equals, text = pair.partition("=")
    if not equals or not name.isidentifier():
        raise typer.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--param")
    try:
        return name, orjson.loads(text)
    except orjson.JSONDecodeError:
        return name, text


def read_sql(file: Path) -> str:
    """Read the SQL in a file.

    Raises:
        QueryError: the file cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise QueryError(f"{file}: cannot be read: {describe_failure(error)}") from None
