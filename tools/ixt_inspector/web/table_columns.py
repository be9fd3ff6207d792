"""The columns of the table of documents: those that a person chooses, and their values."""

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ixt_data.errors import CorruptError, QueryError
from ixt_data.sql import quote_name
from ixt_inspector.web.document_columns import OWN, is_number
from ixt_inspector.web.request import PageRequest
from ixt_inspector.web.snapshot_cache import SnapshotView
from ixt_inspector.web.text import list_names, shorten

TEXT_SECONDS = 1.5
"""Time for which a page reads texts from shards. Texts that were read once are cached."""
_CELL_CHARS = 200
DEFAULT_COLUMNS = ("score", "length", "status")


@dataclass(frozen=True, slots=True)
class TableColumn:
    """One column next to that of the document and its critique.

    Attributes:
        key: its name in `show`.
        title: text of its header.
        value: column of the row.
        sort: value of `sort`; empty if the table is not sorted by it.
        format: filter of templates for numbers; empty for text.
    """

    key: str
    title: str
    value: str
    sort: str = ""
    format: str = ""


COLUMNS = {
    column.key: column
    for column in (
        TableColumn("score", "score", "score", "score", "score"),
        TableColumn("length", "characters", "n_chars", "length", "count"),
        TableColumn("status", "status", "status", "status"),
        TableColumn("corpus", "corpus", "corpus", "corpus"),
        TableColumn("source", "source", "source", "source"),
        TableColumn("stage", "stage", "stage", "stage"),
        TableColumn("bytes", "bytes", "n_bytes", "bytes", "count"),
        TableColumn("expected", "expected score", "expected", "expected", "score"),
        TableColumn("entropy", "entropy of the score", "entropy", "entropy", "figure"),
        TableColumn("thinking", "thinking tokens", "n_thinking_tokens", "thinking", "count"),
        TableColumn("spans", "number of spans", "n_spans", "spans", "count"),
        TableColumn("text", "start of the text", "text"),
    )
}


def all_columns(view: SnapshotView) -> dict[str, TableColumn]:
    """Return the columns that a person can choose, the user's own last."""
    own = {
        f"{OWN}{name}": TableColumn(
            f"{OWN}{name}",
            name,
            f"{OWN}{name}",
            f"{OWN}{name}",
            "number" if is_number(kind) else "",
        )
        for name, kind in view.own_columns.items()
    }
    return {**COLUMNS, **own}


def shown_columns(request: PageRequest, sort: str) -> list[TableColumn]:
    """Return the columns of the address, and the one that the table is sorted by.

    Raises:
        QueryError: a column does not exist.
    """
    known = all_columns(request.view)
    chosen = [key for key in request.all_of("show") if key.strip()]
    keys = list(dict.fromkeys(chosen or DEFAULT_COLUMNS))
    for key in keys:
        if key not in known:
            raise QueryError(f"show: no column {shorten(key)!r}; columns: {list_names(known)}")
    if sort in known and sort not in keys:
        keys.append(sort)
    return [known[key] for key in keys]


def add_values(
    request: PageRequest, rows: Sequence[dict[str, Any]], columns: Sequence[TableColumn]
) -> list[dict[str, Any]]:
    """Return the rows of a page with the values of the user's columns, and starts of texts."""
    own = [column.title for column in columns if column.key.startswith(OWN)]
    has_text = any(column.key == "text" for column in columns)
    if not rows or not (own or has_text):
        return list(rows)
    view = request.view
    chosen = ["doc_id", "corpus", *(["shard", '"row"'] if has_text else [])]
    for number, name in enumerate(own):
        value = quote_name(name)
        if not is_number(view.own_columns[name]):
            value = f"left({value}::VARCHAR, {_CELL_CHARS + 1})"
        chosen.append(f"{value} AS own_{number}")
    found = view.query(
        f"SELECT {', '.join(chosen)} FROM documents WHERE doc_id IN (SELECT unnest($ids::UUID[]))",
        {"ids": [str(row["doc_id"]) for row in rows]},
    )
    by_id = {(str(one["doc_id"]), one["corpus"]): one for one in found}
    values = [by_id[str(row["doc_id"]), row["corpus"]] for row in rows]
    texts = _texts(request, values) if has_text else [None] * len(rows)
    return [
        {
            **row,
            **{f"{OWN}{name}": _cell(one[f"own_{number}"]) for number, name in enumerate(own)},
            "text": text,
        }
        for row, one, text in zip(rows, values, texts, strict=True)
    ]


def _cell(value: Any) -> Any:
    if isinstance(value, str) and len(value) > _CELL_CHARS:
        return value[:_CELL_CHARS] + "…"
    return value


def _texts(request: PageRequest, places: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the starts of texts, in the order of places; as many as there is time to read."""
    view, store = request.view, request.inspector.views.store
    end = time.monotonic() + TEXT_SECONDS
    # One after another through each shard.
    order = sorted(range(len(places)), key=lambda n: (places[n]["shard"], places[n]["row"]))
    texts = [""] * len(places)
    for number in order:
        path, row = places[number]["shard"], places[number]["row"]
        text = view.texts.find((path, row))
        if text is None and time.monotonic() < end:
            try:
                whole = str(store.sample(view.snapshot.shards_by_path[path], row)["text"])
            except CorruptError as error:
                text = str(error)
            else:
                start = " ".join(whole[: 2 * _CELL_CHARS].split())[:_CELL_CHARS]
                text = start + ("…" if len(start) < len(whole.strip()) else "")
                view.texts.add((path, row), text)
        texts[number] = "(not read in time: load the page again)" if text is None else text
    return texts
