"""How verbs join the command line: their group, an example and a page of the docs."""

from collections.abc import Callable
from enum import StrEnum
from typing import Any

import typer


class Group(StrEnum):
    """Groups of verbs, in the order of `ixt --help`."""

    DATA = "Data"
    CRITIQUE = "Critique"
    ASK = "Ask"
    MIX = "Mix"
    TRAIN = "Train"
    MAINTAIN = "Maintain"


def add_verb(
    app: typer.Typer,
    verb: Callable[..., Any],
    group: Group | None,
    *,
    example: str,
    docs: str,
    name: str | None = None,
    **settings: Any,
) -> None:
    """Add a verb to the command line.

    Args:
        app: the command line, or a verb that has verbs of its own.
        verb: the function; its docstring is the help text.
        group: the heading under which `ixt --help` lists it; None within a verb that has verbs.
        example: one command that works, shown at the end of the verb's help.
        docs: the page with more, below docs/.
        name: the verb, where it is not the function's name.
        settings: more arguments of `typer.Typer.command`.
    """
    epilog = f"Example: {example}\n\nDocs: docs/{docs}"
    register = app.command(name, rich_help_panel=group, epilog=epilog, **settings)
    register(verb)


def add_verbs(app: typer.Typer, name: str, group: Group, help: str) -> typer.Typer:
    """Add a verb that has verbs of its own, such as `ixt mix`; return its command line."""
    inner = typer.Typer(no_args_is_help=True, help=help)
    app.add_typer(inner, name=name, rich_help_panel=group)
    return inner
