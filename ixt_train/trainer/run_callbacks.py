"""The Composer callbacks of a train run, from its config."""

from pathlib import Path

from composer.core import Callback

from ixt_data.console import Output
from ixt_data.mix import MixPlan
from ixt_train.config import Amount, TrainConfig
from ixt_train.inference import model_size
from ixt_train.runs import Remote
from ixt_train.trainer.averaged_weights import EmaCallback
from ixt_train.trainer.callbacks import (
    CheckpointCallback,
    DrawsCallback,
    EvaluationCallback,
    LearningRateCallback,
    MetricsCallback,
    RandomStateCallback,
)
from ixt_train.trainer.composition import CompositionCallback
from ixt_train.trainer.measurements import Measurements
from ixt_train.trainer.objective import LanguageModel
from ixt_train.trainer.pair_metrics import PairCallback
from ixt_train.trainer.preference_model import PreferenceModel
from ixt_train.trainer.rejections import RejectionCallback
from ixt_train.trainer.speed import SpeedMeter
from ixt_train.trainer.warm_start import WarmStart


def build_average(
    config: TrainConfig, model: LanguageModel, start_model: WarmStart
) -> EmaCallback | None:
    """Build the callback of averaged weights, or None without an average."""
    if config.ema is None:
        return None
    return EmaCallback(
        model,
        config.ema,
        start_model.averaged,
        start_model.step,
        sharded=config.fsdp is not None,
        in_parts=config.checkpoint.asynchronous,
    )


def build_callbacks(
    config: TrainConfig,
    plan: MixPlan,
    model: LanguageModel,
    measurements: Measurements,
    ema: EmaCallback | None,
    remote: Remote | None,
    composition: CompositionCallback,
    out: Output | None,
) -> list[Callback]:
    """Return callbacks in order of execution: the average first, the checkpoint last."""
    duration = Amount(value=plan.samples // config.global_batch_size)
    folder, sharded = Path(config.run_folder), config.fsdp is not None
    draws = DrawsCallback(folder)
    speed = SpeedMeter(model_size(model.model), config.attention == "document")
    # Only conversations can be rejected; ranks of other stages would wait for nothing.
    rejections = [RejectionCallback(folder, out)] if config.has_chat else []
    pairs = [PairCallback(model)] if isinstance(model, PreferenceModel) else []
    metrics = MetricsCallback(
        folder,
        config.logging.every,
        speed,
        composition,
        rejections=next(iter(rejections), None),
        pairs=next(iter(pairs), None),
    )
    evaluate = EvaluationCallback(
        config.eval.every,
        lambda: measurements.measure(model, sharded),
        metrics,
        ema,
        config.stop,
    )
    return [
        LearningRateCallback(config.schedule, duration, config.optimizer.lr),
        RandomStateCallback(),
        *([] if ema is None else [ema]),
        draws,
        *rejections,
        *pairs,
        metrics,
        evaluate,
        CheckpointCallback(folder, config.checkpoint, (draws, metrics, *rejections), remote, ema),
    ]
