"""Extension points: entry points through which packages, ours included, add to the engine."""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from ixt_data.errors import IxtError, PluginError

EXTENSION_POINTS = {
    "ixt.verbs": "verbs of the command line: a function `register(app: typer.Typer)`",
    "ixt.critics": "critics: a class with the protocol `ixt_data.critics.Critic`",
    "ixt.readers": "kinds of files for `ixt ingest`: an `ixt_data.ingestion.Reader`",
    "ixt.enrichers": "columns of documents for `ixt enrich`: a class with the protocol "
    "`ixt_data.analysis.Enricher`",
    "ixt.exporters": "formats of `ixt export`: an `ixt_data.export.Exporter`",
    "ixt.loggers": "destinations of training metrics: a function `(options, context)` that returns "
    "a Composer `LoggerDestination`",
}
"""Group of entry points: what it adds, and the object that an entry point names."""


@dataclass(frozen=True)
class Plugin:
    """One entry point.

    Attributes:
        group: its extension point, a key of `EXTENSION_POINTS`.
        name: the name that a user types.
        target: `module:object`.
        package: the distribution that brings it, with its version.
        conflict: the error if another package uses the same name, else empty.
    """

    group: str
    name: str
    target: str
    package: str
    entry: EntryPoint
    conflict: str = ""

    def load(self) -> Any:
        """Import the object that the entry point names.

        Raises:
            PluginError: the import fails; the message names the plugin, its package and the cause.
                Or two packages use one name.
        """
        if self.conflict:
            raise PluginError(self.conflict)
        try:
            return self.entry.load()
        except IxtError:
            raise
        except Exception as error:
            raise PluginError(
                f"plugin {self.name!r} ({self.group}) of {self.package} cannot be loaded: "
                f"{type(error).__name__}: {error}"
            ) from error


@cache
def find_plugins(group: str) -> dict[str, Plugin]:
    """Return the plugins of one extension point by name, in alphabetical order.

    A name that two packages use has a plugin that does not load.
    """
    found: dict[str, Plugin] = {}
    for plugin in sorted(_all(group), key=lambda plugin: plugin.name):
        other = found.setdefault(plugin.name, plugin)
        if other.target != plugin.target:
            conflict = (
                f"{group}: both {other.package} and {plugin.package} add {plugin.name!r}; "
                "uninstall one of them"
            )
            found[plugin.name] = replace(other, conflict=conflict)
    return found


def _all(group: str) -> Iterator[Plugin]:
    for entry in entry_points(group=group):
        dist = entry.dist
        package = f"{dist.name} {dist.version}" if dist is not None else "an unknown package"
        yield Plugin(group, entry.name, entry.value, package, entry)
