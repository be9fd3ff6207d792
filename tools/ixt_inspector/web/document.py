"""The page of one document and its critiques."""

from typing import Any
from urllib.parse import quote

import orjson
from starlette.responses import Response

from ixt_data.errors import (
    ConfigError,
    CorruptError,
    StoreError,
    UnitAlreadyPublished,
    UnknownDocument,
)
from ixt_data.records import Span
from ixt_data.search import SearchWords
from ixt_data.sql import find_document
from ixt_inspector.web import labeling
from ixt_inspector.web.access import is_cross_site
from ixt_inspector.web.documents import parse_filter, table_parameters
from ixt_inspector.web.documents_table import DocumentsTable
from ixt_inspector.web.duplicates import same_cluster
from ixt_inspector.web.request import PageRequest
from ixt_inspector.web.text import PART_VERDICTS
from ixt_inspector.web.text_views import VIEWS, view_text

DEFAULT_CHARS = 60_000
"""Characters of a text that the page shows by default."""
MAX_CHARS = 5_000_000
MAX_NEAR_DUPLICATES = 5
"""Near-duplicates of a document that its page links to."""
_DOCUMENTS = "SELECT * FROM documents WHERE doc_id = $id::UUID ORDER BY corpus"
# With the shards, DuckDB skips most files by their statistics.
_CRITIQUES = """
SELECT * FROM critiques_all
WHERE doc_id = $id::UUID AND (shard IN (SELECT unnest($shards)) OR critic = 'human')
ORDER BY critic, generation DESC
"""


def show(request: PageRequest) -> Response:
    """Return the page."""
    return _page(request, _doc_id(request))


def _page(request: PageRequest, doc_id: str, error: str = "") -> Response:
    """Return the page, with the error of a form that was not saved."""
    view = request.view
    locations = _locations(request, doc_id)
    corpus = request.choice("in", [row["corpus"] for row in locations], locations[0]["corpus"])
    location = next(row for row in locations if row["corpus"] == corpus)
    all_critiques = _critiques(request, doc_id, locations)
    # The latest critique of each critic comes first.
    latest = {row["critic"]: row for row in reversed(all_critiques)}
    critiques = [latest[name] for name in view.critics if name in latest]
    text = _sample(request, location["shard"], location["row"])["text"]
    names = [row["critic"] for row in critiques]
    critic = request.choice("critic", view.critics, names[0] if names else "")
    critique = next((row for row in critiques if row["critic"] == critic), None)
    details = (
        _details(request, critique) if critique is not None else {"spans": [], "thinking": None}
    )
    length = MAX_CHARS if request.get("all") else DEFAULT_CHARS
    shown = view_text(
        text,
        details["spans"],
        name=request.choice("view", VIEWS, ""),
        file_names=(location["source_id"] or "", location["source"] or ""),
        words=SearchWords.parse(request.get("find")) if request.get("find") else None,
        length=length,
    )
    before, after = _neighbours(request, doc_id, corpus)
    return request.page(
        "document.html",
        location["source_id"] or doc_id,
        400 if error else 200,
        doc_id=doc_id,
        location=location,
        locations=locations,
        user_columns=_user_columns(location),
        critiques=critiques,
        critic=critic,
        critique=critique,
        all_critiques=all_critiques if len(all_critiques) > len(critiques) else [],
        spans=details["spans"],
        parts=PART_VERDICTS,
        thinking=details["thinking"],
        shown=shown,
        views=VIEWS,
        hidden_chars=max(0, len(text) - length),
        shown_chars=min(len(text), length),
        before=before,
        after=after,
        near_duplicates=same_cluster(view, location, MAX_NEAR_DUPLICATES),
        table=table_parameters(request),
        form=labeling.form_state(request, doc_id, labeling.label_of(critiques), error)
        if request.inspector.reviewers is not None and not request.at
        else None,
    )


def save_label(request: PageRequest) -> Response:
    """Save the label of the form; open the next document of the table, or this one.

    A form that is not valid is shown again, with what the person has typed and the error.
    """
    doc_id = _doc_id(request)
    location = _locations(request, doc_id)[0]
    text = _sample(request, location["shard"], location["row"])["text"]
    _, after = _neighbours(request, doc_id, request.get("in") or location["corpus"])
    table = table_parameters(request)
    following, corpus = (after["doc_id"], after["corpus"]) if after else (doc_id, request.get("in"))
    address = request.link(f"/documents/{following}", in_=corpus, **table)
    try:
        return labeling.save(request, doc_id, text, address)
    except (ConfigError, StoreError, UnitAlreadyPublished) as error:
        if request.inspector.reviewers is None or request.at or isinstance(error, CorruptError):
            raise
        request.path = f"/documents/{doc_id}"
        return _page(request, doc_id, str(error))


def download(request: PageRequest) -> Response:
    """Return the text as a file that a browser saves and does not render."""
    doc_id = _doc_id(request)
    location = _locations(request, doc_id)[0]
    text = _sample(request, location["shard"], location["row"])["text"]
    name = quote(f"{doc_id}.txt")
    return Response(
        text.encode("utf-8", "surrogatepass"),
        media_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": f"attachment; filename={name}"},
    )


def _neighbours(
    request: PageRequest, doc_id: str, corpus: str
) -> tuple[dict[str, Any] | None, dict[str, Any] | None]:
    """Return the documents before and after in the table of the address."""
    if request.get("where") and is_cross_site(request.http_request.headers):
        # A link on another site runs no predicate.
        return None, None
    before, after = DocumentsTable(request, parse_filter(request)).neighbours(doc_id, corpus)
    return before, after


def _doc_id(request: PageRequest) -> str:
    try:
        return find_document(request.view.query, str(request.http_request.path_params["doc_id"]))
    except UnknownDocument as error:
        raise UnknownDocument(f"{error} in snapshot {request.view.version}") from None


def _locations(request: PageRequest, doc_id: str) -> list[dict[str, Any]]:
    return request.view.query(_DOCUMENTS, {"id": doc_id})


def _critiques(
    request: PageRequest, doc_id: str, locations: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Return all critiques of a document, by critic, the latest first."""
    snapshot = request.view.snapshot
    shards = [
        shard.path
        for location in locations
        for critic in snapshot.critics
        if (shard := snapshot.aligned(location["shard"], f"critique/{critic}")) is not None
    ]
    return request.view.query(_CRITIQUES, {"id": doc_id, "shards": shards}) if shards else []


def _sample(request: PageRequest, shard: str, row: int) -> dict[str, Any]:
    return request.inspector.views.store.sample(request.view.snapshot.shards_by_path[shard], row)


def _details(request: PageRequest, critique: dict[str, Any]) -> dict[str, Any]:
    """Return the spans of a critique and, of a reasoning judge, its thinking."""
    if critique.get("label_spans"):
        spans = [Span(*span) for span in orjson.loads(critique["label_spans"])]
        return {"spans": spans, "thinking": None}
    snapshot = request.view.snapshot
    info = snapshot.shards_by_path[critique["shard"]]
    spans = [Span(*span) for span in _sample(request, info.path, critique["row"])["spans"]]
    thinking_shard = snapshot.aligned(
        info.aligned_with or "", info.family.replace("critique/", "thinking/", 1)
    )
    thinking = (
        _sample(request, thinking_shard.path, critique["row"])["thinking"]
        if thinking_shard
        else None
    )
    return {"spans": spans, "thinking": thinking or None}


def _user_columns(location: dict[str, Any]) -> dict[str, Any]:
    """Return the user's columns of a document."""
    from ixt_data.sql import DOCUMENTS

    return {name: value for name, value in location.items() if name not in DOCUMENTS}
