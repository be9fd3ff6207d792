"""One request: its parameters, its snapshot, and the page that responds to it."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property, lru_cache
from keyword import iskeyword
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, quote, urlencode

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from ixt_data.console import format_count
from ixt_data.errors import QueryError
from ixt_data.store import Store
from ixt_inspector.web.query_pool import PendingQueries, QueryLimits, QueryPool
from ixt_inspector.web.reviewers import Reviewers
from ixt_inspector.web.snapshot_cache import SnapshotView, SnapshotViews
from ixt_inspector.web.text import list_names, make_visible, shorten

HERE = Path(__file__).parent
MAX_VERSIONS = 15
"""Versions in the selector of snapshots, in addition to the tags."""
PAGES = (
    ("/", "Overview"),
    ("/documents", "Documents"),
    ("/duplicates", "Near-duplicates"),
    ("/scores", "Scores"),
    ("/charts", "Charts"),
    ("/critics", "Critics"),
    ("/mixes", "Mixes"),
    ("/draft", "Draft"),
    ("/critique-runs", "Critique runs"),
    ("/train-runs", "Train runs"),
    ("/snapshots", "Snapshots"),
    ("/sql", "SQL"),
)
_DROPPED_PARAMETERS = ("at", "after", "before")
SQL_PARAMETER = "p."
"""Start of the name of a parameter of SQL: an empty text is a value of it."""
_LISTS = ("show",)
"""Parameters that an address may contain several times."""


@dataclass(frozen=True)
class Settings:
    """The store and folders that the server shows.

    Attributes:
        store: root of the store.
        mixes: folder of mixes, if any.
        runs: folder of run folders of train runs, if any.
        limits: limits of a user's query.
        write_token: secret that signs the names of people who label; None: the server only reads.
    """

    store: str
    mixes: Path | None = None
    runs: Path | None = None
    limits: QueryLimits = field(default_factory=QueryLimits)
    write_token: str | None = field(default=None, repr=False)


class Inspector:
    """The state of the server: the open snapshots and the processes for SQL."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.views = SnapshotViews(Store.open(settings.store))
        self.query_pool = QueryPool(self.views.store.root, settings.limits)
        self.pending_queries = PendingQueries(self.query_pool)
        self.reviewers = Reviewers(settings.write_token) if settings.write_token else None

    def close(self) -> None:
        """End the processes."""
        self.query_pool.close()


class PageRequest:
    """One request, as the functions of pages receive it."""

    def __init__(self, http_request: Request, inspector: Inspector, body: bytes = b"") -> None:
        self.http_request, self.inspector = http_request, inspector
        self.form = dict(parse_qsl(body.decode(errors="replace"), keep_blank_values=True))
        parameters = http_request.query_params
        self.query: dict[str, Any] = dict(parameters)
        self.query |= {name: parameters.getlist(name) for name in _LISTS if name in parameters}
        self.path = http_request.url.path

    @property
    def at(self) -> str:
        """Return the version or tag of the address; empty for the latest."""
        at: str = self.query.get("at", "")
        return at

    @cached_property
    def view(self) -> SnapshotView:
        """Return the snapshot of the page."""
        return self.inspector.views.at(self.at)

    def get(self, name: str, default: str = "") -> str:
        """Return a parameter of the address."""
        value: str = self.query.get(name, default)
        return value.strip()

    def all_of(self, name: str) -> list[str]:
        """Return all values of a parameter that an address may contain several times."""
        values: list[str] = self.query.get(name, [])
        return values

    def starting(self, prefix: str) -> dict[str, str]:
        """Return the parameters whose names have a prefix, by the rest of the name."""
        return {
            name.removeprefix(prefix): value
            for name, value in self.query.items()
            if name.startswith(prefix)
        }

    def fields(self, *dropped: str) -> list[tuple[str, str]]:
        """Return names and values of the address, without some, for the fields of a form."""
        pairs = ((k, v) for k, v in self.query.items() if k not in dropped)
        return [
            (name, one)
            for name, value in pairs
            for one in (value if isinstance(value, list) else [value])
        ]

    def number(self, name: str) -> float | None:
        """Return a number of the address; None if it is missing.

        Raises:
            QueryError: the value is not a finite number.
        """
        text = self.get(name)
        try:
            value = float(text) if text else None
        except ValueError:
            value = float("nan")
        if value is not None and not abs(value) < float("inf"):
            raise QueryError(f"{name}: {text!r} is not a number such as 0.5")
        return value

    def integer(self, name: str) -> int | None:
        """Return a whole number of the address; None if it is missing.

        Raises:
            QueryError: the value is not a whole number.
        """
        value, text = self.number(name), self.get(name)
        if value is None:
            return None
        if not value.is_integer():
            raise QueryError(f"{name}: {text!r} is not a whole number")
        # A float does not hold each integer of more than 53 bits.
        return int(text) if text.lstrip("+-").isdecimal() else int(value)

    def choice(self, name: str, valid: Iterable[str], default: str) -> str:
        """Return a parameter that has one of some values.

        Raises:
            QueryError: it has another value.
        """
        text, valid = self.get(name) or default, list(valid)
        if text != default and text not in valid:
            raise QueryError(
                f"{name}: {shorten(text)!r} does not exist; valid: {list_names(valid)}"
            )
        return text

    def link(self, path: str | None = None, /, **changes: Any) -> str:
        """Return the address of a page of this snapshot, by default of this page with changes."""
        values = dict(self.query) if path is None else {"at": self.at}
        values |= {_parameter(name): value for name, value in changes.items()}
        shown = {
            name: value
            for name, value in values.items()
            if value is not None and (value != "" or name.startswith(SQL_PARAMETER))
        }
        return quote(path or self.path) + (f"?{urlencode(shown, doseq=True)}" if shown else "")

    def page(self, template: str, title: str, status: int = 200, **values: Any) -> Response:
        """Return a page with the common frame."""
        text = (
            templates()
            .get_template(template)
            .render(title=title, request=self, frame=self._frame(), **values)
        )
        return HTMLResponse(text, status)

    def _frame(self) -> dict[str, Any]:
        """Return the content of the frame around every page."""
        views = self.inspector.views
        latest = views.latest()
        versions = range(latest.version, max(-1, latest.version - MAX_VERSIONS), -1)
        tags = views.tags()
        return {
            "pages": PAGES,
            "store": self.inspector.settings.store,
            "is_writable": self.inspector.reviewers is not None,
            "latest": latest.version,
            "behind": views.head - latest.version,
            "tags": tags,
            "versions": versions,
            "other": self.at
            if self.at and self.at not in tags and self.at not in map(str, versions)
            else None,
            "hidden": self.fields(*_DROPPED_PARAMETERS),
        }


def _parameter(name: str) -> str:
    """Return the parameter of a keyword argument: `in` of `in_`."""
    return name[:-1] if name.endswith("_") and iskeyword(name[:-1]) else name


@lru_cache(maxsize=1)
def templates() -> jinja2.Environment:
    """Return the templates; values are escaped, and their hidden characters are made visible."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(HERE / "templates"),
        autoescape=True,
        finalize=lambda value: make_visible(value) if type(value) is str else value,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    # JSON has no NaN and no Infinity: a browser refuses the whole text.
    environment.policies["json.dumps_kwargs"] = {"sort_keys": True, "allow_nan": False}
    environment.filters |= {
        "count": lambda n: "–" if n is None else f"{n:,}",
        "counted": format_count,
        "amount": format_amount,
        "size": format_size,
        "score": lambda n: "–" if n is None else f"{n:.2f}",
        "share": lambda n: "–" if n is None else f"{n:.1%}",
        "number": format_number,
        "figure": lambda n: "–" if n is None else f"{n:.4g}",
        "span": format_seconds,
        "when": format_time,
    }
    return environment


def format_number(n: Any) -> str:
    """Return a number of any type; integers are complete, others have six digits."""
    if n is None:
        return "–"
    return f"{n:,}" if isinstance(n, int) else f"{n:.6g}"


def format_amount(n: float | None) -> str:
    """Return a short number: 1,234,567 as 1.23M."""
    if n is None:
        return "–"
    for bound, letter in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e4, "k")):
        if abs(n) >= bound:
            unit = 1e3 if letter == "k" else bound
            return f"{n / unit:.3g}{letter}"
    return f"{n:,.0f}"


def format_size(n: float) -> str:
    """Return bytes with a unit."""
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if n < 1000 or unit == "TB":
            return f"{n:.3g} {unit}"
        n /= 1000
    raise AssertionError


def format_seconds(seconds: float) -> str:
    """Return seconds with a unit."""
    for bound, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= bound:
            return f"{seconds / bound:.1f} {unit}"
    if seconds < 0.95:
        return f"{1000 * seconds:.0f} ms"
    return f"{seconds:.1f} s" if seconds < 10 else f"{seconds:.0f} s"


def format_time(moment: str | datetime | None) -> str:
    """Return a time in UTC to the second; empty if it is unknown."""
    if isinstance(moment, str):
        moment = datetime.fromisoformat(moment) if moment else None
    return f"{moment:%Y-%m-%d %H:%M:%S}" if moment is not None else ""


def group_rows(rows: Iterable[Mapping[str, Any]], key: str) -> dict[Any, list[Mapping[str, Any]]]:
    """Return rows by the value of one column."""
    groups: dict[Any, list[Mapping[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row[key], []).append(row)
    return groups
