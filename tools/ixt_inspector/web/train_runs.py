"""The page of train runs: their curves and configs."""

import time
from collections.abc import Mapping
from pathlib import Path

from starlette.responses import Response

from ixt_data.errors import ConfigError, CorruptError
from ixt_inspector.web.charts import MAX_LINES, CurvesChart, curves_chart
from ixt_inspector.web.request import PageRequest
from ixt_train.runs import METRICS, LossPoints, TrainRun, read_train_run

LIVE_SECONDS = 600
"""Age of the newest metrics up to which a page of an unfinished train run updates itself."""
MAX_DEPTH = 3
"""Levels below the folder of train runs to search for run folders."""


def show(request: PageRequest) -> Response:
    """Return the page: a table of all train runs, and curves of the selected runs."""
    root = request.inspector.settings.runs
    folders = find_run_folders(root) if root is not None else {}
    chosen = [name for name in request.http_request.query_params.getlist("run") if name in folders]
    chosen = chosen or list(folders)[:MAX_LINES]
    runs, broken = {}, {}
    for name, folder in folders.items():
        try:
            runs[name] = _read_cached(request, folder)
        except (
            ConfigError,
            CorruptError,
            ValueError,
            AttributeError,
            KeyError,
            TypeError,
        ) as error:
            broken[name] = str(error)
    shown = {name: runs[name] for name in chosen if name in runs}
    single = next(iter(shown.items())) if len(shown) == 1 else None
    return request.page(
        "train_runs.html",
        "Train runs",
        root=root,
        runs=runs,
        broken=broken,
        chosen=list(shown),
        charts=_charts(shown),
        single=single,
        mix_charts=_mix_charts(single[1]) if single else [],
        live=any(_is_live(folders[name], run) for name, run in shown.items()),
        max_lines=MAX_LINES,
    )


def _is_live(folder: Path, run: TrainRun) -> bool:
    """Return whether a train run has written metrics a short while ago and has steps left."""
    age = time.time() - (folder / METRICS).stat().st_mtime
    return run.planned_steps is not None and run.steps < run.planned_steps and age < LIVE_SECONDS


def _mix_charts(run: TrainRun) -> list[CurvesChart]:
    """Return the charts of what a run reads: shares of tokens, and losses, by dimension."""
    kinds: tuple[tuple[str, str, Mapping[str, Mapping[str, LossPoints]]], ...] = (
        ("Share of tokens", "share", run.shares),
        ("Training loss", "nats per token", run.losses),
    )
    charts = []
    for title, unit, dimensions in kinds:
        for dimension, curves in dimensions.items():
            if len(curves) > 1:
                first = dict(list(curves.items())[:MAX_LINES])
                charts.append(curves_chart(f"{title} by {dimension}", unit, first))
    return [chart for chart in charts if chart is not None]


def find_run_folders(root: Path) -> dict[str, Path]:
    """Return run folders by path below the root, the most recently updated first."""
    folders = {}
    level = [root]
    for _ in range(MAX_DEPTH + 1):
        below = []
        for folder in level:
            if (folder / METRICS).is_file():
                folders[folder.relative_to(root).as_posix()] = folder
            elif folder.is_dir() and (folder == root or not folder.is_symlink()):
                below += [path for path in folder.iterdir() if path.is_dir()]
        level = below
    return dict(sorted(folders.items(), key=lambda pair: -(pair[1] / METRICS).stat().st_mtime))


def _read_cached(request: PageRequest, folder: Path) -> TrainRun:
    """Return the run in a folder; read it again only if its metrics have changed."""
    state = (folder / METRICS).stat()
    key = ("run", str(folder), state.st_mtime_ns, state.st_size)
    return request.inspector.views.cache.get(key, lambda: read_train_run(folder))


def _charts(runs: dict[str, TrainRun]) -> list[CurvesChart]:
    """Return a chart per metric of the runs."""
    curves: dict[tuple[str, str], dict[str, LossPoints]] = {}
    for name, run in runs.items():
        curves.setdefault(("Training loss", "nats per token"), {})[name] = run.loss
        for feedback, curve in run.held_out.items():
            title = f"Held-out loss, feedback: {feedback}"
            curves.setdefault((title, "nats per token"), {})[name] = curve
        for task, curve in run.tasks.items():
            curves.setdefault((f"Task: {task}", "share solved"), {})[name] = curve
    charts = []
    for (title, unit), by_run in curves.items():
        # Runs without this metric are included, so each run keeps its style.
        every_run = {name: by_run.get(name, ()) for name in runs}
        if (chart := curves_chart(title, unit, every_run)) is not None:
            charts.append(chart)
    return charts
