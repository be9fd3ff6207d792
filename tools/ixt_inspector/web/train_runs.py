"""Train runs: their curves side by side, and what each one was."""

from pathlib import Path
from typing import Any

from starlette.responses import Response

from ixt_data.errors import ConfigError
from ixt_inspector.web.charts import COLOURS, Chart, chart
from ixt_inspector.web.request import PageRequest
from ixt_train.runs import METRICS, LossPoints, TrainRun, read_train_run

DEPTH = 3
"""Folders below the one of train runs in which run folders are looked for."""


def show(call: PageRequest) -> Response:
    """The page: all train runs, and the curves of those that are chosen."""
    root = call.inspector.settings.runs
    folders = find(root) if root is not None else {}
    chosen = [name for name in call.request.query_params.getlist("run") if name in folders]
    chosen = chosen or list(folders)[:COLOURS]
    runs, broken = {}, {}
    for name, folder in folders.items():
        try:
            runs[name] = _read(call, folder)
        except (ConfigError, ValueError, KeyError, TypeError) as error:
            broken[name] = str(error)
    shown = {name: runs[name] for name in chosen if name in runs}
    return call.page(
        "train_runs.html",
        "Train runs",
        root=root,
        runs=runs,
        broken=broken,
        chosen=list(shown),
        charts=_charts(shown),
        single=next(iter(shown.items())) if len(shown) == 1 else None,
        most=COLOURS,
    )


def find(root: Path) -> dict[str, Path]:
    """Run folders by their path below the root, the one that was written to last first."""
    found = {}
    level = [root]
    for _ in range(DEPTH + 1):
        below = []
        for folder in level:
            if (folder / METRICS).is_file():
                found[folder.relative_to(root).as_posix()] = folder
            elif folder.is_dir():
                below += [path for path in folder.iterdir() if path.is_dir()]
        level = below
    return dict(sorted(found.items(), key=lambda pair: -(pair[1] / METRICS).stat().st_mtime))


def _read(call: PageRequest, folder: Path) -> TrainRun:
    """The run in a folder, read again only if its metrics have changed."""
    state = (folder / METRICS).stat()
    key = ("run", str(folder), state.st_mtime_ns, state.st_size)
    return call.inspector.views.memo.get(key, lambda: read_train_run(folder))


def _charts(runs: dict[str, TrainRun]) -> list[tuple[str, str, Chart]]:
    """Title, unit and chart of everything that the runs have measured."""
    curves: dict[tuple[str, str], dict[str, LossPoints]] = {}
    for name, run in runs.items():
        curves.setdefault(("Training loss", "nats per token"), {})[name] = run.loss
        for feedback, curve in run.held_out.items():
            title = f"Held-out loss, feedback: {feedback}"
            curves.setdefault((title, "nats per token"), {})[name] = curve
        for task, curve in run.tasks.items():
            curves.setdefault((f"Task: {task}", "share solved"), {})[name] = curve
    drawn: list[tuple[str, str, Chart]] = []
    for (title, unit), by_run in curves.items():
        made = chart(_all_named(by_run, runs))
        if made is not None:
            drawn.append((title, unit, made))
    return drawn


def _all_named(by_run: dict[str, LossPoints], runs: dict[str, Any]) -> dict[str, LossPoints]:
    """The curves of all runs, empty where one has none, so that each keeps its colour."""
    return {name: by_run.get(name, ()) for name in runs}
