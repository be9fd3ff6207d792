"""The scaling config: arms over budgets and seeds, and their comparison."""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import Field, PositiveInt

from ixt_data.config import ConfigModel, load_config, validate
from ixt_data.mix import load_mix
from ixt_train.config import AmountText, TrainConfig, load_run_mix, load_train_config
from ixt_train.runs import run_folder
from ixt_train.scaling.curves import LABEL, RunLabel
from ixt_train.scaling.runner import TrainJob


class ArmConfig(ConfigModel):
    """One arm: the train config with another mix or other settings."""

    mix: str | None = None
    """A mix YAML, relative to this file; null uses the train config's."""
    set: tuple[str, ...] = ()
    """Settings that override the train config, such as `eval.tasks.0.feedback=none`."""
    annotation_flops: Annotated[float, Field(ge=0)] = 0.0
    """FLOPs of the critics that this arm needs, over the complete corpus: 2 x parameters x tokens
    read and generated. Reported separately from training."""


class ScalingConfig(ConfigModel):
    """Arms over budgets and seeds."""

    train: str
    """The train config of every train run, relative to this file."""
    arms: Annotated[dict[str, ArmConfig], Field(min_length=1)]
    """The arms by name; `plain` and names that start with `filter` are baselines."""
    runs: str
    """Folder for the run folders, relative to the working folder."""
    group: str = ""
    """Name of the comparison."""
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0, 1, 2)
    """Seeds of model and mix; each arm runs with each seed."""
    budgets: tuple[AmountText, ...] = ()
    """Durations; none uses the train config's. Several budgets compare the ends of their runs."""
    parallel_runs: PositiveInt = 1
    """Number of parallel train runs, each with one thread."""
    metric: str | None = None
    """Metric to compare, such as `tasks.sums` or `loss.inference.all`; null uses the first task."""
    targets: tuple[float, ...] = ()
    """Target values of the metric; none uses the defaults."""
    against: tuple[str, ...] = ()
    """Baselines such as `plain`, `filter`, or `plain|filter` for the better one; none: defaults."""


def load_scaling_config(path: str | Path, overrides: Iterable[str] = ()) -> ScalingConfig:
    """Read a scaling config from a YAML file.

    Raises:
        ConfigError: the file cannot be read, or a key is wrong.
    """
    return load_config(ScalingConfig, path, overrides)


def prepare_jobs(config: ScalingConfig, folder: Path) -> Iterator[tuple[TrainJob, RunLabel]]:
    """Yield the train runs, seed by seed, with one config file each in the folder of the runs.

    Args:
        config: the scaling config.
        folder: folder of the scaling config's file.

    Raises:
        ConfigError: a train config or mix cannot be read, or a key is wrong.
    """
    for seed in config.seeds:
        for budget in config.budgets or (None,):
            for arm, settings in config.arms.items():
                train = load_train_config(folder / config.train, settings.set)
                duration = budget or train.duration
                label = RunLabel(arm, config.group, seed, str(duration), settings.annotation_flops)
                run_path = Path(config.runs).resolve() / f"{arm}-{duration}-{seed}"
                mix = load_mix(folder / settings.mix) if settings.mix else load_run_mix(train)
                tree: dict[str, Any] = train.model_dump(mode="json") | {
                    "mix": mix.model_copy(update={"seed": seed}).model_dump(mode="json"),
                    "seed": seed,
                    "duration": str(duration),
                    "run_folder": str(run_path),
                }
                validate(TrainConfig, tree, f"{config.train} for {arm}")
                run_path.parent.mkdir(parents=True, exist_ok=True)
                path = run_path.with_suffix(".yaml")
                path.write_text(yaml.safe_dump(tree, sort_keys=False))
                yield (
                    TrainJob(run_path.name, path, path.with_suffix(".log"), run_folder=run_path),
                    label,
                )


def write_label(folder: Path, label: RunLabel) -> None:
    """Write the label of a train run into its folder."""
    run_folder.write_json(folder / LABEL, label.__dict__)
