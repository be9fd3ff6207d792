"""One document beside what critics say of it."""

from typing import Any
from urllib.parse import quote
from uuid import UUID

from starlette.responses import Response

from ixt_data.errors import QueryError, SnapshotError
from ixt_data.records import Span, parse_id
from ixt_inspector.web.documents import KEPT, filter_of
from ixt_inspector.web.documents_table import DocumentsTable
from ixt_inspector.web.request import PageRequest
from ixt_inspector.web.text import PARTS, pieces

SHOWN = 60_000
"""Characters of a text that a page shows before it is asked for more."""
MOST_SHOWN = 5_000_000
_DOCUMENTS = "SELECT * FROM documents WHERE doc_id = $id::UUID ORDER BY corpus"
# The shards tell most files apart by their own figures, so that those are not read.
_CRITIQUES = """
SELECT * FROM critiques_all WHERE doc_id = $id::UUID AND shard IN (SELECT unnest($shards))
ORDER BY critic, generation DESC
"""


def show(call: PageRequest) -> Response:
    """The page."""
    view, doc_id = call.view, _doc_id(call)
    homes = _homes(call, doc_id)
    corpus = call.choice("in", [home["corpus"] for home in homes], homes[0]["corpus"])
    home = next(home for home in homes if home["corpus"] == corpus)
    every = _critiques(call, doc_id, homes)
    # The latest one by each critic comes first.
    latest = {row["critic"]: row for row in reversed(every)}
    critiques = [latest[name] for name in view.critics if name in latest]
    text = _sample(call, home["shard"], home["row"])["text"]
    names = [row["critic"] for row in critiques]
    critic = call.choice("critic", view.critics, names[0] if names else "")
    own = next((row for row in critiques if row["critic"] == critic), None)
    said = _said(call, own) if own is not None else {"spans": [], "thinking": None}
    length = MOST_SHOWN if call.get("all") else SHOWN
    before, after = DocumentsTable(call, filter_of(call)).neighbours(doc_id, corpus)
    return call.page(
        "document.html",
        home["source_id"] or doc_id,
        doc_id=doc_id,
        home=home,
        homes=homes,
        own_columns=_own_columns(home),
        critiques=critiques,
        critic=critic,
        own=own,
        earlier=every if len(every) > len(critiques) else [],
        spans=said["spans"],
        parts=PARTS,
        thinking=said["thinking"],
        pieces=list(pieces(text, said["spans"], length)),
        cut=max(0, len(text) - length),
        shown=min(len(text), length),
        before=before,
        after=after,
        table={name: call.get(name) for name in KEPT},
    )


def download(call: PageRequest) -> Response:
    """The text as a file: never shown by a browser as what it may pretend to be."""
    doc_id = _doc_id(call)
    home = _homes(call, doc_id)[0]
    text = _sample(call, home["shard"], home["row"])["text"]
    name = quote(f"{doc_id}.txt")
    return Response(
        text.encode("utf-8", "surrogatepass"),
        media_type="text/plain; charset=utf-8",
        headers={"Content-Disposition": f"attachment; filename={name}"},
    )


def _doc_id(call: PageRequest) -> str:
    given = str(call.request.path_params["doc_id"])
    try:
        return str(UUID(bytes=parse_id(given)))
    except ValueError:
        raise QueryError(f"{given!r} is no doc_id, which has 32 hexadecimal digits") from None


def _homes(call: PageRequest, doc_id: str) -> list[dict[str, Any]]:
    found = call.view.ask(_DOCUMENTS, {"id": doc_id})
    if not found:
        raise SnapshotError(f"no document {doc_id} in snapshot {call.view.version}")
    return found


def _critiques(call: PageRequest, doc_id: str, homes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """All critiques of a document, by critic, the newest first."""
    snapshot = call.view.snapshot
    shards = [
        shard.path
        for home in homes
        for critic in snapshot.critics
        if (shard := snapshot.aligned(home["shard"], f"critique/{critic}")) is not None
    ]
    return call.view.ask(_CRITIQUES, {"id": doc_id, "shards": shards}) if shards else []


def _sample(call: PageRequest, shard: str, row: int) -> dict[str, Any]:
    return call.inspector.views.store.sample(call.view.snapshot.shards_by_path[shard], row)


def _said(call: PageRequest, critique: dict[str, Any]) -> dict[str, Any]:
    """What is not in a critique's row: its spans, and the thinking where the critic thinks."""
    snapshot = call.view.snapshot
    info = snapshot.shards_by_path[critique["shard"]]
    spans = [Span(*span) for span in _sample(call, info.path, critique["row"])["spans"]]
    aloud = snapshot.aligned(
        info.aligned_with or "", info.family.replace("critique/", "thinking/", 1)
    )
    thinking = _sample(call, aloud.path, critique["row"])["thinking"] if aloud else None
    return {"spans": spans, "thinking": thinking or None}


def _own_columns(home: dict[str, Any]) -> dict[str, Any]:
    """The user's own metadata of a document."""
    from ixt_data.sql import DOCUMENTS

    return {name: value for name, value in home.items() if name not in DOCUMENTS}
