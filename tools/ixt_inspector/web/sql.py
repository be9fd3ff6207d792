"""SQL: typed into a box, run in a process of its own, shown as a table or sent as a file."""

import tempfile
from pathlib import Path

from starlette.background import BackgroundTask
from starlette.responses import FileResponse, RedirectResponse, Response

from ixt_data.errors import QueryError
from ixt_inspector.web.access import is_from_elsewhere
from ixt_inspector.web.query_pool import Statement
from ixt_inspector.web.request import PageRequest

PATIENCE = 0.8
"""Seconds that a page waits before it says that the statement is still running."""
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
        "Longest texts of a low score",
        "SELECT doc_id, source, n_chars, score, critique\n"
        "FROM documents JOIN critiques USING (doc_id)\n"
        "WHERE score < 0.3 ORDER BY n_chars DESC LIMIT 50",
    ),
    ("Columns", "DESCRIBE critiques"),
)
_NUMERIC = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE")
_VIEWS = ("documents", "critiques", "critiques_all", "shards", "snapshots", "critics")


def show(call: PageRequest) -> Response:
    """The page: with a statement in its address it is run, or waited for."""
    statement, at = call.get("sql"), call.view.version
    jobs, bounds = call.inspector.jobs, call.inspector.settings.bounds
    job = jobs.find(at, statement)
    # A link on another site fills the box in, and no more.
    held = bool(statement) and job is None and is_from_elsewhere(call.request.headers)
    if statement and not held:
        job = jobs.begin(at, statement)
        if job.done.wait(PATIENCE):
            jobs.shown(at, statement)
    running = job is not None and not job.done.is_set()
    if running and call.get("poll"):
        # Nothing to exchange yet: the button to cancel stays where it is.
        return Response(status_code=204)
    response = call.page(
        "sql.html",
        "SQL",
        statement=statement,
        job=job,
        running=running,
        held=held,
        bounds=bounds,
        examples=EXAMPLES,
        numeric=_NUMERIC,
        schema=call.view.memo.get("schema", lambda: _schema(call)),
    )
    if running and "hx-request" not in call.request.headers:
        # Without scripts, the browser asks again by itself.
        response.headers["Refresh"] = "2"
    return response


def stop(call: PageRequest) -> Response:
    """Ends the statement, and shows the page again."""
    statement = call.get("sql")
    job = call.inspector.jobs.find(call.view.version, statement)
    if job is not None:
        job.statement.stop(f"cancelled after {job.seconds:.1f} s")
        job.done.wait(PATIENCE)
    return RedirectResponse(call.link("/sql", sql=statement), 303)


def download(call: PageRequest) -> Response:
    """The rows as a CSV or JSON file; its name says if it does not hold all of them."""
    if is_from_elsewhere(call.request.headers):
        raise QueryError("open the statement here first, and load its rows from its page")
    kind = call.choice("format", ("csv", "json"), "csv")
    bounds, workers = call.inspector.settings.bounds, call.inspector.workers
    with tempfile.NamedTemporaryFile(prefix="ixt-serve-", suffix=f".{kind}", delete=False) as file:
        path = Path(file.name)
    try:
        statement = Statement(
            call.get("sql"), call.view.version, bounds.download, file=str(path), format=kind
        )
        found = workers.run(statement, PATIENCE)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    cut = f"-first-{bounds.download}" if found.more else ""
    return FileResponse(
        path,
        media_type="text/csv; charset=utf-8" if kind == "csv" else "application/json",
        filename=f"snapshot-{call.view.version}{cut}.{kind}",
        background=BackgroundTask(path.unlink, missing_ok=True),
    )


def _schema(call: PageRequest) -> dict[str, list[tuple[str, str]]]:
    """Columns with their types, by view."""
    return {
        view: [
            (row["column_name"], row["column_type"]) for row in call.view.ask(f"DESCRIBE {view}")
        ]
        for view in _VIEWS
    }
