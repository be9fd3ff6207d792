"""SQL and parameters as a user enters them."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from ixt_data.errors import QueryError, describe_failure

LIMIT = 100


def parse_parameter(pair: str) -> tuple[str, Any]:
    """Return name and value of `NAME=VALUE`; the value is JSON if it parses, else text."""
    from ixt_data.sql import parameter_value

    name, equals, text = pair.partition("=")
    if not equals or not name.isidentifier():
        raise typer.BadParameter(f"{pair!r} is not NAME=VALUE", param_hint="--param")
    return name, parameter_value(text)


def read_sql(file: Path) -> str:
    """Read the SQL in a file.

    Raises:
        QueryError: the file cannot be read.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise QueryError(f"{file}: cannot be read: {describe_failure(error)}") from None


def recipe_sql(name: str, parameters: Mapping[str, Any], before: str | None) -> str:
    """Return the statement of a recipe, after a check that its values are given.

    Raises:
        QueryError: the recipe does not exist, or a value is missing or too much.
    """
    from ixt_data.sql import find_recipe

    recipe = find_recipe(name)
    if missing := [key for key in recipe.parameters if key not in parameters]:
        options = " ".join(f"--param {key}=..." for key in missing)
        raise QueryError(f"recipe {name!r} also needs {options}")
    if unknown := [key for key in parameters if key not in recipe.parameters]:
        known = ", ".join(recipe.parameters) or "none"
        raise QueryError(f"--param {unknown[0]}: recipe {name!r} has the parameters {known}")
    if recipe.needs_before and before is None:
        raise QueryError(f"recipe {name!r} compares two snapshots: add --before VERSION")
    return recipe.sql
