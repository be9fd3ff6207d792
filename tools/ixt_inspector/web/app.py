"""The application: which function answers which address, and how errors look."""

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
    critics,
    critique_runs,
    document,
    documents,
    mixes,
    overview,
    scores,
    snapshots,
    sql,
    train_runs,
)
from ixt_inspector.web.access import AccessGuard, AccessPolicy
from ixt_inspector.web.query_pool import TooManyQueries
from ixt_inspector.web.request import HERE, Inspector, PageRequest

Handler = Callable[[PageRequest], Response]


def build(inspector: Inspector, access: AccessPolicy) -> ASGIApp:
    """The application behind its guard."""

    def page(path: str, answer: Handler, method: str = "GET") -> Route:
        async def respond(request: Request) -> Response:
            return await run_in_threadpool(_answered, answer, PageRequest(request, inspector))

        return Route(path, respond, methods=[method])

    async def not_there(request: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        what = "There is no such page." if status == 404 else "That cannot be done here."
        return await run_in_threadpool(_failed, PageRequest(request, inspector), status, what)

    async def broken(request: Request, error: Exception) -> Response:
        what = f"The inspector failed: {type(error).__name__}. Its log has the details."
        return await run_in_threadpool(_failed, PageRequest(request, inspector), 500, what)

    @asynccontextmanager
    async def life(_: Starlette) -> AsyncIterator[None]:
        yield
        inspector.close()

    routes = [
        page("/", overview.show),
        page("/documents", documents.show),
        page("/documents/{doc_id}", document.show),
        page("/documents/{doc_id}/text", document.download),
        page("/scores", scores.show),
        page("/critics", critics.show),
        page("/mixes", mixes.show_all),
        page("/mixes/{name}", mixes.show),
        page("/critique-runs", critique_runs.show),
        page("/train-runs", train_runs.show),
        page("/snapshots", snapshots.show),
        page("/snapshots/diff", snapshots.show_diff),
        page("/sql", sql.show),
        page("/sql/download", sql.download),
        page("/sql/stop", sql.stop, "POST"),
        Mount("/static", StaticFiles(directory=HERE / "static")),
    ]
    handlers = {HTTPException: not_there, Exception: broken}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=life)
    return AccessGuard(app, access)


def _answered(answer: Handler, call: PageRequest) -> Response:
    try:
        return answer(call)
    except SnapshotError as error:
        return _failed(call, 404, str(error))
    except CorruptError as error:
        return _failed(call, 500, str(error))
    except TooManyQueries as error:
        return _failed(call, 503, str(error))
    except IxtError as error:
        return _failed(call, 400, str(error))


def _failed(call: PageRequest, status: int, message: str) -> Response:
    # The page around the message must not need what has just failed.
    call.query.pop("at", None) if status == 404 else None
    title = {404: "Not found", 503: "Busy", 400: "That cannot be shown"}.get(status, "Failed")
    return call.page("error.html", title, status, message=message)
