"""Loggers of metrics: TensorBoard, and by extras Weights & Biases and MLflow.

The latter two replace Composer's own: its wandb logger calls `Run.get_url`, which wandb 0.31 does
not have, and its MLflow logger requires the complete MLflow package.
"""

import os
import re
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from composer.core import State
from composer.loggers import Logger, LoggerDestination, TensorboardLogger
from composer.utils import dist

from ixt_data.errors import ConfigError, MissingExtra
from ixt_train.config import MlflowConfig, TrainConfig, WandbConfig, flatten
from ixt_train.runs import run_folder

_FLUSH = 100
_FILE_STORE = "MLFLOW_ALLOW_FILE_STORE"
# Limits of one request to MLflow.
_METRICS_AT_ONCE, _PARAMS_AT_ONCE, _LONGEST = 1000, 100, 6000
_SECONDS = 5.0
_NOT_IN_NAMES = re.compile(r"[^\w/.: -]")


def loggers_of(config: TrainConfig, folder: Path) -> list[LoggerDestination]:
    """Return Composer's loggers for a train run; services get the first rank's metrics only.

    Raises:
        MissingExtra: the package of a service is not installed.
        ConfigError: a service rejects the settings.
    """
    wanted, settings = config.logging, flatten(config.model_dump(mode="json"))
    loggers: list[LoggerDestination] = []
    if wanted.tensorboard:
        place = str(folder / "tensorboard")
        loggers.append(Tensorboard(wanted.every, log_dir=place, flush_interval=_FLUSH))
    if dist.get_global_rank() == 0:
        if wanted.wandb is not None:
            loggers.append(Wandb(wanted.wandb, wanted.every, folder, settings))
        if wanted.mlflow is not None:
            loggers.append(Mlflow(wanted.mlflow, wanted.every, folder, settings))
    return loggers


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


class Tensorboard(ThrottledDestination, TensorboardLogger):  # type: ignore[misc]
    """Composer's TensorBoard logger, throttled."""

    def __init__(self, every: int, **settings: Any) -> None:
        super().__init__(**settings)
        self.every = every

    def write(self, metrics: dict[str, Any], step: int | None) -> None:
        """Write some metrics."""
        TensorboardLogger.log_metrics(self, metrics, step)


class Wandb(ThrottledDestination):
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


class Mlflow(ThrottledDestination):
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
        place = config.tracking_uri or os.environ.get("MLFLOW_TRACKING_URI")
        if place is None:
            place = (folder / "mlruns").as_uri()
            # Without it MLflow 3 refuses a folder; its small package supports servers only.
            os.environ.setdefault(_FILE_STORE, "true")
        self._metric, self._waiting = Metric, list[Any]()
        self._said = time.monotonic()
        params = [Param(key, str(value)[:_LONGEST]) for key, value in settings.items()]
        try:
            self._client = MlflowClient(place)
            self._run = self._begin(config, folder)
            for start in range(0, len(params), _PARAMS_AT_ONCE):
                self._client.log_batch(self._run, params=params[start : start + _PARAMS_AT_ONCE])
        except MlflowException as error:
            raise ConfigError(f"logging.mlflow: {place}: {_line(error)}") from None

    def _begin(self, config: MlflowConfig, folder: Path) -> str:
        """Return the id of the MLflow run; a tag identifies the train run."""
        own = run_folder.run_id(folder)
        known = self._client.get_experiment_by_name(config.experiment)
        if known is None:
            place = self._client.create_experiment(config.experiment)
        else:
            place = known.experiment_id
            for run in self._client.search_runs([place], f"tags.ixt_run = '{own}'", max_results=1):
                self._client.update_run(run.info.run_id, status="RUNNING")
                return str(run.info.run_id)
        name = config.name or folder.name
        made = self._client.create_run(place, tags={"ixt_run": own}, run_name=name)
        return str(made.info.run_id)

    def write(self, metrics: dict[str, Any], step: int | None) -> None:
        """Queue some metrics."""
        now = round(time.time() * 1000)
        self._waiting += [
            self._metric(_NOT_IN_NAMES.sub("_", name), float(value), now, step or 0)
            for name, value in metrics.items()
        ]
        late = time.monotonic() - self._said > _SECONDS
        if late or len(self._waiting) >= _METRICS_AT_ONCE:
            self._send()

    def _send(self) -> None:
        for start in range(0, len(self._waiting), _METRICS_AT_ONCE):
            part = self._waiting[start : start + _METRICS_AT_ONCE]
            self._client.log_batch(self._run, metrics=part)
        self._waiting, self._said = [], time.monotonic()

    def close(self, state: State, logger: Logger) -> None:
        """Send the rest and end the MLflow run, as failed if the train run failed."""
        self._send()
        self._client.set_terminated(self._run, "FAILED" if _failed() else "FINISHED")


def _failed() -> int:
    """Return 1 if an exception is active, which ends the train run."""
    return int(sys.exc_info()[0] is not None)


def _line(error: Exception) -> str:
    return " ".join(str(error).split())
