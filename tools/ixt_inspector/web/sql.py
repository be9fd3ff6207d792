"""The SQL page: a user's query runs in a separate process; rows are shown, sorted or downloaded.

A query is typed, saved in the store, or a recipe of the cookbook. The address contains all of it.
"""

import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.background import BackgroundTask
from starlette.responses import FileResponse, RedirectResponse, Response

from ixt_data.errors import QueryError
from ixt_data.sql import VIEWS, QueryOutput, find_recipe, parameter_names, read_recipes
from ixt_data.store import save_query, saved_query
from ixt_inspector.web.access import is_cross_site
from ixt_inspector.web.forms import check_form
from ixt_inspector.web.query_pool import PageQuery
from ixt_inspector.web.request import PageRequest

WAIT_SECONDS = 0.8
"""Time that a page waits for a result before it shows that the query is running."""
FORMATS = {
    QueryOutput.csv: "text/csv; charset=utf-8",
    QueryOutput.tsv: "text/tab-separated-values; charset=utf-8",
    QueryOutput.json: "application/json",
    QueryOutput.jsonl: "application/jsonl",
    QueryOutput.markdown: "text/markdown; charset=utf-8",
    QueryOutput.parquet: "application/vnd.apache.parquet",
}
"""Media type of each format of a file."""
_NUMERIC = ("TINYINT", "SMALLINT", "INTEGER", "BIGINT", "HUGEINT", "FLOAT", "DOUBLE")


@dataclass(frozen=True, slots=True)
class SqlForm:
    """The query of an address.

    Attributes:
        sql: the statement as it is shown; empty without one.
        at: version of the snapshot.
        parameters: values of its parameters, as typed; empty if not given.
        needs_before: whether it reads the schema `before`.
        before: version of that schema.
        sort: number of the column to sort by, from 1; None: in the order of the query.
        is_ascending: whether the lowest value comes first.
    """

    sql: str
    at: int
    parameters: dict[str, str]
    needs_before: bool
    before: int | None
    sort: int | None
    is_ascending: bool

    @property
    def is_complete(self) -> bool:
        """Return whether the statement can run: all parameters have a value."""
        has_before = self.before is not None or not self.needs_before
        return bool(self.sql) and has_before and all(self.parameters.values())

    @property
    def query(self) -> PageQuery:
        """Return the query to run."""
        sql = self.sql
        if self.sort is not None:
            direction = "ASC" if self.is_ascending else "DESC"
            inner = sql.rstrip().removesuffix(";")
            sql = f"FROM (\n{inner}\n) AS result ORDER BY {self.sort} {direction} NULLS LAST"
        return PageQuery(sql, self.at, tuple(self.parameters.items()), self.before)

    @property
    def command(self) -> str:
        """Return the command that writes the rows to a file."""
        words = ["ixt", "query", self.query.sql, "--at", str(self.at)]
        words += ["--before", str(self.before)] if self.before is not None else []
        for name, value in self.parameters.items():
            words += ["-p", f"{name}={value}"]
        return shlex.join([*words, "--to", "rows.parquet"])

    @property
    def python(self) -> str:
        """Return the Python line that runs it; there is none for two snapshots."""
        if self.before is not None:
            return ""
        values = self.query.statement(0).values
        parameters = f", parameters={values!r}" if values else ""
        return f"store.sql({self.query.sql!r}, at={self.at}{parameters})"


def parse_form(request: PageRequest) -> SqlForm:
    """Return the query of an address.

    Raises:
        QueryError: a saved query, a recipe or a value in the address does not exist.
        SnapshotError: `before` does not exist.
    """
    sql = request.get("sql").replace("\r\n", "\n")
    if not sql and (name := request.get("saved")):
        root = request.inspector.settings.store
        sql = saved_query(request.view.snapshot, name, root).sql
    elif not sql and (name := request.get("recipe")):
        sql = find_recipe(name).sql
    before, sort = request.get("before"), request.number("sort")
    return SqlForm(
        sql,
        request.view.version,
        {name: request.get(f"p.{name}") for name in parameter_names(sql)},
        "before." in sql,
        request.inspector.views.version_of(before) if before else None,
        int(sort) if sort else None,
        request.choice("order", ("up", "down"), "down") == "up",
    )


def show(request: PageRequest) -> Response:
    """Return the page; run the query of the address, or wait for it."""
    form, limits = parse_form(request), request.inspector.settings.limits
    pending_queries = request.inspector.pending_queries
    pending = pending_queries.find(form.query) if form.is_complete else None
    # A link on another site only fills in the form.
    is_held = form.is_complete and pending is None and is_cross_site(request.http_request.headers)
    if form.is_complete and not is_held:
        pending = pending_queries.start(form.query)
        if pending.finished.wait(WAIT_SECONDS):
            pending_queries.remove(form.query)
    is_running = pending is not None and not pending.finished.is_set()
    if is_running and request.get("poll"):
        # The query is still running: the page keeps its Cancel button.
        return Response(status_code=204)
    reviewers = request.inspector.reviewers
    is_writable = reviewers is not None and not request.at
    schema = request.view.cache.get("schema", lambda: _schema(request))
    response = request.page(
        "sql.html",
        "SQL",
        form=form,
        pending=pending,
        is_running=is_running,
        is_held=is_held,
        limits=limits,
        recipes=read_recipes().values(),
        saved=list(request.view.snapshot.queries.values()),
        named=_name(request, form.sql),
        link_of=lambda path, **changes: link_to(request, form, path, **changes),
        formats=[str(one) for one in FORMATS],
        numeric=_NUMERIC,
        schema=schema,
        names=_completions(request, schema),
        csrf=reviewers.sign(_signed(form.sql)) if reviewers and is_writable else None,
    )
    if is_running and "hx-request" not in request.http_request.headers:
        # Without scripts, the browser reloads the page.
        response.headers["Refresh"] = "2"
    return response


def stop(request: PageRequest) -> Response:
    """Stop the query and return to the page."""
    form = parse_form(request)
    pending = request.inspector.pending_queries.find(form.query)
    if pending is not None:
        pending.statement.stop(f"cancelled after {pending.seconds:.1f} s")
        pending.finished.wait(WAIT_SECONDS)
    return RedirectResponse(link_to(request, form, "/sql"), 303)


def download(request: PageRequest) -> Response:
    """Return the rows as a file; its name states if the rows are incomplete."""
    if is_cross_site(request.http_request.headers):
        raise QueryError("a link from another site cannot download rows: open the SQL page instead")
    kind = QueryOutput(request.choice("format", FORMATS, QueryOutput.csv))
    form = parse_form(request)
    limits, pool = request.inspector.settings.limits, request.inspector.query_pool
    with tempfile.NamedTemporaryFile(prefix="ixt-serve-", suffix=f".{kind}", delete=False) as file:
        path = Path(file.name)
    try:
        statement = form.query.statement(limits.download, file=str(path), format=kind)
        result = pool.run(statement, WAIT_SECONDS)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    suffix = f"-first-{limits.download}" if result.has_more else ""
    return FileResponse(
        path,
        media_type=FORMATS[kind],
        filename=f"snapshot-{request.view.version}{suffix}.{kind}",
        background=BackgroundTask(path.unlink, missing_ok=True),
    )


def save(request: PageRequest) -> Response:
    """Save the statement of the form as a query, and open it.

    Raises:
        ConfigError: the server does not write, or the form is not of this page.
        StoreError: the name is not valid.
        QueryError: the statement is not a read-only one.
    """
    sql = request.form.get("sql", "").replace("\r\n", "\n")
    check_form(request, _signed(sql))
    name, note = (request.form.get(key, "").strip() for key in ("name", "note"))
    save_query(request.inspector.views.store, name, sql, note=note)
    request.inspector.views.refresh()
    # Not by its name: a slow machine shows the previous snapshot while it opens the latest.
    return RedirectResponse(request.link("/sql", sql=sql), 303)


def _signed(sql: str) -> str:
    return f"query {sql}"


def _name(request: PageRequest, sql: str) -> tuple[str, str, str] | None:
    """Return the parameter, name and question of a saved query or a recipe with this statement."""
    for one in request.view.snapshot.queries.values():
        if one.sql == sql:
            return "saved", one.name, one.note
    for recipe in read_recipes().values():
        if recipe.sql == sql:
            return "recipe", recipe.name, recipe.question
    return None


def link_to(request: PageRequest, form: SqlForm, path: str, **changes: Any) -> str:
    """Return the address of the query, by its name if it has one."""
    named = _name(request, form.sql)
    values: dict[str, Any] = {named[0]: named[1]} if named else {"sql": form.sql}
    values |= {f"p.{name}": value for name, value in form.parameters.items()}
    values |= {"before": request.get("before"), "sort": form.sort}
    values["order"] = "up" if form.is_ascending else None
    return request.link(path, **{**values, **changes})


def _completions(
    request: PageRequest, schema: dict[str, list[tuple[str, str]]]
) -> dict[str, list[str]]:
    """Return the columns by view that the editor completes, saved selections included."""
    names = {view: [name for name, _ in columns] for view, columns in schema.items()}
    selected = {f"selected.{name}": names["documents"] for name in request.view.snapshot.selections}
    return names | selected


def _schema(request: PageRequest) -> dict[str, list[tuple[str, str]]]:
    """Return columns with their types, by view."""
    return {
        view: [
            (row["column_name"], row["column_type"])
            for row in request.view.query(f"DESCRIBE {view}")
        ]
        for view in VIEWS
    }
