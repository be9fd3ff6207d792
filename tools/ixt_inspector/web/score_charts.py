"""Scores by a column of documents: counts by bins of the column and tenths of the score.

The edges of a bin are constants in SQL, and the links to its documents contain the same constants.
So a bin leads to exactly the documents that it counts.
"""

import math
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ixt_data.console import ACCENT, INK, ChartSize, Spec, complete_chart
from ixt_data.sql import SCORE_STEP, SCORE_STEPS, quote_name, sql_literal
from ixt_inspector.web.document_columns import OWN, SortColumn, is_number, own_column
from ixt_inspector.web.listing import ListingColumns
from ixt_inspector.web.snapshot_cache import SnapshotView
from ixt_inspector.web.text import make_visible

MAX_BINS = 24
"""Bins of numbers, or values of a text: the most frequent ones."""
CRITIC = "critic."
_NUMBERS = {
    "length": ("n_chars", "characters"),
    "bytes": ("n_bytes", "bytes"),
    "thinking": ("n_thinking_tokens", "thinking tokens"),
    "entropy": ("entropy", "entropy of the score"),
    "spans": ("n_spans", "number of spans"),
}
_TEXTS = {"source": "source", "corpus": "corpus", "stage": "stage"}
_WIDE = 50.0
"""A range is logarithmic if its ends have at least this ratio."""


@dataclass(frozen=True, slots=True)
class ChartAxis:
    """The column of the horizontal axis.

    Attributes:
        title: its name on the page.
        value: SQL over a listing.
        predicate: SQL as in a mix; None for the score of another critic.
        is_number: whether it has bins of numbers; otherwise each text has its row.
        critic: name of the other critic, if it is a score.
        parameter: name of the filter of documents by a text, such as `is.lang`.
    """

    title: str
    value: str
    predicate: str | None
    is_number: bool
    critic: str | None = None
    parameter: str = ""


@dataclass(frozen=True, slots=True)
class ScoreBin:
    """The scored documents of one bin, or of one text.

    Attributes:
        low: lower edge, included; None for a text.
        high: upper edge, excluded, except in the last bin.
        text: the text; None for documents without a value.
        steps: documents by tenth of the score.
        mean: mean score.
    """

    low: float | None
    high: float | None
    text: str | None
    steps: tuple[int, ...]
    mean: float

    @property
    def n(self) -> int:
        """Return the number of documents."""
        return sum(self.steps)


def axis_names(view: SnapshotView, critic: str) -> dict[str, str]:
    """Return the columns that an axis can show, with their titles."""
    names = {name: title for name, (_, title) in _NUMBERS.items()} | _TEXTS
    names |= {f"{CRITIC}{other}": f"score by {other}" for other in view.critics if other != critic}
    return names | {f"{OWN}{name}": name for name in view.own_columns}


def chart_axis(view: SnapshotView, critic: str, name: str) -> tuple[ChartAxis, ListingColumns]:
    """Return the axis of a name of `axis_names`, and the listing that has its column."""
    if name in _NUMBERS:
        column, title = _NUMBERS[name]
        return ChartAxis(title, f"{column}::DOUBLE", column, True), view.columns(critic)
    if name in _TEXTS:
        return ChartAxis(name, name, name, False, parameter=name), view.columns(critic)
    if name.startswith(CRITIC):
        other = name.removeprefix(CRITIC)
        axis = ChartAxis(f"score by {other}", "other_score", None, True, other)
        return axis, view.columns(critic, other)
    own = name.removeprefix(OWN)
    return _own_axis(view, critic, own_column(view.own_columns, own))


def _own_axis(
    view: SnapshotView, critic: str, column: SortColumn
) -> tuple[ChartAxis, ListingColumns]:
    quoted, parameter = quote_name(column.name), f"is.{column.name}"
    if is_number(column.type):
        axis = ChartAxis(column.name, "own", quoted, True)
        return axis, view.columns(critic, own=column.name)
    counted = {facet.name: facet.column for facet in view.facets}
    if column.name in counted:
        value = f"{counted[column.name]}::VARCHAR"
        axis = ChartAxis(column.name, value, quoted, False, parameter=parameter)
        return axis, view.columns(critic)
    text = f"(SELECT doc_id, corpus, {quoted}::VARCHAR AS text FROM documents)"
    axis = ChartAxis(column.name, text, quoted, False, parameter=parameter)
    return axis, view.columns(critic)


def read_bins(
    view: SnapshotView, axis: ChartAxis, columns: ListingColumns, corpus: str
) -> list[ScoreBin]:
    """Return the bins of the scored documents, of one corpus or of all."""
    listing = view.listing(columns)
    conditions, values = scored(axis, corpus)
    source, value = f"{listing.source} AS listing", axis.value
    if value.startswith("("):
        # A column with many texts is not in the listing.
        source += f" JOIN {value} AS texts USING (doc_id, corpus)"
        value = "texts.text"
    where = " AND ".join(conditions)
    if not axis.is_number:
        return _texts(
            view.query(
                f"WITH counted AS (SELECT {value} AS text, {SCORE_STEP} AS step, count(*) AS n, "
                f"sum(score) AS total FROM {source} WHERE {where} GROUP BY ALL) SELECT * FROM "
                "counted WHERE coalesce(text, '') IN (SELECT coalesce(text, '') FROM counted "
                f"GROUP BY 1 ORDER BY sum(n) DESC, 1 LIMIT {MAX_BINS})",
                values,
            )
        )
    (ends,) = view.query(
        f"SELECT min({value}) AS low, max({value}) AS high FROM {source} WHERE {where}", values
    )
    if ends["low"] is None:
        return []
    edges = bin_edges(ends["low"], ends["high"])
    cases = " ".join(
        f"WHEN {value} < {edge!r}::DOUBLE THEN {n}" for n, edge in enumerate(edges[1:-1])
    )
    number = f"CASE {cases} ELSE {len(edges) - 2} END" if cases else "0"
    rows = view.query(
        f"SELECT {number} AS number, {SCORE_STEP} AS step, count(*) AS n, sum(score) AS total "
        f"FROM {source} WHERE {where} GROUP BY ALL",
        values,
    )
    return [
        _bin(edges[n], edges[n + 1], None, [row for row in rows if row["number"] == n])
        for n in range(len(edges) - 1)
    ]


def scored(axis: ChartAxis, corpus: str) -> tuple[list[str], dict[str, Any]]:
    """Return the conditions on the documents of a chart, and their parameters."""
    conditions = ["status = 'ok'", "score IS NOT NULL"]
    if axis.is_number:
        conditions.append(f"{axis.value} IS NOT NULL")
    if axis.critic is not None:
        conditions.append("other_status = 'ok'")
    if corpus:
        conditions.append("corpus = $corpus")
    return conditions, {"corpus": corpus} if corpus else {}


def bin_edges(low: float, high: float) -> list[float]:
    """Return round edges of at most `MAX_BINS` bins from the lowest to the highest value."""
    if low == high:
        return [low, high]
    # The difference or the ratio of two values may be outside the range of a float.
    step = high / MAX_BINS - low / MAX_BINS
    if low > 0 and high / low >= _WIDE:
        start, end = math.log(low), math.log(high)
        logs = (start + (end - start) * n / MAX_BINS for n in range(1, MAX_BINS))
        edges = [float(f"{math.exp(one):.2g}") for one in logs]
    elif step < sys.float_info.min:
        edges = []
    else:
        step = _round_step(step)
        first = math.floor(low / step) + 1
        edges = [float(f"{step * n:.12g}") for n in range(first, math.ceil(high / step))]
    return [low, *sorted({edge for edge in edges if low < edge < high}), high]


def is_wide(bins: Sequence[ScoreBin]) -> bool:
    """Return whether the axis of the bins is logarithmic."""
    low, high = bins[0].low, bins[-1].high
    return low is not None and high is not None and low > 0 and high / low >= _WIDE


def range_predicate(
    axis: ChartAxis, low: float | None, high: float | None, *, is_open: bool
) -> str:
    """Return the SQL for values from `low` to `high` as in a mix; empty without bounds.

    Args:
        axis: the column.
        low: lowest value, included.
        high: highest value.
        is_open: whether `high` is excluded.
    """
    parts = [f"{{}} >= {low!r}"] if low is not None else []
    parts += [f"{{}} {'<' if is_open else '<='} {high!r}"] if high is not None else []
    if not parts:
        return ""
    if axis.critic is None:
        assert axis.predicate is not None
        return " AND ".join(part.format(axis.predicate) for part in parts)
    inside = " AND ".join(part.format("score") for part in parts)
    return (
        f"doc_id IN (SELECT doc_id FROM critiques WHERE critic = {sql_literal(axis.critic)} "
        f"AND status = 'ok' AND {inside})"
    )


def score_chart(axis: ChartAxis, bins: Sequence[ScoreBin], critic: str) -> Spec:
    """Return the documents by column and score: the more documents, the darker the cell."""
    title, score = make_visible(axis.title), f"score by {make_visible(critic)}"
    largest = max(max(one.steps) for one in bins) or 1
    description = f"documents by {title} and {score}"
    if not axis.is_number:
        return _text_chart(title, bins, score, description)
    cells = [
        {
            "x": one.low,
            "x_end": one.high if one.high != one.low else (one.high or 0) + 1,
            "y": max(0.0, (step - 0.5) / 10),
            "y_end": min(1.0, (step + 0.5) / 10),
            "documents": n,
            "share": (n / largest) ** 0.5,
        }
        for one in bins
        for step, n in enumerate(one.steps)
        if n
    ]
    is_log = is_wide(bins)
    means = [
        {"x": _middle(one, is_log=is_log), "y": one.mean} for one in bins if one.n and len(bins) > 1
    ]
    x: Spec = {
        "field": "x",
        "type": "quantitative",
        "title": title,
        "scale": {"type": "log"} if is_log else {"zero": False, "nice": False},
        "axis": {"grid": False, "format": "~s"},
    }
    y: Spec = {
        "field": "y",
        "type": "quantitative",
        "title": score,
        "scale": {"domain": [0, 1]},
        "axis": {"tickCount": 5},
    }
    rects: Spec = {
        "data": {"values": cells},
        "params": [{"name": "brush", "select": {"type": "interval"}}],
        "mark": {"type": "rect", "color": ACCENT},
        "encoding": {
            "x": x,
            "x2": {"field": "x_end"},
            "y": y,
            "y2": {"field": "y_end"},
            "opacity": _opacity(),
        },
    }
    line: Spec = {
        "data": {"values": means},
        "mark": {"type": "line", "color": INK, "strokeWidth": 1.5, "point": {"color": INK}},
        "encoding": {"x": x, "y": y},
    }
    return complete_chart({"layer": [rects, line]}, ChartSize(None, 320), description)


def _text_chart(title: str, bins: Sequence[ScoreBin], score: str, description: str) -> Spec:
    labels = [make_visible("(none)" if one.text is None else one.text[:60]) for one in bins]
    cells = [
        {"label": label, "score": step / 10, "documents": n, "share": (n / max(one.steps)) ** 0.5}
        for label, one in zip(labels, bins, strict=True)
        for step, n in enumerate(one.steps)
        if n
    ]
    drawn: Spec = {
        "data": {"values": cells},
        "mark": {"type": "rect", "color": ACCENT},
        "encoding": {
            "x": {
                "field": "score",
                "type": "ordinal",
                "title": score,
                "scale": {"domain": [step / 10 for step in range(SCORE_STEPS)]},
                "axis": {"labelAngle": 0},
            },
            "y": {"field": "label", "type": "nominal", "title": title, "sort": None},
            "opacity": _opacity(),
        },
    }
    return complete_chart(drawn, ChartSize(None, 22 * len(bins)), description)


def _opacity() -> Spec:
    return {
        "field": "share",
        "type": "quantitative",
        "scale": {"domain": [0, 1], "range": [0.06, 0.85]},
        "legend": None,
    }


def _texts(rows: Sequence[Mapping[str, Any]]) -> list[ScoreBin]:
    texts = dict.fromkeys(row["text"] for row in rows)
    found = [_bin(None, None, text, [row for row in rows if row["text"] == text]) for text in texts]
    return sorted(found, key=lambda one: (-one.n, one.text or ""))


def _bin(
    low: float | None, high: float | None, text: str | None, rows: Sequence[Mapping[str, Any]]
) -> ScoreBin:
    steps = [0] * SCORE_STEPS
    for row in rows:
        steps[row["step"]] += row["n"]
    n = sum(steps)
    mean = sum(row["total"] for row in rows) / n if n else 0.0
    return ScoreBin(low, high, text, tuple(steps), mean)


def _middle(one: ScoreBin, *, is_log: bool) -> float:
    assert one.low is not None
    assert one.high is not None
    # Not the half of a sum, nor the root of a product: these may be infinite.
    return one.low**0.5 * one.high**0.5 if is_log else one.low / 2 + one.high / 2


def _round_step(step: float) -> float:
    """Return the next larger step of 1, 2, 2.5, 5 or 10 times a power of ten."""
    power = 10.0 ** math.floor(math.log10(step))
    return next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= step * 0.999)
