"""The SQL page: a user's query runs in a separate process; rows are shown or downloaded."""

import tempfile
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.responses import FileResponse, RedirectResponse, Response

from ixt_data.errors import QueryError
from ixt_inspector.web.access import is_cross_site
from ixt_inspector.web.query_pool import Statement
from ixt_inspector.web.request import PageRequest

WAIT_SECONDS = 0.8
"""Time that a page waits for a result before it shows that the query is running."""
EXAMPLES = (
    (
        "Scores by source",
        "SELECT source, critic, count(*) AS documents, avg(score) AS mean\n"
        "FROM documents JOIN critiques USING (doc_id)\nGROUP BY ALL ORDER BY mean",
    ),
    (
        "Complaints",
        "SELECT critic, unnest(flags) AS flag, count(*) AS documents\n"
        "FROM critiques GROUP BY ALL ORDER BY documents DESC",
    ),
    (
        "Failures",
        "SELECT critic, status, error, count(*) AS documents\n"
        "FROM critiques WHERE status <> 'ok' GROUP BY ALL ORDER BY documents DESC",
    ),
    (
        "Longest texts with a low score",
        "SELECT doc_id, source, n_chars, score, critique\n"
        "FROM documents JOIN critiques USING (doc_id)\n"
        "WHERE score < 0.3 ORDER BY n_chars DESC LIMIT 50",
    ),
    ("Columns", "DESCRIBE critiques"),
)
_NUMERIC = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE")
_VIEWS = ("documents", "critiques", "critiques_all", "shards", "snapshots", "critics")


def show(request: PageRequest) -> Response:
    """Return the page; run the query of the address, or wait for it."""
    statement, at = request.get("sql"), request.view.version
    pending_queries, limits = request.inspector.pending_queries, request.inspector.settings.limits
    pending = pending_queries.find(at, statement)
    # A link on another site only fills in the form.
    is_held = bool(statement) and pending is None and is_cross_site(request.http_request.headers)
    if statement and not is_held:
        pending = pending_queries.start(at, statement)
        if pending.finished.wait(WAIT_SECONDS):
            pending_queries.remove(at, statement)
    is_running = pending is not None and not pending.finished.is_set()
    if is_running and request.get("poll"):
        # The query is still running: the page keeps its Cancel button.
        return Response(status_code=204)
    response = request.page(
        "sql.html",
        "SQL",
        statement=statement,
        pending=pending,
        is_running=is_running,
        is_held=is_held,
        limits=limits,
        examples=EXAMPLES,
        numeric=_NUMERIC,
        schema=request.view.cache.get("schema", lambda: _schema(request)),
    )
    if is_running and "hx-request" not in request.http_request.headers:
        # Without scripts, the browser reloads the page.
        response.headers["Refresh"] = "2"
    return response


def stop(request: PageRequest) -> Response:
    """Stop the query and return to the page."""
    statement = request.get("sql")
    pending = request.inspector.pending_queries.find(request.view.version, statement)
    if pending is not None:
        pending.statement.stop(f"cancelled after {pending.seconds:.1f} s")
        pending.finished.wait(WAIT_SECONDS)
    return RedirectResponse(request.link("/sql", sql=statement), 303)


def download(request: PageRequest) -> Response:
    """Return the rows as a CSV or JSON file; its name states if the rows are incomplete."""
    if is_cross_site(request.http_request.headers):
        raise QueryError("a link from another site cannot download rows: open the SQL page instead")
    kind = request.choice("format", ("csv", "json"), "csv")
    limits, pool = request.inspector.settings.limits, request.inspector.query_pool
    with tempfile.NamedTemporaryFile(prefix="ixt-serve-", suffix=f".{kind}", delete=False) as file:
        path = Path(file.name)
    try:
        statement = Statement(
            request.get("sql"), request.view.version, limits.download, file=str(path), format=kind
        )
        result = pool.run(statement, WAIT_SECONDS)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    suffix = f"-first-{limits.download}" if result.has_more else ""
    return FileResponse(
        path,
        media_type="text/csv; charset=utf-8" if kind == "csv" else "application/json",
        filename=f"snapshot-{request.view.version}{suffix}.{kind}",
        background=BackgroundTask(path.unlink, missing_ok=True),
    )


def _schema(request: PageRequest) -> dict[str, list[tuple[str, str]]]:
    """Return columns with their types, by view."""
    return {
        view: [
            (row["column_name"], row["column_type"])
            for row in request.view.query(f"DESCRIBE {view}")
        ]
        for view in _VIEWS
    }
