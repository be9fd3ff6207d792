"""The app: its verbs, its options, and how an error becomes one line and an exit code."""

import errno
import os
import platform
import sys
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated

import typer

from ixt_data.cli import (
    critique_verb,
    enrich_verb,
    history_verbs,
    label_verbs,
    maintenance_verbs,
    mix_verbs,
    plugin_verbs,
    query_verb,
    rubric_verbs,
    saved_query_verbs,
    search_verb,
    select_verbs,
    store_verbs,
    transfer_verbs,
    view_verbs,
)
from ixt_data.cli.verbs import Group
from ixt_data.console import printable
from ixt_data.errors import IxtError, MissingExtra, PluginError
from ixt_data.plugins import find_plugins

OWN_VERBS = (
    store_verbs,
    transfer_verbs,
    enrich_verb,
    critique_verb,
    label_verbs,
    rubric_verbs,
    query_verb,
    view_verbs,
    search_verb,
    saved_query_verbs,
    select_verbs,
    history_verbs,
    mix_verbs,
    maintenance_verbs,
    plugin_verbs,
)
VERSIONS = {
    "duckdb": "duckdb",
    "streaming": "mosaicml-streaming",
    "torch": "torch",
    "composer": "mosaicml",
}
"""Libraries that `ixt --version` lists, each with its distribution."""
_TRAINING = ("composer", "safetensors", "streaming", "tokenizers", "torch", "torchmetrics")
EXTRAS = dict.fromkeys((*_TRAINING, "transformers"), "train")
EXTRAS |= dict.fromkeys(("datasketch", "scipy", "sklearn"), "curate")
"""Extras of the modules that whole verbs need."""


def build() -> typer.Typer:
    """Return the command line, with the verbs of all plugins that load.

    A plugin that does not load costs one line on stderr and no other verb.
    """
    app = typer.Typer(
        name="ixt",
        no_args_is_help=True,
        add_completion=True,
        pretty_exceptions_enable=False,
        help="Critiques with their documents: versioned, queried with SQL, streamed by score.",
        epilog="Each verb has help with an example: ixt VERB --help. Docs: docs/index.md",
    )

    @app.callback()
    def root(
        debug: Annotated[bool, typer.Option("--debug", help="Show a traceback on errors.")] = False,
        show_version: Annotated[
            bool,
            typer.Option(
                "--version",
                callback=_print_versions,
                is_eager=True,
                help="Print the versions of ixt, Python and the main libraries.",
            ),
        ] = False,
    ) -> None:
        if debug:
            os.environ["IXT_DEBUG"] = "1"

    for verbs in OWN_VERBS:
        verbs.register(app)
    for plugin in find_plugins("ixt.verbs").values():
        try:
            plugin.load()(app)
        # A plugin that calls sys.exit() must not end `ixt plugins` either.
        except (Exception, SystemExit) as error:
            cause = (
                str(error)
                if isinstance(error, PluginError)
                else f"plugin {plugin.name!r} (ixt.verbs) of {plugin.package} failed: {error!r}"
            )
            print(f"warning: {cause}. Its verbs are missing; see: ixt plugins", file=sys.stderr)
    _sort_by_group(app)
    return app


def _sort_by_group(app: typer.Typer) -> None:
    """Order verbs by group: help lists a group where its first verb is."""
    order: list[object] = list(Group)

    def rank(panel: object) -> int:
        return order.index(panel) if panel in order else len(order)

    app.registered_commands.sort(key=lambda command: rank(command.rich_help_panel))
    app.registered_groups.sort(key=lambda group: rank(group.rich_help_panel))


def _print_versions(wanted: bool) -> None:
    if not wanted:
        return
    print(f"ixt {version('ixt')}")
    print(f"python {platform.python_version()}")
    for name, distribution in VERSIONS.items():
        try:
            print(f"{name} {version(distribution)}")
        except PackageNotFoundError:
            print(f"{name} is not installed")
    raise typer.Exit


def main() -> None:
    """Run the command line: exit code 0 done, 1 failed, 2 wrong usage."""
    try:
        build()()
    except BrokenPipeError:
        sys.stderr.close()
        sys.exit(1)
    except Exception as error:
        if os.environ.get("IXT_DEBUG"):
            raise
        from rich.console import Console

        console = Console(stderr=True, soft_wrap=True)
        console.print(
            f"[bold red]error:[/] {_escape(printable(error_line(error)))}", highlight=False
        )
        sys.exit(1)


_REMEDIES = {
    errno.ENOSPC: "Free some space, for example with `ixt gc`, and run the command again",
    errno.EDQUOT: "Free some of your quota, for example with `ixt gc`, and run the command again",
    errno.EROFS: "Mount it for writing, or copy the store to another disk",
}


def error_line(error: Exception) -> str:
    """Return one line: our own message, the system's with its file, or an unexpected error."""
    if isinstance(error, IxtError):
        return str(error) or type(error).__name__
    if isinstance(error, OSError):
        if error.strerror is None:
            return str(error) or type(error).__name__
        line = f"{error.filename}: {error.strerror}" if error.filename else error.strerror
        remedy = _REMEDIES.get(error.errno or 0)
        return f"{line}. {remedy}" if remedy else line
    if isinstance(error, ModuleNotFoundError):
        module = (error.name or "").partition(".")[0]
        if (extra := EXTRAS.get(module)) is not None:
            return str(MissingExtra(module, extra))
    text = " ".join(str(error).split())
    return (
        f"unexpected {type(error).__name__}: {text}. "
        "This is a bug of ixt: run the command again as `ixt --debug ...` and report the traceback"
    )


def _escape(message: str) -> str:
    return message.replace("[", r"\[")
