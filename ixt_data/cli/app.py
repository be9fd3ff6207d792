"""The app, its error handling, and where the verbs come from."""

import os
import sys
from importlib.metadata import entry_points
from typing import Annotated

import typer

from ixt_data.cli import (
    critique_verb,
    history_verbs,
    maintenance_verbs,
    mix_verbs,
    query_verb,
    select_verbs,
    store_verbs,
    transfer_verbs,
)
from ixt_data.errors import IxtError


def build() -> typer.Typer:
    """The whole command line, with the verbs of the packages that are installed."""
    app = typer.Typer(
        name="ixt",
        no_args_is_help=True,
        add_completion=False,
        pretty_exceptions_enable=False,
        help="Critiques beside documents: versioned, queryable, and streamed by score.",
    )

    @app.callback()
    def root(
        debug: Annotated[bool, typer.Option("--debug", help="Show a traceback on errors.")] = False,
    ) -> None:
        if debug:
            os.environ["IXT_DEBUG"] = "1"

    for verbs in (
        store_verbs,
        critique_verb,
        transfer_verbs,
        query_verb,
        select_verbs,
        history_verbs,
        mix_verbs,
        maintenance_verbs,
    ):
        verbs.register(app)
    for entry in sorted(entry_points(group="ixt.verbs"), key=lambda entry: entry.name):
        entry.load()(app)
    return app


def main() -> None:
    """Runs the command line: exit code 0 done, 1 failed, 2 wrong usage."""
    try:
        build()()
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except (IxtError, OSError) as error:
        if os.environ.get("IXT_DEBUG"):
            raise
        from rich.console import Console

        console = Console(stderr=True, soft_wrap=True)
        console.print(f"[bold red]error:[/] {_escape(_told(error))}", highlight=False)
        sys.exit(1)


def _told(error: Exception) -> str:
    """What happened, in one line: a full disk, a missing right, or an error of our own."""
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error) or type(error).__name__
    return f"{error.filename}: {error.strerror}" if error.filename else error.strerror


def _escape(message: str) -> str:
    return message.replace("[", r"\[")
