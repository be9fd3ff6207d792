"""Tables of metrics and generations for the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ixt_data.console import table

if TYPE_CHECKING:
    from rich.console import RenderableType


def figures_text(figures: Mapping[str, Any]) -> "RenderableType":
    """Format the metrics of `ixt eval`, a table for each part."""
    from rich.console import Group

    parts: list[RenderableType] = [f"Step {figures['step']:,}"]
    if figures.get("loss"):
        parts += ["", "Held-out loss, nats per token of the document", _losses(figures)]
    if figures.get("follows"):
        parts += ["", "Nats per token that feedback saves, compared with none", _follows(figures)]
    for name, title in (("tasks", "Tasks by exact match"), ("lm_eval", "lm-evaluation-harness")):
        if figures.get(name):
            parts += ["", title, _rows(figures[name])]
    return Group(*parts)


def _losses(figures: Mapping[str, Any]) -> Any:
    loss, documents = figures["loss"], figures["documents"]
    rows = (
        [bucket, documents[bucket], *(by_bucket[bucket] for by_bucket in loss.values())]
        for bucket in next(iter(loss.values()))
    )
    return table(["score", "documents", *loss], rows)


def _follows(figures: Mapping[str, Any]) -> Any:
    follows = figures["follows"]
    rows = (
        [bucket, *(_with_error(by_bucket[bucket]) for by_bucket in follows.values())]
        for bucket in next(iter(follows.values()))
    )
    return table(["score", *follows], rows)


def _with_error(gap: Mapping[str, float | None]) -> str:
    error = gap["standard_error"]
    return f"{gap['gap']:+.3f}" + ("" if error is None else f" \u00b1 {error:.3f}")


def _rows(rows: Sequence[Mapping[str, Any]]) -> Any:
    header = list(rows[0])
    return table(header, (["" if (v := row[key]) is None else v for key in header] for row in rows))


def generations_text(records: Iterable[Mapping[str, Any]]) -> "RenderableType":
    """Format each prompt with its continuation."""
    from rich.console import Group
    from rich.text import Text

    return Group(*(Text.assemble((r["prompt"], "bold"), r["text"], "\n") for r in records))
