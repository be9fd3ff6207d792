"""A train run through Composer: from a config to checkpoints, metrics and draws in its folder."""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import (
    AbstractContextManager,
    ExitStack,
    contextmanager,
    nullcontext,
    redirect_stdout,
)
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from composer import Trainer
from composer.algorithms import GradientClipping
from composer.core import Algorithm, Callback
from composer.loggers import LoggerDestination, TensorboardLogger
from composer.utils import dist, get_device
from torch import nn
from torch.utils.data import DataLoader

from ixt_data.cli.output import Output
from ixt_data.errors import ConfigError
from ixt_data.mix import Mix, MixPlan, observed_feedback, plan_mix, samples_of, with_edges
from ixt_data.store import Store
from ixt_train import run_folder
from ixt_train.callbacks import (
    Checkpoints,
    Draws,
    Ema,
    Evaluate,
    LearningRate,
    Metrics,
    Progress,
    RandomState,
    read_metrics,
)
from ixt_train.checkpoint import newest_checkpoint, refuse_code, step_of
from ixt_train.conditioning import Conditioner
from ixt_train.config import Amount, TrainConfig, load_mix_of
from ixt_train.evaluate import Evaluator, held_out_documents
from ixt_train.models import build_model
from ixt_train.objective import LanguageModel, data_spec
from ixt_train.packing import Collator
from ixt_train.stream import MixStream
from ixt_train.tokenizer import load_tokenizer, tokenizer_id
from ixt_train.trained import feedback_record, observed_pairs
from ixt_train.vocabulary import make_tokenizer

T = TypeVar("T")


@dataclass(frozen=True)
class TrainResult:
    """What a train run came to.

    Attributes:
        steps, tokens, samples: how far it went.
        losses: `train` of the last step; `eval` held out, with each document's own feedback where
            the model takes any; None where nothing was held out.
        tasks: share of problems solved, by task.
        checkpoint: the last one.
        run_folder: where everything is.
        seconds: of training, over all resumes, without evaluation.
        digest: of the plan.
        snapshot: its version.
    """

    steps: int
    tokens: int
    samples: int
    losses: dict[str, float | None]
    tasks: dict[str, float]
    checkpoint: str
    run_folder: str
    seconds: float
    digest: str
    snapshot: int

    def record(self) -> dict[str, Any]:
        """As the command line prints it."""
        return asdict(self)


def train(
    config: TrainConfig, *, overwrite: bool = False, out: Output | None = None
) -> TrainResult:
    """Trains, or goes on where an interrupted train run of the same folder stopped.

    Args:
        config: what to train.
        overwrite: drop what the run folder holds.
        out: where to show progress; None shows none.

    Raises:
        ConfigError: the config, the mix or a file it names is wrong.
        MixError: the mix cannot be planned.
        FingerprintError: the run folder holds another train run.
    """
    _check_machine(config)
    set_threads(config.threads)
    # A group of one would only slow down: every step reduces four small tensors over it.
    if dist.get_world_size() > 1 or config.fsdp is not None:
        dist.initialize_dist(get_device(None))
    folder = Path(config.run_folder)
    mix = load_mix_of(config)
    store = Store.open(config.store or mix.store)
    pinned = {"snapshot": store.snapshot(mix.snapshot).version, "store": _absolute(store.root)}
    mix = with_edges(store, mix.model_copy(update=pinned), config.holdout)
    plan = _on_first_rank(lambda: _begin(folder, config, mix, store, overwrite))
    tokenizer = load_tokenizer(folder / run_folder.TOKENIZER)
    if plan is None:
        plan = plan_run(store, mix, config, tokenizer)
    observed = observed_pairs(run_folder.read_json(folder / run_folder.FEEDBACK))
    conditioner = Conditioner(tokenizer, mix.condition, observed)
    newest = newest_checkpoint(folder)
    steps = plan.samples // config.global_batch_size
    if newest is None or step_of(newest) < steps:
        with _pinned(store, plan.version):
            _fit(config, store, plan, conditioner, folder, newest, out)
    return _result(folder, plan)


def _check_machine(config: TrainConfig) -> None:
    for key, asked in (("fsdp", config.fsdp is not None), ("precision", _is_fp16(config))):
        if asked and not torch.cuda.is_available():
            raise ConfigError(f"{key}: {getattr(config, key)} needs a GPU, and there is none here")


def _is_fp16(config: TrainConfig) -> bool:
    return config.precision == "amp_fp16"


def _pinned(store: Store, version: int) -> AbstractContextManager[object]:
    """Keeps the train run's snapshot from garbage collection, once for all ranks."""
    return store.pins.held(version, "train") if dist.get_global_rank() == 0 else nullcontext()


def _absolute(root: str) -> str:
    return root if "://" in root else str(Path(root).resolve())


def set_threads(threads: int | None) -> None:
    """Torch threads of this process: more than the cores of the machine fight each other."""
    local = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))
    torch.set_num_threads(threads or max(1, len(os.sched_getaffinity(0)) // local))
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def plan_run(store: Store, mix: Mix, config: TrainConfig, tokenizer: Any) -> MixPlan:
    """The plan of everything that the train run draws, whole batches of it.

    A budget in tokens becomes a number of steps by the mean length of a thousand draws.

    Raises:
        ConfigError: the batch cannot be dealt out to the processes.
        MixError: the mix cannot be planned.
    """
    batch, world = config.global_batch_size, dist.get_world_size()
    if batch % world:
        raise ConfigError(f"global_batch_size: {batch} is not divisible by {world} processes")
    steps = config.duration.value
    if config.duration.unit == "tok":
        once = plan_mix(store, mix, batch=batch, holdout=config.holdout)
        mean = mean_length(store, once, Conditioner(tokenizer, mix.condition), config.max_length)
        steps = max(1, round(config.duration.value / (mean * batch)))
    return plan_mix(store, mix, steps * batch, batch=batch, holdout=config.holdout)


def mean_length(
    store: Store, plan: MixPlan, conditioner: Conditioner, longest: int, samples: int = 1000
) -> float:
    """Mean tokens of a sample, feedback included, over draws spread evenly over a plan."""
    draws = plan.order(0)
    chosen = samples_of(draws[np.linspace(0, len(draws) - 1, min(samples, len(draws))).astype(int)])
    starts = np.cumsum([0] + [text.samples for text, _ in plan.shards])
    lengths: list[int] = []
    for number, (text, critique) in enumerate(plan.shards):
        rows = chosen[(chosen >= starts[number]) & (chosen < starts[number + 1])] - starts[number]
        if not len(rows):
            continue
        texts = store.shard(text).column("text")
        told = list(store.shard(critique).rows(("critique", "score"))) if critique else None
        for row in rows.tolist():
            own = told[row] if told else {}
            lengths.append(len(conditioner.encode(texts[row], **own).input_ids))
    return float(np.minimum(lengths, longest).mean())


def _on_first_rank(action: Callable[[], T]) -> T | None:
    """The result of `action` on the first rank; the others wait for it and get None."""
    error: list[Exception | None] = [None]
    result = None
    if dist.get_global_rank() == 0:
        try:
            result = action()
        except Exception as caught:
            error[0] = caught
    # The others must not wait for a rank that gave up.
    dist.broadcast_object_list(error, src=0)
    if error[0] is not None:
        raise error[0]
    return result


def _begin(folder: Path, config: TrainConfig, mix: Mix, store: Store, overwrite: bool) -> MixPlan:
    """Fills a new run folder, or checks that the one there is of the same train run."""
    saved = None if overwrite else folder / run_folder.TOKENIZER
    tokenizer = make_tokenizer(config.tokenizer, store, mix, saved)
    plan = plan_run(store, mix, config, tokenizer)
    fingerprint = {
        **config.fingerprint(),
        "snapshot": plan.version,
        "plan.digest": plan.digest,
        "tokenizer.id": tokenizer_id(tokenizer),
    }
    there = run_folder.prepare(folder, fingerprint, overwrite)
    if there and (folder / run_folder.VERSIONS).exists():
        return plan
    tokenizer.save_pretrained(folder / run_folder.TOKENIZER)
    model = build_model(config.model, tokenizer, config.seed, config.max_length)
    model.config.save_pretrained(folder / run_folder.MODEL)
    observed = observed_feedback(store, mix) if any(mix.critics) else {}
    run_folder.write_json(folder / run_folder.FEEDBACK, feedback_record(observed))
    own = config.model_copy(update={"mix": run_folder.MIX, "store": mix.store})
    run_folder.write_yaml(folder / run_folder.CONFIG, own)
    run_folder.write_yaml(folder / run_folder.MIX, mix)
    run_folder.write_json(folder / run_folder.PLAN, plan.summary())
    # Last: a folder with it is whole.
    run_folder.write_json(folder / run_folder.VERSIONS, run_folder.versions())
    return plan


def _fit(
    config: TrainConfig,
    store: Store,
    plan: MixPlan,
    conditioner: Conditioner,
    folder: Path,
    checkpoint: Path | None,
    out: Output | None,
) -> None:
    """Runs Composer to the end of the plan."""
    tokenizer = conditioner.tokenizer
    model = build_model(config.model, tokenizer, config.seed, config.max_length)
    documents = held_out_documents(
        store, plan.mix, config.holdout, config.eval.buckets, config.eval.samples
    )
    evaluator = Evaluator(conditioner, config.eval, documents, config.max_length)
    batch = config.global_batch_size // dist.get_world_size()
    with ExitStack() as stack:
        cache = folder / run_folder.CACHE
        stream = MixStream(store.root, plan, conditioner, local=cache, batch_size=batch)
        loader: DataLoader[Any] = DataLoader(
            stack.enter_context(stream),
            batch_size=batch,
            num_workers=config.num_workers,
            collate_fn=Collator(
                tokenizer.pad_token_id,
                config.max_length,
                config.packing,
                keep_apart=config.attend == "document",
            ),
        )
        callbacks = _callbacks(config, plan, model, evaluator, folder)
        if out is not None and config.logging.progress and dist.get_global_rank() == 0:
            steps = plan.samples // config.global_batch_size
            bar = stack.enter_context(out.progress("Training", total=steps, unit="steps"))
            callbacks.append(Progress(bar, out))
        stack.enter_context(refuse_code())
        stack.enter_context(quiet_stdout())
        trainer = Trainer(
            model=LanguageModel(model),
            train_dataloader=data_spec(loader),
            max_duration=f"{plan.samples // config.global_batch_size}ba",
            optimizers=_optimizer(config, model),
            algorithms=_algorithms(config),
            callbacks=callbacks,
            loggers=_loggers(config, folder),
            run_name=folder.name,
            progress_bar=False,
            load_path=None if checkpoint is None else str(checkpoint),
            load_progress_bar=False,
            precision=config.precision,
            device_train_microbatch_size=config.microbatch_size or batch,
            accumulate_train_batch_on_tokens=True,
            parallelism_config=None if config.fsdp is None else {"fsdp": dict(config.fsdp)},
            seed=config.seed,
        )
        try:
            trainer.fit()
        finally:
            trainer.close()


def _optimizer(config: TrainConfig, model: nn.Module) -> torch.optim.AdamW:
    settings = config.optimizer
    return torch.optim.AdamW(
        model.parameters(),
        lr=settings.lr,
        betas=settings.betas,
        eps=settings.eps,
        weight_decay=settings.weight_decay,
        fused=True,
    )


def _algorithms(config: TrainConfig) -> list[Algorithm]:
    if config.grad_clip is None:
        return []
    return [GradientClipping(clipping_type="norm", clipping_threshold=config.grad_clip)]


def _loggers(config: TrainConfig, folder: Path) -> list[LoggerDestination]:
    if not config.logging.tensorboard:
        return []
    return [TensorboardLogger(log_dir=str(folder / "tensorboard"), flush_interval=100)]


def _callbacks(
    config: TrainConfig, plan: MixPlan, model: nn.Module, evaluator: Evaluator, folder: Path
) -> list[Callback]:
    """In the order in which they act: the average moves first, a checkpoint holds everything."""
    duration = Amount(value=plan.samples // config.global_batch_size)
    ema = None if config.ema is None else Ema(model, config.ema)
    draws, metrics = Draws(folder), Metrics(folder, config.logging.every)
    evaluate = Evaluate(config.eval.every, lambda: evaluator.measure(model), metrics, ema)
    checkpoint = config.checkpoint
    return [
        LearningRate(config.schedule, duration, config.optimizer.lr),
        RandomState(),
        *([] if ema is None else [ema]),
        draws,
        metrics,
        evaluate,
        Checkpoints(folder, checkpoint.every, checkpoint.keep, draws),
    ]


@contextmanager
def quiet_stdout() -> Iterator[None]:
    """Within it, what libraries print goes to stderr: stdout is for results."""
    with redirect_stdout(sys.stderr):
        yield


def _result(folder: Path, plan: MixPlan) -> TrainResult:
    rows = read_metrics(folder / run_folder.METRICS)
    last = next(row for row in reversed(rows) if "loss" in row)
    figures: dict[str, Any] = next((row["eval"] for row in reversed(rows) if "eval" in row), {})
    losses = figures.get("loss", {})
    held_out = losses.get("observed") or losses.get("none") or {}
    newest = newest_checkpoint(folder)
    return TrainResult(
        steps=last["step"],
        tokens=last["tokens"],
        samples=last["samples"],
        losses={"train": last["loss"], "eval": held_out.get("all")},
        tasks=figures.get("tasks", {}),
        checkpoint=str(newest),
        run_folder=str(folder),
        seconds=last["seconds"],
        digest=plan.digest,
        snapshot=plan.version,
    )
