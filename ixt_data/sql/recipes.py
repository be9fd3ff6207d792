"""Recipes: named statements that answer a curator's questions, with parameters."""

import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files

from ixt_data.errors import QueryError


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
        return tuple(dict.fromkeys(re.findall(r"\$(\w+)", self.sql)))

    @property
    def needs_before(self) -> bool:
        """Return whether the statement compares with the snapshot `before`."""
        return "before." in self.sql


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
