"""Tables of metrics and generations for the terminal."""

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ixt_data.console import table

if TYPE_CHECKING:
    from rich.console import RenderableType


def metrics_text(metrics: Mapping[str, Any]) -> "RenderableType":
    """Format the metrics of `ixt eval`, a table for each part."""
    from rich.console import Group

    parts: list[RenderableType] = [f"Step {metrics['step']:,}"]
    if metrics.get("loss"):
        parts += ["", "Held-out loss, nats per token of the document", _losses(metrics)]
    if metrics.get("feedback_gain"):
        parts += [
            "",
            "Nats per token that feedback saves, compared with none",
            _feedback_gains(metrics),
        ]
    for name, title in (("tasks", "Tasks by exact match"), ("lm_eval", "lm-evaluation-harness")):
        if metrics.get(name):
            parts += ["", title, _rows(metrics[name])]
    return Group(*parts)


def _losses(metrics: Mapping[str, Any]) -> Any:
    loss, documents = metrics["loss"], metrics["documents"]
    rows = (
        [bucket, documents[bucket], *(by_bucket[bucket] for by_bucket in loss.values())]
        for bucket in next(iter(loss.values()))
    )
    return table(["score", "documents", *loss], rows)


def _feedback_gains(metrics: Mapping[str, Any]) -> Any:
    gains = metrics["feedback_gain"]
    rows = (
        [bucket, *(_with_error(by_bucket[bucket]) for by_bucket in gains.values())]
        for bucket in next(iter(gains.values()))
    )
    return table(["score", *gains], rows)


def _with_error(entry: Mapping[str, float | None]) -> str:
    error = entry["standard_error"]
    return f"{entry['gain']:+.3f}" + ("" if error is None else f" \u00b1 {error:.3f}")


def _rows(rows: Sequence[Mapping[str, Any]]) -> Any:
    header = list(rows[0])
    return table(header, (["" if (v := row[key]) is None else v for key in header] for row in rows))


def generations_text(records: Iterable[Mapping[str, Any]]) -> "RenderableType":
    """Format each prompt with its continuation."""
    from rich.console import Group
    from rich.text import Text

    return Group(*(Text.assemble((r["prompt"], "bold"), r["text"], "\n") for r in records))
