"""Callbacks around Composer's steps: learning rate, averaged weights, records, checkpoints."""

import math
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from composer.core import Callback, State
from composer.loggers import Logger
from composer.utils import dist, reproducibility
from composer.utils.checkpoint import save_checkpoint

from ixt_data.console import Output, ProgressBar
from ixt_data.errors import TrainingError
from ixt_data.storage import atomic_write
from ixt_train.config import Amount, CheckpointConfig, ScheduleConfig, StopConfig
from ixt_train.runs import (
    DrawWriter,
    MetricsWriter,
    Remote,
    checkpoint_path,
    delete_checkpoint,
    delete_partial_checkpoints,
    list_checkpoints,
)
from ixt_train.runs.run_folder import METRICS
from ixt_train.stream import batch_doc_ids, batch_samples
from ixt_train.trainer.averaged_weights import EmaCallback
from ixt_train.trainer.checkpoint_writer import CheckpointWriter
from ixt_train.trainer.composition import CompositionCallback
from ixt_train.trainer.pair_metrics import PairCallback
from ixt_train.trainer.rejections import RejectionCallback
from ixt_train.trainer.speed import SpeedMeter


def steps_and_tokens(state: State) -> tuple[int, int]:
    """Return the number of steps and tokens done."""
    return int(state.timestamp.batch), int(state.timestamp.token)


def is_due(every: Amount, state: State) -> bool:
    """Return whether the last step crossed a multiple of `every`, or was the final one."""
    if state.timestamp >= state.max_duration:
        return True
    previous = state.previous_timestamp
    if every.value == 0 or previous is None:
        return False
    done = math.floor(every.of(*steps_and_tokens(state)))
    return done > math.floor(every.of(int(previous.batch), int(previous.token)))


def learning_rate_factor(
    schedule: ScheduleConfig, duration: Amount, steps: int, tokens: int
) -> float:
    """Return the share of the maximum learning rate for the step after `steps` and `tokens`."""
    ramp = schedule.warmup.of(steps + 1, tokens + 1)
    if ramp < 1:
        return ramp
    if schedule.kind == "constant":
        return 1.0
    done = min(1.0, duration.of(steps, tokens))
    if schedule.kind == "wsd":
        left = min(1.0, (1 - done) / schedule.decay)
        return schedule.final + (1 - schedule.final) * left
    # Cosine starts at the end of the warm-up; if the units differ, at the start of the train run.
    same_unit = schedule.warmup.unit == duration.unit
    warm = schedule.warmup.value / duration.value if same_unit else 0.0
    share = (done - warm) / (1 - warm) if warm < 1 else 1.0
    return schedule.final + (1 - schedule.final) * (1 + math.cos(math.pi * share)) / 2


class LearningRateCallback(Callback):  # type: ignore[misc]
    """A setter of the learning rate before each step, from the step's number alone.

    Composer steps its schedulers before it advances the clock, and the first two steps would share
    a rate. This callback has no state to save.
    """

    def __init__(self, schedule: ScheduleConfig, duration: Amount, highest: float) -> None:
        self._schedule, self._duration, self._highest = schedule, duration, highest

    def batch_start(self, state: State, logger: Logger) -> None:
        """Set the rate of this step."""
        factor = learning_rate_factor(self._schedule, self._duration, *steps_and_tokens(state))
        for optimizer in state.optimizers:
            for group in optimizer.param_groups:
                rate = self._highest * factor
                if isinstance(group["lr"], torch.Tensor):
                    group["lr"].fill_(rate)
                else:
                    group["lr"] = rate


class RandomStateCallback(Callback):  # type: ignore[misc]
    """A carrier of every rank's random state across a resume.

    Composer restores it only at the start of an epoch if the loader resumes by itself.
    """

    def __init__(self) -> None:
        self._loaded: list[dict[str, Any]] | None = None

    def state_dict(self) -> dict[str, Any]:
        """Return the random state by rank."""
        return {"ranks": reproducibility.get_rng_state()}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Store the state until the first batch: a starting loader draws random numbers."""
        self._loaded = state["ranks"]

    def after_dataloader(self, state: State, logger: Logger) -> None:
        """Restore the state once."""
        if self._loaded is not None:
            reproducibility.load_rng_state(self._loaded)
            self._loaded = None


class DrawsCallback(Callback):  # type: ignore[misc]
    """A recorder of the documents of every step."""

    def __init__(self, run_folder: Path) -> None:
        self._writer = DrawWriter(run_folder, dist.get_global_rank(), dist.get_world_size())

    def fit_start(self, state: State, logger: Logger) -> None:
        """Drop the records of an interrupted train run after the checkpoint."""
        self._writer.start_after(int(state.timestamp.batch))

    def batch_end(self, state: State, logger: Logger) -> None:
        """Record one step."""
        self._writer.add(int(state.timestamp.batch), batch_doc_ids(state.batch))

    def flush(self) -> None:
        """Flush the records to the disk."""
        self._writer.flush()


class MetricsCallback(Callback):  # type: ignore[misc]
    """A writer of metrics.jsonl: a row every few steps, and a row per evaluation."""

    def __init__(
        self,
        run_folder: Path,
        every: int,
        speed: SpeedMeter,
        composition: CompositionCallback,
        *,
        rejections: RejectionCallback | None = None,
        pairs: PairCallback | None = None,
    ) -> None:
        self._writer, self._rejections = MetricsWriter(run_folder / METRICS), rejections
        self._pairs = pairs
        self._every, self._speed, self._composition = every, speed, composition

    def fit_start(self, state: State, logger: Logger) -> None:
        """Supersede rows after the checkpoint."""
        self._speed.resume(state)
        if dist.get_global_rank() == 0:
            self._writer.resume_after(int(state.timestamp.batch))

    def batch_end(self, state: State, logger: Logger) -> None:
        """Write the row of a step."""
        self._speed.add(state.batch, batch_samples(state.batch))
        if is_due(Amount(value=self._every), state):
            loss = state.total_loss_dict["loss/train/total"]
            rate = state.optimizers[0].param_groups[0]["lr"]
            speed = self._speed.measure(state)
            composition = self._composition.measure()
            logger.log_metrics({"lr": rate} | {f"speed/{k}": v for k, v in speed.items()})
            logger.log_metrics(flatten_metrics(composition, "mix"))
            # The update of such a step was skipped.
            value: dict[str, Any] = {"loss": loss} if math.isfinite(loss) else {"skipped": True}
            if self._rejections is not None:
                value["rejected"] = self._rejections.count()
                logger.log_metrics({"mix/rejected": value["rejected"]})
            if self._pairs is not None:
                value["preference"] = self._pairs.measure()
                logger.log_metrics(flatten_metrics(value["preference"], "preference"))
            self.write(state, value | {"lr": rate} | speed | {"mix": composition})

    def write(self, state: State, fields: dict[str, Any]) -> None:
        """Append a row with the clocks of `state`."""
        steps, tokens = steps_and_tokens(state)
        clocks = {
            "step": steps,
            "tokens": tokens,
            "samples": int(state.timestamp.sample),
            "seconds": round(state.timestamp.total_wct.total_seconds(), 3),
        }
        if dist.get_global_rank() == 0:
            self._writer.write(clocks | fields)

    def flush(self) -> None:
        """Flush the rows to the disk."""
        if dist.get_global_rank() == 0:
            self._writer.flush()


class CheckpointCallback(Callback):  # type: ignore[misc]
    """A writer of complete checkpoints, after all records of their steps are on the disk."""

    def __init__(
        self,
        run_folder: Path,
        config: CheckpointConfig,
        records: Sequence[DrawsCallback | MetricsCallback | RejectionCallback],
        remote: Remote | None,
        ema: EmaCallback | None,
    ) -> None:
        self._run_folder, self._config, self._records = run_folder, config, tuple(records)
        self._remote = remote
        self._writer = CheckpointWriter(ema, self._publish) if config.asynchronous else None

    def fit_start(self, state: State, logger: Logger) -> None:
        """Delete what a killed process left."""
        if dist.get_global_rank() == 0:
            delete_partial_checkpoints(self._run_folder)

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        """Write a checkpoint if one is due."""
        if self._writer is not None:
            self._writer.check()
        if not is_due(self._config.every, state):
            return
        for record in self._records:
            record.flush()
        dist.barrier()
        step = int(state.timestamp.batch)
        path = checkpoint_path(self._run_folder, step, self._config.asynchronous)
        if self._writer is not None:
            self._writer.save(state, path)
            return
        # Every rank gathers the state; only the first rank has a file to rename.
        if dist.get_global_rank() == 0:
            try:
                atomic_write(path, lambda partial: save_checkpoint(state, str(partial)))
            except (OSError, RuntimeError) as error:
                # torch reports a full disk as a RuntimeError.
                raise TrainingError(
                    f"{path}: the checkpoint of step {step} could not be written: {error}"
                ) from error
            self._publish(path)
        else:
            save_checkpoint(state, str(path))
        dist.barrier()

    def _publish(self, path: Path) -> None:
        """Upload a complete checkpoint, and delete those that are not retained."""
        if self._remote is not None:
            self._remote.push(path, self._config.keep)
        for old in list_checkpoints(self._run_folder)[self._config.keep :]:
            delete_checkpoint(old)

    def fit_end(self, state: State, logger: Logger) -> None:
        """Wait for the last checkpoint."""
        if self._writer is not None:
            self._writer.wait()
            dist.barrier()

    def close(self, state: State, logger: Logger) -> None:
        """Wait for the checkpoint in progress of a train run that failed."""
        if self._writer is not None:
            self._writer.close()


class EvaluationCallback(Callback):  # type: ignore[misc]
    """An evaluation on the averaged weights, if there are any; it writes a row of metrics."""

    def __init__(
        self,
        every: Amount,
        measure: Callable[[], dict[str, Any]],
        metrics: MetricsCallback,
        ema: EmaCallback | None,
        stop: StopConfig | None = None,
    ) -> None:
        self._every, self._measure, self._metrics = every, measure, metrics
        self._averaged = nullcontext if ema is None else ema.averaged
        self._stop = stop

    def batch_end(self, state: State, logger: Logger) -> None:
        """Evaluate if it is due."""
        if not is_due(self._every, state):
            return
        state.model.eval()
        # Evaluation has rows of many lengths, each of which torch.compile would compile.
        with torch.compiler.set_stance("force_eager"), self._averaged():
            measured = self._measure()
        state.model.train()
        self._metrics.write(state, {"eval": measured})
        logger.log_metrics(flatten_metrics(measured))
        if self._stop is not None and _broadcast_decision(self._stop.reached(measured)):
            # The checkpoint of this step is then the last one: it follows this event.
            state.stop_training()


def _broadcast_decision(decision: bool) -> bool:
    """Return the first rank's decision: metrics of other ranks may differ in the last digit."""
    decisions = [decision]
    dist.broadcast_object_list(decisions, src=0)
    return decisions[0]


def flatten_metrics(measured: dict[str, Any], prefix: str = "eval") -> dict[str, float]:
    """Return the numbers in nested metrics, by path as TensorBoard expects it."""
    flat: dict[str, float] = {}
    for key, value in measured.items():
        if isinstance(value, dict):
            flat |= flatten_metrics(value, f"{prefix}/{key}")
        elif isinstance(value, int | float):
            flat[f"{prefix}/{key}"] = float(value)
    return flat


class ProgressBarCallback(Callback):  # type: ignore[misc]
    """A progress bar; it writes a line to the log from time to time if stderr is not a terminal."""

    def __init__(self, bar: ProgressBar, out: Output, quiet_seconds: float = 15.0) -> None:
        self._bar, self._out, self._quiet_seconds = bar, out, quiet_seconds
        self._last_report = time.monotonic()

    def batch_end(self, state: State, logger: Logger) -> None:
        """Show the step and its loss."""
        step, loss = int(state.timestamp.batch), state.total_loss_dict["loss/train/total"]
        self._bar.update(step, note=f"loss {loss:.4f}")
        now = time.monotonic()
        if not self._out.log.is_terminal and now - self._last_report > self._quiet_seconds:
            self._last_report = now
            self._out.note(f"step {step:,} of {int(state.max_duration):,}, loss {loss:.4f}")


class HookCallback(Callback):  # type: ignore[misc]
    """A callback that calls functions at the start of training and at the end of each step."""

    def __init__(self, on_start: Callable[[], None], on_step_end: Callable[[], None]) -> None:
        self._on_start, self._on_step_end = on_start, on_step_end

    def fit_start(self, state: State, logger: Logger) -> None:
        """Call the function for the start of training."""
        self._on_start()

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        """Call the function for the end of a step, after its checkpoint."""
        self._on_step_end()
