"""The combinations of a sweep, checked before torch loads."""

import re
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import yaml

from ixt_data.errors import ConfigError
from ixt_train.config import TrainConfig, load_train_config
from ixt_train.runs import run_folder

_NOT_IN_NAMES = re.compile(r"[^\w.+-]+")


def combine_axes(axes: Sequence[str]) -> list[tuple[str, ...]]:
    """Return the overrides of every combination of `KEY=VALUE,VALUE,...`.

    The values are the entries of a YAML list, so that commas in brackets and quotes separate none.

    Raises:
        ConfigError: an axis has no values, or a key twice.

    Examples:
        >>> combine_axes(["optimizer.lr=1e-3,3e-3", "optimizer.betas=[0.9, 0.95],[0.9, 0.99]"])[1]
        ('optimizer.lr=1e-3', 'optimizer.betas=[0.9, 0.99]')
    """
    choices = []
    for axis in axes:
        key, is_given, values = axis.partition("=")
        texts = _entries(values)
        if not is_given or not texts or not key.strip():
            raise ConfigError(f"--sweep: {axis!r} is not KEY=VALUE,VALUE,...")
        choices.append([f"{key.strip()}={text}" for text in texts])
    keys = [axis.partition("=")[0].strip() for axis in axes]
    for key in keys:
        if keys.count(key) > 1:
            raise ConfigError(f"--sweep: {key} is given twice; list its values in one --sweep")
    points = list(product(*choices))
    if len(set(points)) < len(points):
        raise ConfigError(f"--sweep: a value is given twice in {', '.join(axes)}")
    return points


def _entries(values: str) -> list[str]:
    """Return the text of each entry of a YAML list without its brackets; none if it is not one."""
    text = f"[{values}]"
    try:
        node = yaml.compose(text)
    except yaml.YAMLError:
        return []
    if not isinstance(node, yaml.SequenceNode) or values.rstrip().endswith(","):
        return []
    return [text[entry.start_mark.index : entry.end_mark.index] for entry in node.value]


def load_points(
    path: Path, overrides: Sequence[str], axes: Sequence[str]
) -> list[tuple[tuple[str, ...], TrainConfig]]:
    """Return overrides and config of every combination, each with a run folder of its own.

    Raises:
        ConfigError: a combination is not valid, or the run folder has a train run.
    """
    folder = Path(load_train_config(path, overrides).run_folder)
    if (folder / run_folder.FINGERPRINT).exists():
        raise ConfigError(
            f"run_folder: {folder} has a train run, and a sweep needs a folder of its own"
        )
    loaded: dict[str, tuple[tuple[str, ...], TrainConfig]] = {}
    for point in combine_axes(axes):
        name = _NOT_IN_NAMES.sub("-", "_".join(point)).strip("-")
        if name in loaded:
            raise ConfigError(f"--sweep: {' '.join(point)} has the run folder of another one")
        own = load_train_config(path, [*overrides, *point])
        if own.run_folder != str(folder):
            raise ConfigError("--sweep: run_folder is not a setting; each run has a folder inside")
        own = own.model_copy(update={"run_folder": str(folder / name)})
        for other, config in loaded.values():
            if own == config.model_copy(update={"run_folder": own.run_folder}):
                texts = f"{' '.join(point)} and {' '.join(other)}"
                raise ConfigError(f"--sweep: {texts} are the same train run")
        loaded[name] = (point, own)
    return list(loaded.values())
