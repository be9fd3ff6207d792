"""How verbs join the command line: their group, an example and a page of the docs."""

from collections.abc import Callable
from enum import Enum, StrEnum
from typing import Any

import typer
from typer.core import TyperCommand, TyperOption

_PLACEHOLDERS = {"str": "TEXT", "path": "PATH", "int": "N", "float": "X"}


class Group(StrEnum):
    """Groups of verbs, in the order of `ixt --help`."""

    DATA = "Data"
    CRITIQUE = "Critique"
    ASK = "Ask"
    MIX = "Mix"
    TRAIN = "Train"
    MAINTAIN = "Maintain"


class Verb(TyperCommand):
    """A command whose options fit a terminal of 80 columns: short placeholders, no `--no-FLAG`."""

    def __init__(self, *args: Any, params: list[Any] | None = None, **keys: Any):
        for param in params or []:
            if isinstance(param, TyperOption):
                _shorten(param)
        super().__init__(*args, params=params, **keys)


def _shorten(option: TyperOption) -> None:
    """Give an option a short placeholder; its choices are part of its help text."""
    if option.is_flag:
        # A flag that is off by default needs no second name.
        option.secondary_opts = [] if option.default is False else option.secondary_opts
    elif option.metavar is None and hasattr(option.type, "choices"):
        option.metavar = "NAME"
        choices = ", ".join(map(_choice, option.type.choices))
        option.help = f"{option.help or ''} One of: {choices}."
    elif option.metavar is None:
        option.metavar = _PLACEHOLDERS[option.type.name.removesuffix(" range")]


def _choice(value: Any) -> str:
    return str(value.value if isinstance(value, Enum) else value)


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
    register = app.command(name, rich_help_panel=group, epilog=epilog, cls=Verb, **settings)
    register(verb)


def add_verbs(app: typer.Typer, name: str, group: Group, help: str) -> typer.Typer:
    """Add a verb that has verbs of its own, such as `ixt mix`; return its command line."""
    inner = typer.Typer(no_args_is_help=True, help=help)
    app.add_typer(inner, name=name, rich_help_panel=group)
    return inner
