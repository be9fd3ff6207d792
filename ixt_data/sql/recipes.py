"""Recipes: named statements that answer a curator's questions, with parameters."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

import orjson

from ixt_data.errors import QueryError

_PARAMETER = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|--[^\n]*|/\*.*?\*/|\$(\w*)\$.*?\$\1\$|\$([A-Za-z_]\w*)""",
    re.DOTALL,
)
"""A quoted text, a comment, or a parameter; only the last has the second group."""


@dataclass(frozen=True, slots=True)
class Recipe:
    """One statement.

    Attributes:
        name: its name.
        question: the question that it answers.
        sql: the statement.
    """

    name: str
    question: str
    sql: str

    @property
    def parameters(self) -> tuple[str, ...]:
        """Return the names of the values that the statement needs, in order."""
        return parameter_names(self.sql)

    @property
    def needs_before(self) -> bool:
        """Return whether the statement compares with the snapshot `before`."""
        return "before." in self.sql


def parameter_names(sql: str) -> tuple[str, ...]:
    """Return the names of the parameters `$name` of a statement, in order, without parsing it."""
    names = (match[2] for match in _PARAMETER.finditer(sql))
    return tuple(dict.fromkeys(name for name in names if name))


def parameter_value(text: str) -> Any:
    """Return the value that a text means: JSON if it parses, else the text."""
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError:
        return text


@cache
def read_recipes() -> dict[str, Recipe]:
    """Return all recipes by name, in the order of docs/cookbook.md."""
    text = files("ixt_data.sql").joinpath("recipes.sql").read_text(encoding="utf-8")
    found = re.findall(r"^-- (\w+): (.*)\n((?:(?!-- ).*\n)*)", text, re.MULTILINE)
    return {name: Recipe(name, question, sql.strip()) for name, question, sql in found}


def find_recipe(name: str) -> Recipe:
    """Return the recipe of a name.

    Raises:
        QueryError: no recipe has the name; the message lists all with their questions.
    """
    recipes = read_recipes()
    if name not in recipes:
        listed = "\n".join(f"  {one.name:12} {one.question}" for one in recipes.values())
        raise QueryError(f"recipe {name!r} does not exist; valid are\n{listed}")
    return recipes[name]
