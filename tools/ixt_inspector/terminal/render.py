"""Views of the inspector as text; control characters of documents are escaped."""

from collections.abc import Iterator, Mapping
from typing import Any

from rich.columns import Columns
from rich.console import Console, ConsoleOptions, Group, RenderableType, RenderResult
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from ixt_data.console import fields, printable, table
from ixt_data.store import StoredCritique, StoredDocument
from ixt_inspector.terminal.inspection import InspectedObject, StoredShardView
from ixt_inspector.terminal.mds_folder import FolderView
from ixt_inspector.terminal.shard import ShardView
from ixt_inspector.terminal.store import StoreView

SHORT_CHARS = 300
LONG_CHARS = 3000
MAX_SHARDS = 20
SPAN_CHARS = 60
_NUMBERS = ("score", "expected", "entropy", "n_thinking_tokens", "attempts")


def render_view(view: InspectedObject, full: bool) -> RenderableType:
    """Return a view as text, with complete texts if `full`."""
    if isinstance(view, StoreView):
        return Group(*_store(view))
    if isinstance(view, FolderView):
        return Group(*_folder(view, full))
    if isinstance(view, StoredShardView):
        return Group(*_shard(view, full))
    return Group(*_document(view, full))


def _problems(problems: list[str]) -> Iterator[RenderableType]:
    if problems:
        yield Text()
        yield Text("problems:", style="bold red")
        yield from (Text(f"  {printable(problem)}") for problem in problems)


def _store(view: StoreView) -> Iterator[RenderableType]:
    yield fields(
        {
            "store": view.root,
            "snapshot": view.snapshot,
            "tags": _pairs(view.tags),
            "corpora": _pairs(view.corpora),
            "critics": _pairs(view.critics),
            "selections": ", ".join(view.selections) or "none",
            "rows": f"{_pairs(view.rows)} in {_bytes(view.rows_bytes)}",
        }
    )
    yield Text()
    header = ["corpus", "family", "shards", "aligned", "samples", "size", "ratio", "columns"]
    yield table(
        header,
        (
            (
                family.corpus,
                family.family,
                family.shards,
                f"{family.aligned} of {family.of}",
                f"{family.samples:,}",
                _bytes(family.bytes),
                f"{family.raw_bytes / family.bytes:.1f}" if family.bytes else "",
                _pairs(family.columns),
            )
            for family in view.families
        ),
    )
    yield from _problems(view.problems)


def _folder(view: FolderView, full: bool) -> Iterator[RenderableType]:
    record = view.to_json()
    yield fields(
        {
            "folder": printable(view.folder),
            "index.json": "yes" if view.indexed else "no: read from the headers of the shards",
            "shards": len(view.shards),
            "samples": record["samples"],
            "size": f"{_bytes(record['bytes'])}, unpacked {_bytes(record['raw_bytes'])} "
            f"({record['ratio']:.2f} to 1)",
            "compression": ", ".join(record["compression"]),
            "hashes": f"{', '.join(record['hashes']) or 'none'}; {_checked(record['checked'])}",
            "other files": printable(", ".join(view.other_files)) or "none",
        }
    )
    yield Text()
    yield table(["column", "encoding"], record["columns"].items())
    yield Text()
    header = ["shard", "samples", "size", "ratio"]
    shown = view.shards[:MAX_SHARDS]
    yield table(header, ((v.file, f"{v.samples:,}", _bytes(v.bytes), v.ratio) for v in shown))
    if len(view.shards) > MAX_SHARDS:
        yield Text(f"and {len(view.shards) - MAX_SHARDS:,} more; --output json lists all")
    for one in view.shards:
        yield from _samples(one, full)
    yield from _problems(view.all_problems)


def _shard(stored: StoredShardView, full: bool) -> Iterator[RenderableType]:
    view = stored.view
    yield fields(
        {
            "shard": printable(f"{stored.folder}/{view.file}"),
            "samples": view.samples,
            "size": f"{_bytes(view.bytes)}, unpacked {_bytes(view.raw_bytes)} "
            f"({view.ratio:.2f} to 1)",
            "compression": view.compression or "none",
            "hashes": f"{_pairs(view.hashes)}; {_checked(view.checked)}",
        }
    )
    yield Text()
    rows = [
        (name, encoding, "varies" if view.sizes.get(name) is None else f"{view.sizes[name]} bytes")
        for name, encoding in view.columns.items()
    ]
    yield table(["column", "encoding", "size of a value"], rows)
    if stored.aligned:
        yield Text()
        yield table(["aligned family", "shard"], stored.aligned.items())
    yield from _samples(view, full)
    yield from _problems(view.problems)


def _samples(view: ShardView, full: bool) -> Iterator[RenderableType]:
    for number, values in view.shown.items():
        yield Text()
        shown = {
            name: _short(str(value), None if full else SHORT_CHARS)
            for name, value in values.items()
        }
        yield Text(f"sample {number} of {printable(view.file)}", style="bold")
        yield _two_columns(shown)


def _document(view: StoredDocument, full: bool) -> Iterator[RenderableType]:
    max_chars = None if full else LONG_CHARS
    own = {name: value for name, value in view.row.items() if value is not None}
    yield _two_columns({name: _short(str(value), max_chars) for name, value in own.items()})
    yield Text()
    panels = [_panel("document", _short(view.text, max_chars))]
    panels += [_critique(one, view.text, max_chars) for one in view.critiques]
    if len(panels) == 1:
        panels.append(_panel("critiques", "none yet"))
    yield _Panels(panels)


class _Panels:
    """Panels: next to each other on a terminal, else one below the other, as wide as their text."""

    def __init__(self, panels: list[Panel]) -> None:
        self._panels = panels

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        if console.is_terminal:
            yield Columns(self._panels, equal=True, expand=True)
            return
        for panel in self._panels:
            panel.expand = False
            yield panel


def _critique(view: StoredCritique, text: str, max_chars: int | None) -> Panel:
    row, lines = view.row, []
    for name in _NUMBERS:
        if row[name] is not None:
            number = f"{row[name]:.4g}" if isinstance(row[name], float) else row[name]
            lines.append(f"{name}: {number}")
    if row["scores"]:
        lines.append(f"scores: {_pairs(row['scores'])}")
    if row["flags"]:
        lines.append(f"flags: {', '.join(row['flags'])}")
    lines += [f"error: {row['error']}"] if row["error"] else []
    lines += ["", _short(row["critique"] or "", max_chars)]
    for span in view.spans:
        words = text[span.start : min(span.end, span.start + SPAN_CHARS)]
        score = "" if span.score is None else f" {span.score:.2f}"
        header = f"{span.start}-{span.end} {span.verdict} {span.tag}".rstrip() + score
        lines += ["", f"{header}: {words!r}", *([span.comment] if span.comment else [])]
    if view.thinking:
        lines += ["", "thinking:", _short(view.thinking, max_chars)]
    return _panel(f"{row['critic']} ({row['critic_id']}): {row['status']}", "\n".join(lines))


def _panel(title: str, text: str) -> Panel:
    return Panel(Text(printable(text)), title=Text(printable(title)), title_align="left")


def _two_columns(values: Mapping[str, str]) -> Table:
    grid = Table(show_header=False, box=None, pad_edge=False)
    grid.add_column(style="bold")
    grid.add_column(overflow="fold")
    for name, value in values.items():
        grid.add_row(Text(printable(name)), Text(printable(value)))
    return grid


def _short(text: str, max_chars: int | None) -> str:
    if max_chars is None or len(text) <= max_chars:
        return text
    return f"{text[:max_chars]}… [{len(text) - max_chars:,} more characters: --full]"


def _pairs(values: Mapping[str, Any]) -> str:
    return printable(", ".join(f"{name} {value}" for name, value in values.items())) or "none"


def _checked(checked: bool) -> str:
    return "content compared" if checked else "not compared with the content: --verify"


def _bytes(n: int) -> str:
    for size, unit in ((1e9, "GB"), (1e6, "MB"), (1e3, "kB")):
        if n >= size:
            return f"{n / size:,.1f} {unit}"
    return f"{n} B"
