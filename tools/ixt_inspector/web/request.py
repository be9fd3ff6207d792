"""One request: what it asks, the snapshot it is about, and the page that answers it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlencode

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from ixt_data.errors import QueryError
from ixt_data.store import Store
from ixt_inspector.web.query_pool import Jobs, QueryLimits, Workers
from ixt_inspector.web.snapshot_cache import SnapshotView, SnapshotViews
from ixt_inspector.web.text import visible

HERE = Path(__file__).parent
RECENT = 15
"""Versions, beside the tags, that the selector of snapshots offers."""
PAGES = (
    ("/", "Overview"),
    ("/documents", "Documents"),
    ("/scores", "Scores"),
    ("/critics", "Critics"),
    ("/mixes", "Mixes"),
    ("/critique-runs", "Critique runs"),
    ("/train-runs", "Train runs"),
    ("/snapshots", "Snapshots"),
    ("/sql", "SQL"),
)
_NOT_KEPT = ("at", "after", "before")


@dataclass(frozen=True)
class Settings:
    """What the server shows.

    Attributes:
        store: root of the store.
        mixes: folder of mixes, if any.
        runs: folder of run folders of train runs, if any.
        bounds: of what a user types.
    """

    store: str
    mixes: Path | None = None
    runs: Path | None = None
    bounds: QueryLimits = field(default_factory=QueryLimits)


class Inspector:
    """What lives as long as the server: the open snapshots, and the processes for SQL."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.views = SnapshotViews(Store.open(settings.store))
        self.workers = Workers(self.views.store.root, settings.bounds)
        self.jobs = Jobs(self.workers)

    def close(self) -> None:
        """Ends the processes."""
        self.workers.close()


class PageRequest:
    """One request, for the functions that answer."""

    def __init__(self, request: Request, inspector: Inspector) -> None:
        self.request, self.inspector = request, inspector
        self.query = dict(request.query_params)
        self.path = request.url.path

    @property
    def at(self) -> str:
        """Version or tag, as the address has it; empty for the newest."""
        return self.query.get("at", "")

    @cached_property
    def view(self) -> SnapshotView:
        """The snapshot that the page is about."""
        return self.inspector.views.at(self.at)

    def get(self, name: str, default: str = "") -> str:
        """A value of the address."""
        return self.query.get(name, default).strip()

    def number(self, name: str) -> float | None:
        """A number of the address, None if it is not given.

        Raises:
            QueryError: it is none.
        """
        text = self.get(name)
        try:
            value = float(text) if text else None
        except ValueError:
            value = float("nan")
        if value is not None and not abs(value) < float("inf"):
            raise QueryError(f"{name}: {text!r} is no number, as 0.5 is")
        return value

    def choice(self, name: str, valid: Iterable[str], default: str) -> str:
        """A value of the address that is one of some.

        Raises:
            QueryError: it is none of them.
        """
        text, valid = self.get(name) or default, list(valid)
        if text != default and text not in valid:
            raise QueryError(f"{name}: {text!r} is not there; valid: {', '.join(valid) or 'none'}")
        return text

    def link(self, path: str | None = None, /, **changes: Any) -> str:
        """The address of a page of this snapshot; without a path this page, with some changes."""
        values = dict(self.query) if path is None else {"at": self.at}
        values |= {name.rstrip("_"): value for name, value in changes.items()}
        kept = {name: value for name, value in values.items() if value not in (None, "")}
        return quote(path or self.path) + (f"?{urlencode(kept)}" if kept else "")

    def page(self, template: str, title: str, status: int = 200, **values: Any) -> Response:
        """A page with the frame that all have."""
        text = (
            templates()
            .get_template(template)
            .render(title=title, call=self, frame=self._frame(), **values)
        )
        return HTMLResponse(text, status)

    def _frame(self) -> dict[str, Any]:
        """What the frame around every page shows."""
        views = self.inspector.views
        newest = views.newest()
        versions = range(newest.version, max(-1, newest.version - RECENT), -1)
        tags = views.tags()
        return {
            "pages": PAGES,
            "store": self.inspector.settings.store,
            "newest": newest.version,
            "behind": views.head - newest.version,
            "tags": tags,
            "versions": versions,
            "other": self.at
            if self.at and self.at not in tags and self.at not in map(str, versions)
            else None,
            "hidden": {k: v for k, v in self.query.items() if k not in _NOT_KEPT},
        }


@lru_cache(maxsize=1)
def templates() -> jinja2.Environment:
    """The templates: everything that is not ours is escaped, and hostile characters are shown."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "count": lambda n: "–" if n is None else f"{n:,}",
        "amount": amount,
        "size": size,
        "score": lambda n: "–" if n is None else f"{n:.2f}",
        "share": lambda n: "–" if n is None else f"{n:.1%}",
        "figure": lambda n: "–" if n is None else f"{n:.4g}",
        "span": span,
        "when": when,
    }
    return environment


def amount(n: float | None) -> str:
    """1,234,567 as 1.23M."""
    if n is None:
        return "–"
    for bound, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(n) >= bound:
            unit = 1e3 if letter == "k" else bound
            return f"{n / unit:.3g}{letter}"
    return f"{n:,.0f}"


def size(n: float) -> str:
    """Bytes, for people."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n < 1000 or unit == "TB":
            return f"{n:.3g} {unit}"
        n /= 1000
    raise AssertionError


def span(seconds: float) -> str:
    """Seconds, for people."""
    for bound, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= bound:
            return f"{seconds / bound:.1f} {unit}"
    if seconds < 0.95:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def when(moment: str | datetime | None) -> str:
    """A moment in UTC to the second; empty if it is not known."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment) if moment else None
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment is not None else ""


def rows_by(rows: Iterable[Mapping[str, Any]], key: str) -> dict[Any, list[Mapping[str, Any]]]:
    """Rows by the value of one column."""
    found: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        found.setdefault(row[key], []).append(row)
    return found
