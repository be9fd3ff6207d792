"""The application: the handler of each address, and the pages of errors."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from ixt_data.errors import CorruptError, IxtError, SnapshotError
from ixt_inspector.web import (
    charts_page,
    critics,
    critique_runs,
    document,
    documents,
    drafts,
    duplicates,
    mixes,
    overview,
    scores,
    snapshots,
    sql,
    sql_chart,
    train_runs,
)
from ixt_inspector.web.access import AccessGuard, AccessPolicy
from ixt_inspector.web.query_pool import TooManyQueries
from ixt_inspector.web.request import HERE, Inspector, PageRequest

Handler = Callable[[PageRequest], Response]


def build_app(inspector: Inspector, access: AccessPolicy) -> ASGIApp:
    """Return the application with access control."""

    def page(path: str, handler: Handler, method: str = "GET") -> Route:
        async def respond(request: Request) -> Response:
            body = await request.body() if method == "POST" else b""
            return await run_in_threadpool(_handle, handler, PageRequest(request, inspector, body))

        return Route(path, respond, methods=[method])

    async def handle_http_error(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        message = "This page does not exist." if status == 404 else "This page does not allow that."
        return await run_in_threadpool(
            _error_page, PageRequest(request, inspector), status, message
        )

    async def handle_failure(request: Request, error: Exception) -> Response:
        message = f"The inspector failed: {type(error).__name__}. Its log has the details."
        return await run_in_threadpool(_error_page, PageRequest(request, inspector), 500, message)

    @asynccontextmanager
    async def lifespan(_: Starlette) -> AsyncIterator[None]:
        yield
        inspector.close()

    routes = [
        page("/", overview.show),
        page("/documents", documents.show),
        page("/documents/{doc_id}", document.show),
        page("/documents/{doc_id}/text", document.download),
        page("/documents/{doc_id}/label", document.save_label, "POST"),
        page("/selections", documents.save, "POST"),
        page("/duplicates", duplicates.show),
        page("/duplicates/difference", duplicates.show_difference),
        page("/scores", scores.show),
        page("/charts", charts_page.show),
        page("/critics", critics.show),
        page("/draft", drafts.show),
        page("/draft/download", drafts.download),
        page("/mixes", mixes.show_all),
        page("/mixes/{name}", mixes.show),
        page("/critique-runs", critique_runs.show),
        page("/train-runs", train_runs.show),
        page("/snapshots", snapshots.show),
        page("/snapshots/diff", snapshots.show_diff),
        page("/sql", sql.show),
        page("/sql/download", sql.download),
        page("/sql/chart", sql_chart.show),
        page("/sql/chart/file", sql_chart.download),
        page("/sql/stop", sql.stop, "POST"),
        page("/queries", sql.save, "POST"),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]
    handlers = {HTTPException: handle_http_error, Exception: handle_failure}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=lifespan)
    return AccessGuard(app, access)


def _handle(handler: Handler, request: PageRequest) -> Response:
    try:
        return handler(request)
    except SnapshotError as error:
        return _error_page(request, 404, str(error))
    except CorruptError as error:
        return _error_page(request, 500, str(error))
    except TooManyQueries as error:
        return _error_page(request, 503, str(error))
    except IxtError as error:
        return _error_page(request, 400, str(error))


def _error_page(request: PageRequest, status: int, message: str) -> Response:
    # The frame of the page must not need the snapshot that does not exist.
    request.query.pop("at", None) if status == 404 else None
    title = {404: "Not found", 503: "Busy", 400: "Not valid"}.get(status, "Failed")
    return request.page("error.html", title, status, message=message)
