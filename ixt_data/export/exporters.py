"""The formats of `ixt export`, and the protocol by which a plugin adds one."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ixt_data.config import ConfigModel
from ixt_data.errors import UsageError
from ixt_data.export.delta import export_delta
from ixt_data.export.matched_documents import MatchedDocuments
from ixt_data.export.mds import export_mds
from ixt_data.export.rows import export_jsonl, export_parquet
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
    """

    store: Store
    to: str | None
    where: str | None = None
    corpora: Sequence[str] = ()
    critic: str | None = None
    at: str | None = None
    overwrite: bool = False

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
            self.store, where=self.where, corpora=self.corpora, critic=self.critic, at=self.at
        )


@dataclass(frozen=True)
class Exporter:
    """One format of `ixt export`. A plugin registers an instance under `ixt.exporters`.

    Attributes:
        help: one line for `ixt export --help` and the docs.
        run: writes the export; returns what `ixt export` prints.
        options: the keys that `--option KEY=VALUE` accepts, with their types and defaults.
        unit: what the progress bar counts.
    """

    help: str
    run: Callable[[ExportRequest, Any, ExportProgress], Mapping[str, Any]]
    options: type[ConfigModel] = NoOptions
    unit: str = "documents"


def _rows_exporter(write: Callable[..., Any], help: str) -> Exporter:
    """Return the exporter of a function that writes selected documents."""

    def run(
        request: ExportRequest, options: NoOptions, progress: ExportProgress
    ) -> Mapping[str, Any]:
        selected = request.selected()
        report = write(
            selected,
            request.target,
            overwrite=request.overwrite,
            progress=lambda done, n: progress(done, selected.total, f"{n:,} documents matched"),
        )
        return asdict(report)

    return Exporter(help, run)


def _delta(
    request: ExportRequest, options: NoOptions, progress: ExportProgress
) -> Mapping[str, Any]:
    if request.where or request.corpora or request.critic:
        raise UsageError(
            "delta tables have all rows of a snapshot: leave out --where, --selection, --corpus "
            "and --critic"
        )
    report = export_delta(request.store, request.to, at=request.at, overwrite=request.overwrite)
    return asdict(report)


DELTA = Exporter("metadata as Delta tables, without copying (default OUT: STORE/delta)", _delta)
PARQUET = _rows_exporter(export_parquet, "documents with critiques as one Parquet file")
JSONL = _rows_exporter(export_jsonl, "documents with critiques, one JSON object per line")
MDS = _rows_exporter(export_mds, "documents with critiques as an MDS folder")
