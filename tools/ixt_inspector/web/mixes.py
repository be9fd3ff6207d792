"""Mixes: what each one draws, and what a change of its weights would do."""

from functools import partial
from pathlib import Path
from typing import Any

from starlette.responses import Response

from ixt_data.config import validate
from ixt_data.errors import IxtError, SnapshotError
from ixt_data.mix import Matches, Mix, Scope, load_mix, plan_mix, resolve_selections
from ixt_data.store import Store
from ixt_inspector.web.request import PageRequest, amount
from ixt_inspector.web.snapshot_cache import ResultCache

MOST_SAMPLES = 50_000_000
_found = ResultCache(64)
"""What predicates find, by snapshot: a change of weights does not change it."""


class KnownScope(Scope):
    """A scope that remembers what predicates find."""

    def __init__(self, store: Store, mix: Mix, holdout: float = 0.0) -> None:
        super().__init__(store, mix, holdout)
        self._about = (store.root, self.snapshot.version, mix.corpus, holdout)

    def find(self, name: str, where: str, value: str | None, critic: str | None) -> Matches:
        """See `Scope.find`."""
        find = partial(super().find, name, where, value, critic)
        return _found.get((*self._about, where, value, critic), find)


def show_all(call: PageRequest) -> Response:
    """The mixes of the folder."""
    rows = []
    for name, path in files(call).items():
        try:
            rows.append({"name": name, "mix": load_mix(path), "error": None})
        except IxtError as error:
            rows.append({"name": name, "mix": None, "error": str(error)})
    return call.page(
        "mixes.html",
        "Mixes",
        mixes=rows,
        folder=call.inspector.settings.mixes,
        saved=list(call.view.snapshot.selections.values()),
    )


def show(call: PageRequest) -> Response:
    """One mix: its plan, and beside it the plan with the weights of the address."""
    name = str(call.request.path_params["name"])
    known = files(call)
    if name not in known:
        raise SnapshotError(f"no mix {name!r}; mixes: {', '.join(known) or 'none'}")
    mix = load_mix(known[name])
    if call.at:
        mix = mix.model_copy(update={"snapshot": call.view.version})
    changed, error = None, None
    try:
        view = call.inspector.views.at(str(mix.snapshot)) if mix.snapshot else call.view
        mix = resolve_selections(call.inspector.views.store, mix, view.snapshot)
        changed = _changed(call, mix)
    except IxtError as problem:
        error = str(problem)
    samples = int(call.number("samples") or 0) or None
    plan, plan_error = _plan(call, mix, samples)
    preview, preview_error = (None, error)
    if changed is not None and changed != mix:
        preview, preview_error = _plan(call, changed, samples)
    return call.page(
        "mix.html",
        name,
        name=name,
        text=known[name].read_text(encoding="utf-8", errors="replace"),
        mix=mix,
        changed=changed or mix,
        plan=plan,
        plan_error=plan_error,
        preview=preview,
        preview_error=preview_error,
        rows=_rows(plan, preview) if plan else [],
        samples=samples,
        figure_of=_figure,
    )


def files(call: PageRequest) -> dict[str, Path]:
    """The YAML files of the folder of mixes, by name."""
    folder = call.inspector.settings.mixes
    if folder is None or not folder.is_dir():
        return {}
    found = (path for path in sorted(folder.iterdir()) if path.suffix in (".yaml", ".yml"))
    return {path.stem: path for path in found if path.is_file()}


def _changed(call: PageRequest, mix: Mix) -> Mix:
    """The mix with the weights, limits and temperature of the address.

    Raises:
        ConfigError: one of them is not valid.
    """
    tree = mix.model_dump()
    for selection in tree["selections"]:
        weight = call.number(f"weight.{selection['name']}")
        if weight is not None:
            selection["weight"] = weight
        if f"repeats.{selection['name']}" in call.query:
            repeats = call.number(f"repeats.{selection['name']}")
            selection["max_repeats"] = None if repeats is None else int(repeats)
    if "temperature" in call.query:
        tree["weighting"]["temperature"] = call.number("temperature")
    return validate(Mix, tree, "the changed mix")


def _plan(
    call: PageRequest, mix: Mix, samples: int | None
) -> tuple[dict[str, Any] | None, str | None]:
    """The plan's figures, or why there is none."""
    if samples is not None and samples > MOST_SAMPLES:
        return None, f"samples: {samples:,} are more than the {MOST_SAMPLES:,} planned here"

    def compute() -> dict[str, Any]:
        # A log of its own: other requests go on meanwhile.
        store = Store.open(call.inspector.views.store.root)
        return plan_mix(mix, samples, store=store, scope_of=KnownScope).summary()

    views = call.inspector.views
    # A mix that pins no snapshot is planned anew when the store has moved on.
    at = mix.snapshot if mix.snapshot is not None else call.view.version
    try:
        return views.memo.get(("plan", at, mix.model_dump_json(), samples), compute), None
    except IxtError as error:
        return None, str(error)


def _rows(plan: dict[str, Any], preview: dict[str, Any] | None) -> list[dict[str, Any]]:
    """Selections of the plan, each with its figures in the other one."""
    other = {row["name"]: row for row in (preview or plan)["selections"]}
    own = {row["name"]: row for row in plan["selections"]}
    return [
        {"name": name, "now": own.get(name), "then": other.get(name)} for name in {**own, **other}
    ]


def _figure(row: dict[str, Any] | None, key: str, kind: str) -> str:
    """A figure of a selection, for people."""
    if row is None:
        return "–"
    value = row[key]
    if kind == "share":
        return f"{value:.1%}"
    if kind == "amount":
        return amount(value)
    return f"{value:.2f}" if kind == "epochs" else f"{value:,}"
