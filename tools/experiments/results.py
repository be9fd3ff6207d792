"""docs/results.md: tables and plots between its markers, from the curves in docs/results."""

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from statistics import fmean

from ixt_data.storage import atomic_write
from ixt_train.scaling import (
    ArmReport,
    GroupReport,
    LearningCurve,
    Multiplier,
    compare_arms,
    confidence_half_width,
    curve_chart,
    format_budget,
    format_multiplier,
    format_quantity,
    read_paths,
)

PAGE, CURVES = "results.md", "results"
EITHER = "plain|filter"
BASELINES = ("plain", "filter", "filter-x10", EITHER)
GOAL = 1.05
GOOD = {"good200": 200, "good500": 500, "good1000": 1000, "good5000": 5000}
ANNEALED = ("good200-decay", "good1000-decay")
DRAWN = ("plain", "filter", "filter-x10", "anneal-30", "score", "critique", "spans-auto")
PYTHON = "python"

Groups = Mapping[str, GroupReport]
Row = Sequence[str]


def write_results(docs: Path) -> Path:
    """Write tables and plots of the curves into docs/results.md; return its path."""
    curves = read_paths([str(docs / CURVES)])
    sums = [curve for curve in curves if curve.group in (*GOOD, *ANNEALED)]
    groups = {group.group: group for group in compare_arms(sums, against=BASELINES)} if sums else {}
    page = docs / PAGE
    text = page.read_text(encoding="utf-8") if page.exists() else _skeleton()
    for name, make in SECTIONS.items():
        text = _replace_section(text, name, make(groups))
    text = _replace_section(text, "python", _python([c for c in curves if c.group == PYTHON]))
    for name in sorted({curve.group for curve in curves}):
        _draw(docs / CURVES / f"{name}.svg", [curve for curve in curves if curve.group == name])
    atomic_write(page, lambda partial: partial.write_text(text, encoding="utf-8"))
    return page


def _skeleton() -> str:
    marks = (f"<!-- {name} -->\n<!-- end -->" for name in (*SECTIONS, "python"))
    return "# Results\n\n" + "\n\n".join(marks) + "\n"


def _replace_section(text: str, name: str, content: str) -> str:
    """Return the page with new content between the markers of one section."""
    marks = re.compile(rf"(<!-- {re.escape(name)} -->\n).*?(<!-- end -->)", re.DOTALL)
    return marks.sub(lambda found: f"{found[1]}\n{content}\n{found[2]}", text)


def markdown_table(heads: Row, rows: Iterable[Row]) -> str:
    """Return a Markdown table."""
    ruler = "|".join(["---", *["---:"] * (len(heads) - 1)])
    lines = ["| " + " | ".join(row) + " |" for row in (heads, *rows)]
    return "\n".join([lines[0], f"|{ruler}|", *lines[1:]])


def _arms(group: GroupReport) -> dict[str, ArmReport]:
    return {arm.arm: arm for arm in group.arms}


def _share(arm: ArmReport) -> str:
    return _spread(arm.best.values())


def _spread(values: Iterable[float]) -> str:
    """Return the mean of values and their range."""
    all_values = list(values)
    low, high = min(all_values), max(all_values)
    spread = f" ({low:.2f} to {high:.2f})" if len(all_values) > 1 else ""
    return f"{fmean(all_values):.2f}{spread}"


def _reached(name: str) -> Callable[[Groups], str]:
    """Return a section: the accuracy of each arm of a corpus, and the tokens it needs."""

    def write_section(groups: Groups) -> str:
        if name not in groups:
            return "Not measured yet."
        group = groups[name]
        heads = ["arm", "runs", "highest accuracy"]
        heads += [f"tokens to {target:g}" for target in group.targets]
        rows = [
            [
                arm.arm,
                str(len(arm.seeds)),
                _share(arm),
                *(format_budget(arm.needs[f"{target:g}"], "tokens") for target in group.targets),
            ]
            for arm in group.arms
        ]
        return f"![accuracy over tokens](results/{name}.svg)\n\n{markdown_table(heads, rows)}"

    return write_section


def _multipliers(name: str, baseline: str) -> Callable[[Groups], str]:
    """Return a section: the multiple that a baseline needs, by target and clock."""

    def write_section(groups: Groups) -> str:
        if name not in groups:
            return "Not measured yet."
        group = groups[name]
        heads = ["arm", "seeds"]
        heads += [f"{axis} to {t:g}" for t in (0.3, 0.5) for axis in ("steps", "tokens", "FLOPs")]
        rows = []
        for arm in group.arms:
            if arm.arm == baseline:
                continue
            found = [arm.against[f"{t:g}"].get(baseline, {}) for t in (0.3, 0.5)]
            shared = max(len(each["steps"].seeds) for each in found) if all(found) else 0
            cells = [
                format_multiplier(f.get(axis))
                for f in found
                for axis in ("steps", "tokens", "flops")
            ]
            rows.append([arm.arm, str(shared), *cells])
        return markdown_table(heads, rows)

    return write_section


def format_ratio(found: Multiplier | None) -> str:
    """Format tokens relative to the baseline: the mean over seeds and each seed."""
    if found is None or not found.seeds:
        return "neither reaches it"
    each = ", ".join(
        {-1: "<", 0: "", 1: ">"}[found.bounds[seed]] + f"{1 / value:.2f}"
        for seed, value in found.seeds.items()
    )
    sign = {"at least": "< ", "at most": "> "}.get(found.kind, "")
    mean = "unclear" if found.value is None else f"{sign}{1 / found.value:.2f}"
    return f"{mean} ({each})"


def _holds(found: Multiplier | None) -> str:
    if found is None or not found.seeds:
        return "–"
    if found.kind == "at least":
        # The baseline did not reach the target in some seeds.
        return "yes"
    good = found.kind == "mean" and found.value is not None and 1 / found.value <= GOAL
    return "yes" if good else "**no**"


def _never_behind(groups: Groups) -> str:
    """Compare the span recipe with the better of plain and filter."""
    heads = ["good documents", "accuracy", "runs", "plain", "filter", "spans-auto"]
    heads += ["spans-auto / better of both", f"<= {GOAL}"]
    rows = []
    for name, good in GOOD.items():
        if name not in groups or not {"filter", "spans-auto"} <= set(_arms(groups[name])):
            continue
        arms = _arms(groups[name])
        for target in (f"{t:g}" for t in groups[name].targets):
            baseline = EITHER if EITHER in arms["spans-auto"].against[target] else "filter"
            found = arms["spans-auto"].against[target].get(baseline, {}).get("tokens")
            rows.append(
                [
                    f"{good:,}",
                    target,
                    " / ".join(
                        str(len(arms[arm].seeds)) if arm in arms else "0"
                        for arm in ("plain", "filter", "spans-auto")
                    ),
                    *(
                        format_budget(arms[arm].needs[target], "tokens")
                        if arm in arms
                        else "not run"
                        for arm in ("plain", "filter", "spans-auto")
                    ),
                    format_ratio(found),
                    _holds(found),
                ]
            )
    return markdown_table(heads, rows) if rows else "Not measured yet."


RECIPES = (
    "spans-auto",
    "spans",
    "spans-auto-16",
    "spans-good-first-4",
    "spans-good-first-8",
    "spans-good-first-16",
    "spans-3x",
    "spans-masked",
)
"""The recipe, and alternatives to it."""

CONTROLS = (
    *RECIPES,
    "spans-inserted",
    "spans-wrong-10",
    "spans-wrong-20",
    "filter",
    "filter-x10",
    "plain",
    "plain-x10",
    "critique",
)


def _controls(groups: Groups) -> str:
    """Return tokens of every control at every number of good documents."""
    heads = ["arm"]
    shown = [name for name in GOOD if name in groups]
    heads += [f"{GOOD[name]:,} good: tokens to .3 / .5 / .9 (runs)" for name in shown]
    rows = []
    for control in CONTROLS:
        cells = [control]
        for name in shown:
            arm = _arms(groups[name]).get(control)
            cells.append("not run" if arm is None else _triple(arm))
        rows.append(cells)
    return markdown_table(heads, rows) if shown else "Not measured yet."


def _triple(arm: ArmReport) -> str:
    parts = []
    for need in arm.needs.values():
        some = "" if need.reached in (0, need.runs) else f" ({need.reached})"
        parts.append(format_quantity(need.mean["tokens"]) + some)
    return f"{' / '.join(parts)} ({len(arm.seeds)})"


def _beyond(groups: Groups) -> str:
    """Compare the recipe with the strongest control."""
    heads = ["good documents", "arm", "seeds"]
    heads += [f"tokens / those of filter-x10, to {t}" for t in (".3", ".5", ".9")]
    rows = []
    for name, good in GOOD.items():
        arms = _arms(groups[name]) if name in groups else {}
        for arm in RECIPES:
            if arm not in arms or "filter-x10" not in arms:
                continue
            found = [against["filter-x10"]["tokens"] for against in arms[arm].against.values()]
            seeds = max(len(each.seeds) for each in found)
            rows.append([f"{good:,}", arm, str(seeds), *map(format_ratio, found)])
    return markdown_table(heads, rows) if rows else "Not measured yet."


def _annealed(name: str) -> Callable[[Groups], str]:
    """Return a section: the accuracy of each arm at the end of runs of equal steps."""

    def write_section(groups: Groups) -> str:
        if name not in groups:
            return "Not measured yet."
        group = groups[name]
        heads = ["arm", "runs", "accuracy at the end", "highest accuracy"]
        heads += [f"tokens to {target:g}" for target in group.targets]
        rows = [
            [
                arm.arm,
                str(len(arm.seeds)),
                _spread(arm.last.values()),
                _share(arm),
                *(format_budget(arm.needs[f"{target:g}"], "tokens") for target in group.targets),
            ]
            for arm in group.arms
        ]
        return f"![accuracy over tokens](results/{name}.svg)\n\n{markdown_table(heads, rows)}"

    return write_section


SECTIONS: Mapping[str, Callable[[Groups], str]] = {
    "r1": _reached("good200"),
    "r2": _reached("good1000"),
    "r2 against plain": _multipliers("good1000", "plain"),
    "r2 against filter": _multipliers("good1000", "filter"),
    "never behind": _never_behind,
    "beyond filter x10": _beyond,
    "controls": _controls,
    "r1 annealed": _annealed("good200-decay"),
    "r2 annealed": _annealed("good1000-decay"),
}


def _python(curves: Sequence[LearningCurve]) -> str:
    """Return the held-out loss of the best bucket of Python files, at equal training FLOPs."""
    if not curves:
        return "Not measured yet."
    metric = best_bucket(curves)
    budget = min(curve.flops[-1] for curve in curves)
    losses: dict[str, dict[int, float]] = {}
    for curve in curves:
        losses.setdefault(curve.arm, {})[curve.seed] = _at(curve, metric, budget)
    rows = []
    for arm in sorted(losses, key=("plain", "filter", "score", "critique").index):
        own, plain = losses[arm], losses.get("plain", {})
        gains = [plain[seed] - own[seed] for seed in sorted(own.keys() & plain.keys())]
        spread = f" ± {confidence_half_width(gains):.3f}" if len(gains) > 1 else ""
        gain = "" if arm == "plain" or not gains else f"{fmean(gains):+.3f}{spread}"
        rows.append([arm, str(len(own)), f"{fmean(own.values()):.3f}", gain])
    heads = ["arm", "runs", "loss, nats per token", "gain on plain, ± 95% over seeds"]
    scores = metric.rpartition(".inference.")[2].replace("-", " to ")
    sentence = f"Held-out files of score {scores}, "
    sentence += f"after {format_quantity(budget)} training FLOPs each:"
    return (
        f"![loss over FLOPs](results/{PYTHON}.svg)\n\n{sentence}\n\n{markdown_table(heads, rows)}"
    )


def best_bucket(curves: Sequence[LearningCurve]) -> str:
    """Return the metric of the loss on the bucket with the highest scores."""
    shared = set.intersection(*(set(curve.metrics) for curve in curves))
    buckets = [n for n in shared if re.fullmatch(r"loss\.inference\.[\d.]+-[\d.]+", n)]
    return max(buckets, key=lambda name: float(name.rpartition("-")[2]))


def _at(curve: LearningCurve, metric: str, flops: float) -> float:
    """Return the metric after `flops`, interpolated between evaluations."""
    import numpy as np

    return float(np.interp(flops, curve.flops, curve.metrics[metric]))


def _draw(path: Path, curves: Sequence[LearningCurve]) -> None:
    """Draw the curves of the arms that the page compares."""
    order = {arm: place for place, arm in enumerate(DRAWN)}
    shown = sorted(
        (curve for curve in curves if curve.arm in order),
        key=lambda curve: (order[curve.arm], curve.seed),
    )
    if not shown:
        return
    if shown[0].group == PYTHON:
        drawn = curve_chart(shown, best_bucket(shown), "flops")
    else:
        drawn = curve_chart(shown, "tasks.sums", "tokens", targets=(0.3, 0.5, 0.9))
    atomic_write(path, lambda partial: partial.write_text(drawn, encoding="utf-8"))
