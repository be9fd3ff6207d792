"""Loggers of metrics: TensorBoard, and by extras Weights & Biases and MLflow.

The latter two replace Composer's own: its wandb logger calls `Run.get_url`, which wandb 0.31 does
not have, and its MLflow logger requires the complete MLflow package.
"""

import os
import re
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from composer.core import State
from composer.loggers import Logger, LoggerDestination, TensorboardLogger
from composer.utils import dist

from ixt_data.errors import ConfigError, MissingExtra
from ixt_data.plugins import find_plugins
from ixt_train.config import MlflowConfig, TrainConfig, WandbConfig, flatten
from ixt_train.runs import environment_variables, run_folder

_TENSORBOARD_FLUSH_STEPS = 100
_FILE_STORE = "MLFLOW_ALLOW_FILE_STORE"
# Limits of one request to MLflow.
_MAX_METRICS, _MAX_PARAMS, _MAX_PARAM_LENGTH = 1000, 100, 6000
_FLUSH_SECONDS = 5.0
_NOT_IN_NAMES = re.compile(r"[^\w/.: -]")


@dataclass(frozen=True)
class LoggerContext:
    """What a logger may know of its train run.

    Attributes:
        run_folder: the folder of the run.
        every: steps between metrics that are due.
        settings: the train config, flat: dotted key -> value.
    """

    run_folder: Path
    every: int
    settings: Mapping[str, Any]


def build_loggers(config: TrainConfig, folder: Path) -> list[LoggerDestination]:
    """Return Composer's loggers for a train run; only TensorBoard logs on every rank.

    Each is a plugin of the extension point `ixt.loggers`, ours included.

    Raises:
        MissingExtra: the package of a service is not installed.
        ConfigError: a logger does not exist, or a service rejects the settings.
    """
    log_config = config.logging
    context = LoggerContext(folder, log_config.every, flatten(config.model_dump(mode="json")))
    wanted: dict[str, Any] = {"tensorboard": {}} if log_config.tensorboard else {}
    if dist.get_global_rank() == 0:
        services = {"wandb": log_config.wandb, "mlflow": log_config.mlflow}
        wanted |= {name: options for name, options in services.items() if options is not None}
        wanted |= log_config.plugins
    known = find_plugins("ixt.loggers")
    for name in wanted:
        if name not in known:
            raise ConfigError(
                f"logging.plugins: logger {name!r} does not exist; valid are {', '.join(known)}"
            )
    return [known[name].load()(options, context) for name, options in wanted.items()]


def tensorboard_logger(options: Mapping[str, Any], context: LoggerContext) -> LoggerDestination:
    """Return a logger that writes TensorBoard files into the run folder."""
    return TensorboardDestination(
        context.every,
        log_dir=str(context.run_folder / "tensorboard"),
        flush_interval=_TENSORBOARD_FLUSH_STEPS,
    )


def wandb_logger(options: WandbConfig, context: LoggerContext) -> LoggerDestination:
    """Return a logger to Weights & Biases."""
    return WandbDestination(options, context.every, context.run_folder, dict(context.settings))


def mlflow_logger(options: MlflowConfig, context: LoggerContext) -> LoggerDestination:
    """Return a logger to MLflow."""
    return MlflowDestination(options, context.every, context.run_folder, dict(context.settings))


class ThrottledDestination(LoggerDestination):  # type: ignore[misc]
    """A destination of the metrics of every few steps, and of all evaluations.

    Composer logs six times per step, a fiftieth of a step of 100 ms with TensorBoard alone.
    """

    every = 1

    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Write metrics that are due."""
        if step is None or step % self.every == 0 or any(k.startswith("eval/") for k in metrics):
            self.write(metrics, step)

    def write(self, metrics: dict[str, Any], step: int | None) -> None:
        """Write some metrics."""
        raise NotImplementedError


class TensorboardDestination(ThrottledDestination, TensorboardLogger):  # type: ignore[misc]
    """Composer's TensorBoard logger, throttled."""

    def __init__(self, every: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.every = every

    def write(self, metrics: dict[str, Any], step: int | None) -> None:
        """Write some metrics."""
        TensorboardLogger.log_metrics(self, metrics, step)


class WandbDestination(ThrottledDestination):
    """Metrics to Weights & Biases; a resume appends to the same run."""

    def __init__(
        self, config: WandbConfig, every: int, folder: Path, settings: Mapping[str, Any]
    ) -> None:
        """Start a wandb run for the train run, or resume it.

        Raises:
            MissingExtra: wandb is not installed.
            ConfigError: wandb rejects the settings.
        """
        self.every = every
        try:
            import wandb
        except ImportError:
            raise MissingExtra("wandb", "wandb") from None
        try:
            self._run = wandb.init(
                project=config.project,
                entity=config.entity,
                group=config.group,
                name=config.name or folder.name,
                tags=list(config.tags),
                mode=config.mode,
                id=run_folder.run_id(folder),
                resume="allow",
                dir=str(folder),
                config=dict(settings),
            )
        except wandb.Error as error:
            raise ConfigError(f"logging.wandb: {_line(error)}") from None

    def log_hyperparameters(self, hyperparameters: dict[str, Any]) -> None:
        """Add Composer's hyperparameters."""
        self._run.config.update(hyperparameters, allow_val_change=True)

    def write(self, metrics: dict[str, Any], step: int | None) -> None:
        """Write some metrics."""
        self._run.log(dict(metrics), step=step)

    def close(self, state: State, logger: Logger) -> None:
        """End the wandb run, as failed if the train run failed."""
        self._run.finish(exit_code=_failed())


class MlflowDestination(ThrottledDestination):
    """Metrics to MLflow, sent every few seconds."""

    def __init__(
        self, config: MlflowConfig, every: int, folder: Path, settings: Mapping[str, Any]
    ) -> None:
        """Start an MLflow run for the train run, or resume it.

        Raises:
            MissingExtra: mlflow is not installed.
            ConfigError: MLflow rejects the settings.
        """
        self.every = every
        try:
            from mlflow import MlflowClient
            from mlflow.entities import Metric, Param
            from mlflow.exceptions import MlflowException
        except ImportError:
            raise MissingExtra("mlflow", "mlflow") from None
        location = config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        variables = dict[str, str]()
        if location is None:
            location = (folder / "mlruns").as_uri()
            # Without it MLflow 3 refuses a folder; its small package supports servers only.
            variables[_FILE_STORE] = os.environ.get(_FILE_STORE, "true")
        self._metric, self._waiting = Metric, list[Any]()
        self._last_flush = time.monotonic()
        params = [Param(key, str(value)[:_MAX_PARAM_LENGTH]) for key, value in settings.items()]
        try:
            with environment_variables(**variables):
                self._client = MlflowClient(location)
                self._run = self._start_run(config, folder)
            for start in range(0, len(params), _MAX_PARAMS):
                self._client.log_batch(self._run, params=params[start : start + _MAX_PARAMS])
        except MlflowException as error:
            raise ConfigError(f"logging.mlflow: {location}: {_line(error)}") from None

    def _start_run(self, config: MlflowConfig, folder: Path) -> str:
        """Return the id of the MLflow run; a tag identifies the train run."""
        run_tag = run_folder.run_id(folder)
        existing = self._client.get_experiment_by_name(config.experiment)
        if existing is None:
            location = self._client.create_experiment(config.experiment)
        else:
            location = existing.experiment_id
            for run in self._client.search_runs(
                [location], f"tags.ixt_run = '{run_tag}'", max_results=1
            ):
                self._client.update_run(run.info.run_id, status="RUNNING")
                return str(run.info.run_id)
        name = config.name or folder.name
        created = self._client.create_run(location, tags={"ixt_run": run_tag}, run_name=name)
        return str(created.info.run_id)

    def write(self, metrics: dict[str, Any], step: int | None) -> None:
        """Queue some metrics."""
        now = round(time.time() * 1000)
        self._waiting += [
            self._metric(_NOT_IN_NAMES.sub("_", name), float(value), now, step or 0)
            for name, value in metrics.items()
        ]
        is_due = time.monotonic() - self._last_flush > _FLUSH_SECONDS
        if is_due or len(self._waiting) >= _MAX_METRICS:
            self._send()

    def _send(self) -> None:
        for start in range(0, len(self._waiting), _MAX_METRICS):
            part = self._waiting[start : start + _MAX_METRICS]
            self._client.log_batch(self._run, metrics=part)
        self._waiting, self._last_flush = [], time.monotonic()

    def close(self, state: State, logger: Logger) -> None:
        """Send the rest and end the MLflow run, as failed if the train run failed."""
        self._send()
        self._client.set_terminated(self._run, "FAILED" if _failed() else "FINISHED")


def _failed() -> int:
    """Return 1 if an exception is active, which ends the train run."""
    return int(sys.exc_info()[0] is not None)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
