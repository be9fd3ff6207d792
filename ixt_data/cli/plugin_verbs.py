"""The verb `find_plugins`: what installed packages add to the engine."""

from typing import Any

import typer

from ixt_data.cli.options import OutputOption
from ixt_data.cli.verbs import Group, add_verb
from ixt_data.console import Output, OutputMode, table


def register(app: typer.Typer) -> None:
    """Add the verb to the app."""
    add_verb(app, list_plugins, Group.MAINTAIN, name="plugins", example="ixt plugins",
             docs="plugins.md")  # fmt: skip


def list_plugins(output: OutputOption = OutputMode.text) -> None:
    """List extension points and the plugins that installed packages add to them.

    Exit code 1 if a plugin cannot be loaded.
    """
    from ixt_data.errors import PluginError
    from ixt_data.plugins import EXTENSION_POINTS, find_plugins

    records: list[dict[str, Any]] = []
    for group in EXTENSION_POINTS:
        for plugin in find_plugins(group).values():
            error = ""
            try:
                plugin.load()
            except PluginError as failure:
                cause = failure.__cause__ or failure
                error = f"{type(cause).__name__}: {cause}"
            records.append(
                {
                    "point": group,
                    "name": plugin.name,
                    "object": plugin.target,
                    "package": plugin.package,
                    "error": error,
                }
            )
    header = ["point", "name", "object", "package", "error"]
    rows = [[record[key] for key in header] for record in records]
    points = [{"point": point, "adds": adds} for point, adds in EXTENSION_POINTS.items()]
    Output(output).result({"points": points, "plugins": records}, table(header, rows))
    if any(record["error"] for record in records):
        raise typer.Exit(1)
