"""Curves from whatever the command line names."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from ixt_data.errors import ConfigError
from ixt_train.runs import run_folder
from ixt_train.scaling.curves import LearningCurve, read_curves, read_run


def read_paths(paths: Sequence[str]) -> list[LearningCurve]:
    """Read the curves of run folders, folders of run folders, and JSONL; `arm=PATH` sets the arm.

    Raises:
        ConfigError: a path contains no curves.
    """
    curves: list[LearningCurve] = []
    for text in paths:
        arm, separator, location = text.partition("=")
        path = Path(location if separator and not Path(text).exists() else text)
        new_curves = list(_read(path))
        if path != Path(text):
            new_curves = [replace(curve, arm=arm) for curve in new_curves]
        curves += new_curves
    return _check_distinct(curves)


def _read(path: Path) -> Iterator[LearningCurve]:
    if path.is_file():
        yield from read_curves(path)
        return
    if not path.is_dir():
        raise ConfigError(f"{path} does not exist; name a run folder or a JSONL of curves")
    if (path / run_folder.METRICS).is_file():
        yield read_run(path)
        return
    files = sorted(path.glob("*.jsonl"))
    folders = sorted(location.parent for location in path.glob(f"**/{run_folder.METRICS}"))
    if not files and not folders:
        raise ConfigError(f"{path} contains neither run folders nor a JSONL of curves")
    for file in files:
        yield from read_curves(file)
    for folder in folders:
        yield read_run(folder)


def _check_distinct(curves: Sequence[LearningCurve]) -> list[LearningCurve]:
    """Check that no two train runs have the same key: one would hide the other."""
    seen: dict[tuple[str, str, int, str], LearningCurve] = {}
    for curve in curves:
        if seen.setdefault(curve.key, curve) != curve:
            location = f" in {curve.group}" if curve.group else ""
            raise ConfigError(
                f"two runs of arm {curve.arm!r}, seed {curve.seed}, budget {curve.budget}"
                f"{location}; "
                "give one another name: other-arm=FOLDER"
            )
    return list(seen.values())
