"""The formats of `ixt export`, and the protocol by which a plugin adds one."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ixt_data.config import ConfigModel
from ixt_data.console import format_count
from ixt_data.errors import PluginError, UsageError
from ixt_data.export.delta import export_delta
from ixt_data.export.hf import export_hf
from ixt_data.export.matched_documents import MatchedDocuments
from ixt_data.export.mds import export_mds
from ixt_data.export.preferences import PreferenceOptions, export_preferences
from ixt_data.export.rows import export_jsonl, export_parquet
from ixt_data.plugins import Plugin, find_plugins
from ixt_data.store import Store

ExportProgress = Callable[[int, int | None, str], None]
"""Called with what is done, the total if it is known, and a short note."""


class NoOptions(ConfigModel):
    """The options of a format that has no options."""


@dataclass(frozen=True)
class ExportRequest:
    """What a user asks to be exported.

    Attributes:
        store: the store to read.
        to: the file or folder to write; None is the format's own default.
        where: SQL predicate over documents and critiques; None matches all documents.
        corpora: only documents of these; all if empty.
        critic: the critic whose critiques to join, by name or id; None is the only critic.
        at: version or tag; None is the latest snapshot.
        overwrite: replace a previous export.
        workers: threads that read shards; None is one per core.
    """

    store: Store
    to: str | None
    where: str | None = None
    corpora: Sequence[str] = ()
    critic: str | None = None
    at: str | None = None
    overwrite: bool = False
    workers: int | None = None

    @property
    def target(self) -> str:
        """Return the file or folder to write.

        Raises:
            UsageError: the user named none.
        """
        if self.to is None:
            raise UsageError("name the file or folder to write: ixt export OUT --format ...")
        return self.to

    def selected(self) -> MatchedDocuments:
        """Return the matching documents of the snapshot."""
        return MatchedDocuments(
            self.store,
            where=self.where,
            corpora=self.corpora,
            critic=self.critic,
            at=self.at,
            workers=self.workers,
        )


@dataclass(frozen=True)
class Exporter:
    """One format of `ixt export`. A plugin registers an instance under `ixt.exporters`.

    Attributes:
        help: one line for `ixt export --help` and the docs.
        suffixes: endings of the files it writes, such as `.jsonl`; empty: it writes a folder.
        run: writes the export; returns what `ixt export` prints.
        options: the keys that `--option KEY=VALUE` accepts, with their types and defaults.
        unit: what the progress bar counts.
    """

    help: str
    run: Callable[[ExportRequest, Any, ExportProgress], Mapping[str, Any]]
    options: type[ConfigModel] = NoOptions
    unit: str = "documents"
    suffixes: tuple[str, ...] = ()

    def writes(self, name: str) -> bool:
        """Return whether a file's name is one of this format."""
        return bool(self.suffixes) and name.lower().endswith(self.suffixes)


def find_exporter(to: str | None, format: str | None = None) -> tuple[str, Exporter]:
    """Return the format of an export, and its exporter.

    Args:
        to: the file or folder to write; None is the format's own default.
        format: the format that the user named; None: the name of the file decides.

    Raises:
        UsageError: the format is not known, the name tells none, or it tells another one.
        PluginError: the exporter cannot be loaded.
    """
    plugins = find_plugins("ixt.exporters")
    known = ", ".join(sorted(plugins))
    if format is not None and format not in plugins:
        raise UsageError(f"{format!r} does not exist; valid are {known}")
    exporters = {}
    for name, plugin in plugins.items():
        # A broken plugin of another format does not matter.
        with nullcontext() if name == format else suppress(PluginError):
            exporters[name] = _load(plugin)
    name = Path(to).name if to else ""
    by_name = [kind for kind, exporter in exporters.items() if exporter.writes(name)]
    if format is None:
        if not by_name:
            raise UsageError(f"the name {name!r} tells no format; add --format, one of {known}")
        format = by_name[0]
    elif by_name and format not in by_name:
        raise UsageError(f"{to} has a name of the format {by_name[0]}, but --format is {format}")
    suffixes = exporters[format].suffixes
    if suffixes and not by_name and Path(name).suffix:
        raise UsageError(f"{to}: a name of the format {format} ends with {' or '.join(suffixes)}")
    return format, exporters[format]


def _load(plugin: Plugin) -> Exporter:
    exporter = plugin.load()
    if not isinstance(exporter, Exporter):
        raise PluginError(
            f"plugin {plugin.name!r} ({plugin.group}) of {plugin.package}: {plugin.target} is not "
            f"an ixt_data.export.Exporter but an object of type {type(exporter).__name__}"
        )
    return exporter


def _rows_exporter(
    write: Callable[..., Any],
    help: str,
    suffixes: tuple[str, ...],
    options: type[ConfigModel] = NoOptions,
) -> Exporter:
    """Return the exporter of a function that writes selected documents.

    It gets them as `options`, if the format has options.
    """

    def run(request: ExportRequest, given: Any, progress: ExportProgress) -> Mapping[str, Any]:
        selected = request.selected()
        report = write(
            selected,
            request.target,
            overwrite=request.overwrite,
            progress=lambda done, n: progress(
                done, selected.total, f"{format_count(n, 'document')} matched"
            ),
            **({} if options is NoOptions else {"options": given}),
        )
        return asdict(report)

    return Exporter(help, run, options, suffixes=suffixes)


def _delta(
    request: ExportRequest, options: NoOptions, progress: ExportProgress
) -> Mapping[str, Any]:
    if request.where or request.corpora or request.critic:
        raise UsageError(
            "delta tables have all rows of a snapshot: leave out --where, --selection, --corpus "
            "and --critic"
        )
    if request.workers is not None:
        raise UsageError("--workers is for formats with texts; leave it out")
    report = export_delta(request.store, request.to, at=request.at, overwrite=request.overwrite)
    return asdict(report)


DELTA = Exporter("metadata as Delta tables, without copying (default OUT: STORE/delta)", _delta)
PARQUET = _rows_exporter(
    export_parquet, "documents with critiques as one Parquet file", (".parquet",)
)
JSONL = _rows_exporter(
    export_jsonl,
    "documents with critiques, one JSON object per line",
    (".jsonl", ".jsonl.gz", ".jsonl.zst"),
)
HF = _rows_exporter(
    export_hf, "documents with critiques as a folder for Hugging Face datasets, with a card", ()
)
PREFERENCES = _rows_exporter(
    export_preferences,
    "pairs of a better and a worse answer to one prompt, as DPO trainers read them",
    (".jsonl",),
    PreferenceOptions,
)
MDS = _rows_exporter(export_mds, "documents with critiques as an MDS folder", ())
