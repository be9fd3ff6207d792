"""The SQL page: a user's query runs in a separate process; rows are shown, sorted or downloaded.

A query is typed, saved in the store, or a recipe of the cookbook. The address contains all of it.
"""

import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
from starlette.background import BackgroundTask
from starlette.responses import FileResponse, RedirectResponse, Response

from ixt_data.errors import ConfigError, CorruptError, QueryError, StoreError
from ixt_data.sql import VIEWS, QueryOutput, find_recipe, parameter_names, read_recipes
from ixt_data.store import Store, query_history, save_query, saved_query
from ixt_inspector.web.access import is_cross_site
from ixt_inspector.web.forms import check_form
from ixt_inspector.web.query_pool import PageQuery, PendingQuery
from ixt_inspector.web.request import SQL_PARAMETER, PageRequest

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
        parameters: values of its parameters, as typed; None if not given.
        needs_before: whether it reads the schema `before`.
        before: version of that schema.
        sort: number of the column to sort by, from 1; None: in the order of the query.
        is_ascending: whether the lowest value comes first.
        store: root of the store.
    """

    sql: str
    at: int
    parameters: dict[str, str | None]
    needs_before: bool
    before: int | None
    sort: int | None
    is_ascending: bool
    store: str

    @property
    def missing(self) -> list[str]:
        """Return the names of the parameters that have no value, and `before` without one."""
        missing = [f"${name}" for name, value in self.parameters.items() if value is None]
        return missing + (["before"] if self.needs_before and self.before is None else [])

    @property
    def is_complete(self) -> bool:
        """Return whether the statement can run: all parameters have a value."""
        return bool(self.sql) and not self.missing

    def check_complete(self) -> None:
        """Check that the statement can run.

        Raises:
            QueryError: the address has no statement, or values are missing.
        """
        if not self.sql:
            raise QueryError("sql: missing; write SQL such as SELECT count(*) FROM documents")
        if self.missing:
            raise QueryError(f"values are missing: {', '.join(self.missing)}")

    @property
    def query(self) -> PageQuery:
        """Return the query to run."""
        values = tuple((name, text) for name, text in self.parameters.items() if text is not None)
        if self.sort is None:
            return PageQuery(self.sql, self.at, values, self.before)
        direction, inner = "ASC" if self.is_ascending else "DESC", _without_end(self.sql)
        sql = f"FROM (\n{inner}\n) AS result ORDER BY {self.sort} {direction} NULLS LAST"
        return PageQuery(sql, self.at, values, self.before, inner, self.sort)

    @property
    def command(self) -> str:
        """Return the command that writes the rows to a file."""
        words = ["ixt", "query", "--store", self.store, self.query.sql, "--at", str(self.at)]
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
        QueryError: a recipe or a value in the address does not exist.
        SnapshotError: `before` does not exist.
        StoreError: a saved query does not exist in this snapshot.
    """
    store = request.inspector.settings.store
    sql = request.get("sql").replace("\r\n", "\n")
    if not sql and (name := request.get("saved")):
        sql = saved_query(request.view.snapshot, name, store).sql
    elif not sql and (name := request.get("recipe")):
        sql = find_recipe(name).sql
    before, sort = request.get("before"), request.integer("sort")
    if sort is not None and sort < 1:
        raise QueryError(f"sort: column {sort} does not exist; the first column is 1")
    return SqlForm(
        sql,
        request.view.version,
        {name: _value(request, name) for name in parameter_names(sql)},
        "before." in sql,
        request.inspector.views.version_of(before) if before else None,
        sort,
        request.choice("order", ("up", "down"), "down") == "up",
        store,
    )


def _value(request: PageRequest, name: str) -> str | None:
    parameter = f"{SQL_PARAMETER}{name}"
    return request.get(parameter) if parameter in request.query else None


def _without_end(sql: str) -> str:
    """Return a statement without the semicolons and comments after it."""
    encoded = sql.encode()
    tokens = duckdb.tokenize(sql)
    end = len(encoded)
    for start, kind in reversed(tokens):
        if kind != duckdb.token_type.comment and encoded[start:end].strip() != b";":
            break
        end = start
    return encoded[:end].decode().rstrip()


def show(request: PageRequest) -> Response:
    """Return the page; run the query of the address, or wait for it."""
    try:
        form = parse_form(request)
    except StoreError:
        not_saved = _not_saved(request)
        if not not_saved:
            raise
        name = request.query.pop("saved")
        form = parse_form(request)
        # The selector of snapshots keeps it.
        request.query["saved"] = name
        return _page(request, form, not_saved=not_saved)
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
    response = _page(request, form, pending, is_running=is_running, is_held=is_held)
    if is_running and "hx-request" not in request.http_request.headers:
        # Without scripts, the browser reloads the page.
        response.headers["Refresh"] = "2"
    return response


def _page(
    request: PageRequest,
    form: SqlForm,
    pending: PendingQuery | None = None,
    *,
    is_running: bool = False,
    is_held: bool = False,
    not_saved: str = "",
    form_error: str = "",
) -> Response:
    """Return the page.

    Args:
        request: the request.
        form: the query.
        pending: its run, if any.
        is_running: whether it still runs.
        is_held: whether it was not run, because it came from another site.
        not_saved: why the snapshot does not have the saved query of the address.
        form_error: why the query was not saved.
    """
    reviewers = request.inspector.reviewers
    is_writable = reviewers is not None and not request.at
    schema = request.view.cache.get("schema", lambda: _schema(request))
    return request.page(
        "sql.html",
        "SQL",
        400 if form_error else 200,
        form=form,
        pending=pending,
        is_running=is_running,
        is_held=is_held,
        not_saved=not_saved,
        form_error=form_error,
        limits=request.inspector.settings.limits,
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


def _not_saved(request: PageRequest) -> str:
    """Return why the snapshot does not have the saved query; empty if no snapshot has it."""
    name, version = request.get("saved"), request.view.version
    if request.get("sql") or name in request.view.snapshot.queries:
        return ""
    # A log of its own: other requests use the shared one at the same time.
    history = list(query_history(Store.open(request.inspector.views.store.root), name))
    first = next((one.version for one in history if one.query is not None), None)
    if first is None:
        return ""
    if version < first:
        reason = f"version {first} saved it first"
    else:
        dropped = max(one.version for one in history if one.version <= version)
        reason = f"version {dropped} dropped it"
    return f"Query {name} is not saved in snapshot {version}: {reason}."


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
    form.check_complete()
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

    A form that is not valid is shown again, with the error.
    """
    sql = request.form.get("sql", "").replace("\r\n", "\n")
    try:
        check_form(request, _signed(sql))
        name, note = (request.form.get(key, "").strip() for key in ("name", "note"))
        save_query(request.inspector.views.store, name, sql, note=note)
    except (ConfigError, StoreError, QueryError) as error:
        if request.inspector.reviewers is None or request.at or isinstance(error, CorruptError):
            raise
        request.path = "/sql"
        request.query["sql"] = sql
        return _page(request, parse_form(request), form_error=str(error))
    request.inspector.views.refresh()
    # Not by its name: a slow machine shows the previous snapshot while it opens the latest.
    return RedirectResponse(request.link("/sql", sql=sql), 303)


def _signed(sql: str) -> str:
    return f"query {sql}"


def _name(request: PageRequest, sql: str) -> tuple[str, str, str] | None:
    """Return the parameter, name and question of a saved query or a recipe with this statement."""
    saved = request.view.snapshot.queries.values()
    names = [
        *(("saved", one.name, one.note) for one in saved if one.sql == sql),
        *(("recipe", one.name, one.question) for one in read_recipes().values() if one.sql == sql),
    ]
    # Several names may have the same statement: that of the address comes first.
    return next((one for one in names if request.get(one[0]) == one[1]), next(iter(names), None))


def link_to(request: PageRequest, form: SqlForm, path: str, **changes: Any) -> str:
    """Return the address of the query, by its name if it has one."""
    named = _name(request, form.sql)
    values: dict[str, Any] = {named[0]: named[1]} if named else {"sql": form.sql}
    values |= {f"{SQL_PARAMETER}{name}": value for name, value in form.parameters.items()}
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
