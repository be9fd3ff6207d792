"""The page of a draft: a mix of saved selections, with its plan, scores and samples.

The address contains the draft, and the YAML file of it has the same plan.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml
from starlette.responses import Response

from ixt_data.config import validate
from ixt_data.errors import ConfigError, IxtError, MissingExtra
from ixt_data.log import HUMAN
from ixt_data.mix import Mix, MixPlan, Selection, drawn_scores, plan_mix, store_at
from ixt_data.store import Store
from ixt_inspector.web.access import is_cross_site
from ixt_inspector.web.charts import before_after_chart
from ixt_inspector.web.mixes import MAX_SAMPLES, CachedScope
from ixt_inspector.web.request import PageRequest
from ixt_inspector.web.text import list_names, shorten

if TYPE_CHECKING:
    from ixt_train.conditioning import SampleText

EVERYTHING = "all"
"""Name of the selection of all documents, unless a saved selection has this name."""
KINDS = ("both", "score", "critique", "spans", "none")
FILE = "draft.yaml"
MAX_ROWS = 20
MAX_SHARDS = 4
"""Shards from which samples are shown: each is read completely."""
MAX_CHARACTERS = 700
"""Characters of each part of a sample that the page shows."""


@dataclass(frozen=True, slots=True)
class Draft:
    """A draft as its form has it.

    Attributes:
        mix: the mix, pinned to the snapshot of the page; None without a selection.
        samples: number of draws; None: each document once.
        error: why the draft cannot be planned; empty if it can.
    """

    mix: Mix | None
    samples: int | None
    error: str = ""

    @property
    def record(self) -> dict[str, Any]:
        """Return the mix as plain values, without defaults."""
        assert self.mix is not None
        record: dict[str, Any] = self.mix.model_dump(mode="json", exclude_defaults=True)
        return record

    @property
    def command(self) -> str:
        """Return the command that plans the file of the draft."""
        return f"ixt mix plan {FILE}" + (f" --samples {self.samples}" if self.samples else "")

    @property
    def python(self) -> str:
        """Return the Python line that plans the draft."""
        values = ", ".join(f"{name}={value!r}" for name, value in self.record.items())
        samples = f", samples={self.samples}" if self.samples else ""
        return f"ixt_data.plan_mix(ixt_data.Mix({values}){samples})"


@dataclass(frozen=True, slots=True)
class DraftResult:
    """What a draft gives: the summary of its plan, its scores, and some samples.

    Attributes:
        summary: see `MixPlan.summary`.
        critic: critic of the scores; None without one.
        scores: bin, documents, and draws, if there is a critic.
        samples: samples as a model reads them.
        samples_error: why there are none.
    """

    summary: dict[str, Any]
    critic: str | None
    scores: list[tuple[int, int, int]]
    samples: list["SampleText"]
    samples_error: str = ""


def show(request: PageRequest) -> Response:
    """Return the page."""
    draft = parse_draft(request)
    # A link on another site only fills in the form.
    is_held = draft.mix is not None and is_cross_site(request.http_request.headers)
    result, error = None, draft.error
    if draft.mix is not None and not is_held:
        try:
            result = _result(request, draft)
        except IxtError as problem:
            error = str(problem)
    chart = None
    if result is not None and result.scores:
        chart = before_after_chart(result.scores, f"Scores by {result.critic}")
    return request.page(
        "draft.html",
        "Draft",
        draft=draft,
        rows=_rows(request),
        critics=_critics(request),
        kinds=KINDS,
        kind=request.get("condition") or _default_kind(request),
        is_held=is_held,
        error=error,
        result=result,
        chart=chart,
        file=FILE,
        max_characters=MAX_CHARACTERS,
    )


def download(request: PageRequest) -> Response:
    """Return the draft as a YAML file, which `ixt mix plan` reads.

    Raises:
        ConfigError: the draft has no selection.
    """
    draft = parse_draft(request)
    if draft.mix is None:
        raise ConfigError(draft.error or "the draft has no selection: set a weight")
    text = yaml.safe_dump(draft.record, sort_keys=False, width=100, allow_unicode=True)
    headers = {"Content-Disposition": f'attachment; filename="{FILE}"'}
    return Response(text, media_type="application/yaml; charset=utf-8", headers=headers)


def parse_draft(request: PageRequest) -> Draft:
    """Return the draft of an address."""
    selections: list[dict[str, Any]] = []
    try:
        samples = request.integer("samples")
        if samples is not None and not 1 <= samples <= MAX_SAMPLES:
            raise ConfigError(f"samples: {samples:,}; a draft plans 1 to {MAX_SAMPLES:,}")
        rows = _rows(request)
        _check_names(request, [row["name"] for row in rows])
        for row in rows:
            name = row["name"]
            weight, repeats = request.number(f"weight.{name}"), request.integer(f"repeats.{name}")
            if not weight:
                continue
            chosen = {"use": name} if row["saved"] else {"name": name}
            limit = {} if repeats is None else {"max_repeats": repeats}
            selections.append({**chosen, "weight": weight, **limit})
            # One by one: the errors of a mix number its selections, in an order of their own.
            validate(Selection, selections[-1], f"selection {name}")
        if not selections:
            return Draft(None, samples)
        tree = {
            "store": store_at(request.inspector.settings.store, Path()),
            "snapshot": request.view.version,
            "critic": request.get("critic") or None,
            "condition": {"kind": request.get("condition") or _default_kind(request)},
            "selections": selections,
            "weighting": {"temperature": request.number("temperature")},
        }
        seed = request.integer("seed")
        tree |= {} if seed is None else {"seed": seed}
        return Draft(validate(Mix, tree, "the draft"), samples)
    except IxtError as error:
        return Draft(None, None, str(error))


def _check_names(request: PageRequest, names: Sequence[str]) -> None:
    """Check that the snapshot has each selection of the address.

    Raises:
        ConfigError: it does not have one.
    """
    for prefix in ("weight.", "repeats."):
        for name, value in request.starting(prefix).items():
            if value.strip() and name not in names:
                raise ConfigError(
                    f"{prefix}{shorten(name)}: snapshot {request.view.version} has no such "
                    f"selection; selections: {list_names(names)}"
                )


def _rows(request: PageRequest) -> list[dict[str, Any]]:
    """Return the selections to choose from: name, predicate and critic."""
    saved = request.view.snapshot.selections
    rows = [
        {"name": one.name, "where": one.where, "critic": one.critic, "saved": True}
        for one in saved.values()
    ]
    if EVERYTHING not in saved:
        rows.append({"name": EVERYTHING, "where": "true", "critic": None, "saved": False})
    return rows


def _critics(request: PageRequest) -> list[str]:
    """Return the critics to choose from; with labels, each other one corrected by them, too."""
    critics = request.view.critics
    if HUMAN not in critics:
        return critics
    return [*critics, *(f"{HUMAN},{name}" for name in critics if name != HUMAN)]


def _default_kind(request: PageRequest) -> str:
    return "both" if request.get("critic") else "none"


def _result(request: PageRequest, draft: Draft) -> DraftResult:
    """Return what the draft gives, from the cache if it was shown before.

    Raises:
        MixError: the mix cannot be drawn.
    """
    mix = draft.mix
    assert mix is not None

    def compute() -> DraftResult:
        # A separate store object: other requests use the shared one at the same time.
        store = Store.open(request.inspector.views.store.root)
        plan = plan_mix(mix, draft.samples, store=store, scope_of=CachedScope)
        critic = next((one for one in plan.mix.critics if one), None)
        critic = critic or next(iter(request.view.critics), None)
        scores = _scores(store, plan, critic) if critic else []
        try:
            samples, problem = _samples(store, plan), ""
        except IxtError as error:
            samples, problem = [], str(error)
        return DraftResult(plan.summary(), critic, scores, samples, problem)

    key = ("draft", mix.model_dump_json(), draft.samples)
    return request.view.cache.get(key, compute)


def _scores(store: Store, plan: MixPlan, critic: str) -> list[tuple[int, int, int]]:
    counts = drawn_scores(store, plan, critic)
    return [(step, n, counts.draws[step]) for step, n in counts.documents.items()]


def _samples(store: Store, plan: MixPlan) -> list["SampleText"]:
    MissingExtra.require("train", "tokenizers")
    from ixt_train.conditioning import choose_draws, sample_texts

    return sample_texts(store, plan, choose_draws(plan, MAX_ROWS, MAX_SHARDS))
