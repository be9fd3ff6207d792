"""The page of a chart of any query."""

from dataclasses import replace

from starlette.responses import Response

from ixt_data.errors import QueryError
from ixt_data.sql import distinct_names
from ixt_inspector.web.access import is_cross_site
from ixt_inspector.web.chart_files import FORMATS, chart_file
from ixt_inspector.web.document_columns import is_number
from ixt_inspector.web.query_pool import QueryRows
from ixt_inspector.web.request import PageRequest
from ixt_inspector.web.result_charts import KINDS, ChartColumns, choose_columns, result_chart
from ixt_inspector.web.sql import SqlForm, link_to, parse_form

MAX_ROWS = 5_000
"""Rows of a query that its chart shows."""
TABLE_ROWS = 50
_WAIT_SECONDS = 2.0


def show(request: PageRequest) -> Response:
    """Return the page; run the query of the address."""
    form = parse_form(request)
    # A link on another site only fills in the form.
    is_held = form.is_complete and is_cross_site(request.http_request.headers)
    rows, chosen, chart, error = None, None, None, ""
    if form.is_complete and not is_held:
        try:
            rows = _run(request, form)
            chosen = _chosen(request, rows)
            if chosen is not None:
                chart = result_chart(chosen, rows.columns, rows.types, rows.rows)
        except QueryError as problem:
            error = str(problem)
    return request.page(
        "sql_chart.html",
        "Chart of a query",
        form=form,
        address=link_to(request, form, "/sql"),
        is_held=is_held,
        error=error,
        rows=rows,
        chosen=chosen,
        chart=chart,
        kinds=KINDS,
        is_number=is_number,
        table_rows=TABLE_ROWS,
        files=_files(request, form),
    )


def download(request: PageRequest) -> Response:
    """Return the chart as a file."""
    if is_cross_site(request.http_request.headers):
        raise QueryError("a link from another site cannot download a chart: open the page instead")
    kind = request.choice("format", FORMATS, FORMATS[0])
    form = parse_form(request)
    form.check_complete()
    rows = _run(request, form)
    chosen = _chosen(request, rows)
    chart = result_chart(chosen, rows.columns, rows.types, rows.rows) if chosen else None
    if chosen is None or chart is None or chart.spec is None:
        raise QueryError("the rows of this query have no values for a chart")
    drawn = [rows.columns[number] for number in (chosen.y, chosen.x) if number is not None]
    return chart_file(chart.spec, kind, f"{KINDS[chosen.kind]} of {' by '.join(drawn)}")


def _run(request: PageRequest, form: SqlForm) -> QueryRows:
    rows = request.inspector.query_pool.run(form.query.statement(MAX_ROWS), _WAIT_SECONDS)
    return replace(rows, columns=distinct_names(rows.columns))


def _chosen(request: PageRequest, rows: QueryRows) -> ChartColumns | None:
    """Return the columns of the address, by default those that suit the types.

    Raises:
        QueryError: a column does not exist, or is not a number where the chart needs one.
    """
    default = choose_columns(rows.types)
    if default is None:
        return None
    kind = request.choice("kind", KINDS, default.kind)
    first = next(number for number, one in enumerate(rows.types) if is_number(one))
    x = _column(request, "x", rows, default.x if kind != "histogram" else first)
    assert x is not None
    if kind == "histogram":
        y, color, needed = None, None, x
    else:
        y = _column(request, "y", rows, first)
        color = _column(request, "color", rows, None)
        needed = y if y is not None else x
    if not is_number(rows.types[needed]):
        raise QueryError(
            f"{rows.columns[needed]}: {rows.types[needed]} is not a number; "
            f"choose a column of numbers for {'x' if kind == 'histogram' else 'y'}"
        )
    return ChartColumns(kind, x, y, color)


def _column(request: PageRequest, name: str, rows: QueryRows, default: int | None) -> int | None:
    text = request.get(name)
    if not text:
        return default
    request.choice(name, rows.columns, "")
    return rows.columns.index(text)


def _files(request: PageRequest, form: SqlForm) -> dict[str, str]:
    """Return the address of each kind of file."""
    chosen = {name: request.get(name) for name in ("kind", "x", "y", "color")}
    return {
        kind: link_to(request, form, "/sql/chart/file", **chosen, format=kind) for kind in FORMATS
    }
