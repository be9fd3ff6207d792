"""The pages of mixes: the plan of each mix, and a preview of other weights."""

from functools import partial
from pathlib import Path
from typing import Any

from starlette.responses import Response

from ixt_data.config import validate
from ixt_data.errors import IxtError, SnapshotError
from ixt_data.mix import Matches, Mix, Scope, load_mix, plan_mix, resolve_selections
from ixt_data.store import Store
from ixt_inspector.web.request import PageRequest, format_amount
from ixt_inspector.web.snapshot_cache import ResultCache

MAX_SAMPLES = 50_000_000
_matches = ResultCache(64)
"""Matches of predicates by snapshot; other weights do not change them."""


class CachedScope(Scope):
    """A scope that caches the matches of predicates."""

    def __init__(self, store: Store, mix: Mix, holdout: float = 0.0) -> None:
        super().__init__(store, mix, holdout)
        self._key = (store.root, self.snapshot.version, mix.corpus, holdout)

    def find(self, name: str, where: str, value: str | None, critic: str | None) -> Matches:
        """See `Scope.find`."""
        find = partial(super().find, name, where, value, critic)
        return _matches.get((*self._key, where, value, critic), find)


def show_all(request: PageRequest) -> Response:
    """Return the page of the mixes in the folder."""
    rows = []
    for name, path in mix_files(request).items():
        try:
            rows.append({"name": name, "mix": load_mix(path), "error": None})
        except IxtError as error:
            rows.append({"name": name, "mix": None, "error": str(error)})
    return request.page(
        "mixes.html",
        "Mixes",
        mixes=rows,
        folder=request.inspector.settings.mixes,
        saved=list(request.view.snapshot.selections.values()),
    )


def show(request: PageRequest) -> Response:
    """Return the page of one mix: its plan, and the plan with the weights of the address."""
    name = str(request.http_request.path_params["name"])
    paths = mix_files(request)
    if name not in paths:
        raise SnapshotError(f"mix {name!r} does not exist; mixes: {', '.join(paths) or 'none'}")
    mix = load_mix(paths[name])
    if request.at:
        mix = mix.model_copy(update={"snapshot": request.view.version})
    changed_mix, error = None, None
    try:
        view = request.inspector.views.at(str(mix.snapshot)) if mix.snapshot else request.view
        mix = resolve_selections(request.inspector.views.store, mix, view.snapshot)
        changed_mix = _change(request, mix)
    except IxtError as problem:
        error = str(problem)
    samples = int(request.number("samples") or 0) or None
    plan, plan_error = _plan(request, mix, samples)
    preview, preview_error = (None, error)
    if changed_mix is not None and changed_mix != mix:
        preview, preview_error = _plan(request, changed_mix, samples)
    return request.page(
        "mix.html",
        name,
        name=name,
        text=paths[name].read_text(encoding="utf-8", errors="replace"),
        mix=mix,
        changed=changed_mix or mix,
        plan=plan,
        plan_error=plan_error,
        preview=preview,
        preview_error=preview_error,
        rows=_compare_plans(plan, preview) if plan else [],
        samples=samples,
        format_value=_format_value,
    )


def mix_files(request: PageRequest) -> dict[str, Path]:
    """Return the YAML files in the folder of mixes, by name."""
    folder = request.inspector.settings.mixes
    if folder is None or not folder.is_dir():
        return {}
    paths = (path for path in sorted(folder.iterdir()) if path.suffix in (".yaml", ".yml"))
    return {path.stem: path for path in paths if path.is_file()}


def _change(request: PageRequest, mix: Mix) -> Mix:
    """Return the mix with the weights, limits and temperature of the address.

    Raises:
        ConfigError: one of these values is not valid.
    """
    tree = mix.model_dump()
    for selection in tree["selections"]:
        weight = request.number(f"weight.{selection['name']}")
        if weight is not None:
            selection["weight"] = weight
        if f"repeats.{selection['name']}" in request.query:
            repeats = request.number(f"repeats.{selection['name']}")
            selection["max_repeats"] = None if repeats is None else int(repeats)
    if "temperature" in request.query:
        tree["weighting"]["temperature"] = request.number("temperature")
    return validate(Mix, tree, "the changed mix")


def _plan(
    request: PageRequest, mix: Mix, samples: int | None
) -> tuple[dict[str, Any] | None, str | None]:
    """Return the summary of the plan, or an error message."""
    if samples is not None and samples > MAX_SAMPLES:
        return None, f"samples: {samples:,}; a preview plans at most {MAX_SAMPLES:,}"

    def compute() -> dict[str, Any]:
        # A separate store object: other requests use the shared one at the same time.
        store = Store.open(request.inspector.views.store.root)
        return plan_mix(mix, samples, store=store, scope_of=CachedScope).summary()

    views = request.inspector.views
    # A mix without a pinned snapshot is planned again for each new snapshot.
    at = mix.snapshot if mix.snapshot is not None else request.view.version
    try:
        return views.cache.get(("plan", at, mix.model_dump_json(), samples), compute), None
    except IxtError as error:
        return None, str(error)


def _compare_plans(plan: dict[str, Any], preview: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Return the selections of the plan, each with its values in the preview."""
    changed = {row["name"]: row for row in (preview or plan)["selections"]}
    current = {row["name"]: row for row in plan["selections"]}
    return [
        {"name": name, "current": current.get(name), "changed": changed.get(name)}
        for name in {**current, **changed}
    ]


def _format_value(row: dict[str, Any] | None, key: str, kind: str) -> str:
    """Return a value of a selection as text."""
    if row is None:
        return "–"
    value = row[key]
    if kind == "share":
        return f"{value:.1%}"
    if kind == "amount":
        return format_amount(value)
    return f"{value:.2f}" if kind == "epochs" else f"{value:,}"
