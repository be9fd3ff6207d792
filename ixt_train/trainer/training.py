"""A train run through Composer: from a config to checkpoints, metrics and draws."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack, nullcontext
from functools import partial
from pathlib import Path

import torch
from composer import Trainer
from composer.algorithms import GradientClipping
from composer.core import Algorithm, Callback, get_precision_context
from composer.utils import dist, get_device

from ixt_data.console import Output
from ixt_data.mix import Mix, MixPlan
from ixt_data.store import Store
from ixt_train.conditioning import Conditioner, build_conditioner, load_tokenizer
from ixt_train.config import TrainConfig, load_run_mix, load_train_config
from ixt_train.inference import check_head, token_losses, use_flex_attention
from ixt_train.runs import (
    Remote,
    Rewind,
    add_rewind,
    checkpoint_step,
    lock_run_folder,
    newest_checkpoint,
    observed_pairs,
    read_metrics,
    read_pairs,
    read_rewinds,
    refuse_code,
    run_folder,
)
from ixt_train.stream import MixStream, data_loader, run_on_all_ranks
from ixt_train.trainer.callbacks import ProgressBarCallback
from ixt_train.trainer.checkpoint_writer import composer_file, load_tensors
from ixt_train.trainer.compiled_layers import checkpoint_activations, compile_layers
from ixt_train.trainer.composition import CompositionCallback, SampleGroups
from ixt_train.trainer.document_probe import separate_documents
from ixt_train.trainer.equal_rows import RowPadding
from ixt_train.trainer.fsdp import sharding
from ixt_train.trainer.instability import InstabilityCallback, UnstableStep
from ixt_train.trainer.interruption import InterruptionCallback
from ixt_train.trainer.loggers import build_loggers
from ixt_train.trainer.machine import check_machine, torch_threads, worker_count
from ixt_train.trainer.measurements import Measurements
from ixt_train.trainer.optimizers import build_optimizer, load_optimizer_state
from ixt_train.trainer.profiling import ProfilerCallback
from ixt_train.trainer.run_callbacks import build_average, build_callbacks
from ixt_train.trainer.setup import recorded_plan, resumed_model, set_up, starting_model
from ixt_train.trainer.shared_plan import share_plan
from ixt_train.trainer.stage_parts import build_collator, build_data_spec, build_objective
from ixt_train.trainer.train_result import TrainResult, read_train_result
from ixt_train.trainer.warm_start import WarmStart


def train(
    config: TrainConfig | str | Path,
    *,
    overwrite: bool = False,
    out: Output | None = None,
    callbacks: Sequence[Callback] = (),
) -> TrainResult:
    """Train a model, or resume the train run in the same run folder.

    SIGTERM and SIGUSR1 end it after the current step, with a checkpoint of that step and
    SystemExit(128 + number of the signal). A second one ends it at once.

    The run folder gets the config, the plan, checkpoints, metrics.jsonl and the draws of every
    step. A finished train run returns its result without training. Libraries may print to stdout.
    Afterwards environment, working folder, stdout and threads of the process are as before; only
    the random generators have other states.

    Args:
        config: a train config, or the path of its YAML file.
        overwrite: delete the train run in the run folder first.
        out: destination of progress; None shows none.
        callbacks: additional Composer callbacks; they are not in the fingerprint.

    Returns:
        Totals, losses, tasks and the last checkpoint.

    Raises:
        ConfigError: the config, the mix or one of their files is not valid.
        MixError: the mix cannot be planned.
        FingerprintError: the run folder has another train run.
        CorruptError: a shard was changed, or no checkpoint can be read.
        StoreError: the store, the snapshot or a shard is missing; or another process trains in
            the run folder.
        TrainingError: the loss is not finite (see `instability`), or the chat template rejects
            every conversation.

    Examples:
        .. code-block:: python

            result = train("run.yaml")
            print(result.steps, result.losses["eval"], result.checkpoint)
    """
    if not isinstance(config, TrainConfig):
        config = load_train_config(config)
    check_machine(config)
    # A group of one process would only cost time: every step reduces four small tensors over it.
    if dist.get_world_size() > 1 or config.fsdp is not None:
        dist.initialize_dist(get_device(None))
    folder = Path(config.run_folder)
    is_first = dist.get_global_rank() == 0

    def open_store() -> tuple[Mix, Store]:
        mix = load_run_mix(config)
        return mix, Store.open(config.store or mix.store)

    mix, store = run_on_all_ranks(open_store)
    with ExitStack() as stack:
        stack.enter_context(torch_threads(config.threads))

        def set_up_here() -> tuple[MixPlan, Remote | None]:
            stack.enter_context(lock_run_folder(folder))
            set_up_run = partial(set_up, folder, config, mix, store, overwrite, stack, out)
            return _set_up(folder, config, overwrite, set_up_run)

        set_up_result = run_on_all_ranks(lambda: set_up_here() if is_first else None)
        first_plan, remote = set_up_result or (None, None)
        plan = share_plan(
            _cache(config) / "plan",
            lambda: first_plan or recorded_plan(folder, config, store),
        )
        conditioner = run_on_all_ranks(lambda: _conditioner(folder, config, plan.mix))
        latest = newest_checkpoint(folder)
        steps = plan.samples // config.global_batch_size
        if latest is None or (
            checkpoint_step(latest) < steps and not _was_stopped(folder, config, latest)
        ):
            with remote or nullcontext():
                fit = partial(_fit, config, store, plan, conditioner)
                while (unstable := fit(remote, out, callbacks)) is not None:
                    run_on_all_ranks(partial(_rewind, config, unstable, out if is_first else None))
        elif out is not None and is_first:
            out.note(f"the train run in {folder} is complete; nothing was trained")
    return read_train_result(folder, plan)


def _set_up(
    folder: Path, config: TrainConfig, overwrite: bool, set_up_here: Callable[[], MixPlan]
) -> tuple[MixPlan, Remote | None]:
    if config.checkpoint.remote is None:
        return set_up_here(), None
    remote = Remote(config.checkpoint.remote, folder)
    return remote.set_up(set_up_here, overwrite), remote


def _was_stopped(folder: Path, config: TrainConfig, latest: Path) -> bool:
    """Return whether the evaluation at the latest checkpoint stopped the train run."""
    rows = read_metrics(folder / run_folder.METRICS)
    at = [row["eval"] for row in rows if "eval" in row and row["step"] == checkpoint_step(latest)]
    return config.stop is not None and bool(at) and config.stop.reached(at[-1])


def _conditioner(folder: Path, config: TrainConfig, mix: Mix) -> Conditioner:
    tokenizer = load_tokenizer(folder / run_folder.TOKENIZER)
    observed = observed_pairs(run_folder.read_json(folder / run_folder.FEEDBACK))
    pairs = read_pairs(folder, config)
    return build_conditioner(config, tokenizer, mix.condition, observed, pairs)


def _fit(
    config: TrainConfig,
    store: Store,
    plan: MixPlan,
    conditioner: Conditioner,
    remote: Remote | None,
    out: Output | None,
    extra_callbacks: Sequence[Callback],
) -> UnstableStep | None:
    """Run Composer from the latest checkpoint to the end of the plan, or to an unstable step."""
    folder, tokenizer = Path(config.run_folder), conditioner.tokenizer
    checkpoint = newest_checkpoint(folder)

    def load() -> tuple[WarmStart, Measurements]:
        start_model = (
            starting_model(folder, config, tokenizer)
            if checkpoint is None
            else resumed_model(folder, config)
        )
        return start_model, Measurements(store, plan.mix, config, conditioner)

    start_model, measurements = run_on_all_ranks(load)
    shown = out if dist.get_global_rank() == 0 else None
    if shown is not None:
        measurements.note_missing(shown)
    model, has_gpu = start_model.model, torch.cuda.is_available()
    has_document_masks = config.attention == "document" and config.packing != "pad"
    if has_gpu and has_document_masks:
        use_flex_attention(model)
    losses = token_losses(config.cross_entropy, config.z_loss)
    if losses is not None:
        check_head(model)
    if config.activation_checkpointing:
        checkpoint_activations(model)
    if config.compile:
        compile_layers(model)
    batch = config.global_batch_size // dist.get_world_size()
    groups = SampleGroups(plan, config.eval.buckets)
    with ExitStack() as stack:
        stream = MixStream(
            plan,
            conditioner,
            store=store.root,
            local=_cache(config),
            batch_size=batch,
            groups=groups,
            cache_limit=config.cache.max_bytes,
        )
        collate = build_collator(config, tokenizer.pad_token_id, has_document_masks)
        loader = data_loader(
            stack.enter_context(stream), collate, workers=worker_count(config), pin_memory=has_gpu
        )
        language_model = build_objective(
            config,
            model,
            partial(starting_model, folder, config, tokenizer),
            cpu_bf16=config.precision == "amp_bf16" and not has_gpu,
            compiled=config.compile,
            losses=losses,
            z_loss=config.z_loss,
        )
        interruption = InterruptionCallback()
        ema = build_average(config, language_model, start_model)
        callbacks = [
            InstabilityCallback(config.instability, shown, read_rewinds(folder)),
            composition := CompositionCallback(groups, language_model),
            *build_callbacks(
                config, plan, language_model, measurements, ema, remote, composition, shown
            ),
            interruption,
            *([] if config.profile is None else [ProfilerCallback(folder, config.profile)]),
            *extra_callbacks,
        ]
        if shown is not None and config.logging.progress:
            steps = plan.samples // config.global_batch_size
            bar = stack.enter_context(shown.progress("Training", total=steps, unit="steps"))
            callbacks.append(ProgressBarCallback(bar, shown))
        stack.enter_context(refuse_code())
        # Ranks of a padded batch have the same number of documents, and so of rows.
        equalize = None if config.packing == "pad" else RowPadding(tokenizer.pad_token_id)
        trainer = Trainer(
            model=language_model,
            train_dataloader=build_data_spec(config, loader, equalize),
            max_duration=f"{plan.samples // config.global_batch_size}ba",
            optimizers=build_optimizer(config.optimizer, model),
            algorithms=_algorithms(config),
            callbacks=callbacks,
            loggers=build_loggers(config, folder),
            run_name=folder.name,
            progress_bar=False,
            load_path=None if checkpoint is None else str(composer_file(checkpoint)),
            load_progress_bar=False,
            precision=config.precision if has_gpu else "fp32",
            device_train_microbatch_size=config.microbatch_size or batch,
            accumulate_train_batch_on_tokens=True,
            parallelism_config=None if config.fsdp is None else {"fsdp": sharding(config.fsdp)},
            seed=config.seed,
        )
        # The trainer sets handlers of its own when it is made.
        stack.enter_context(interruption.listening())
        try:
            if has_document_masks:
                with get_precision_context(trainer.state.precision):
                    separate_documents(language_model, config.max_length, trainer.state.model)
            if checkpoint is not None and checkpoint.is_dir():
                load_tensors(trainer.state, checkpoint, ema)
            if start_model.optimizer is not None:
                load_optimizer_state(trainer, start_model.optimizer)
            trainer.fit()
        except UnstableStep as unstable:
            return UnstableStep(unstable.step, unstable.problem)
        finally:
            trainer.close()
    if interruption.received is not None:
        raise SystemExit(128 + interruption.received)
    return None


def _rewind(config: TrainConfig, unstable: UnstableStep, out: Output | None) -> None:
    """Record a rewind on the first rank, before the next `_fit`."""
    folder, dropped = Path(config.run_folder), config.instability.rewind
    assert dropped is not None
    latest = newest_checkpoint(folder)
    resumed_after = 0 if latest is None else checkpoint_step(latest)
    first = max(unstable.step - dropped, resumed_after) + 1
    if dist.get_global_rank() == 0:
        rewind = Rewind(unstable.step, first, resumed_after, unstable.problem)
        add_rewind(folder, rewind)
    if out is not None:
        out.note(
            f"{unstable}. Resuming after step {resumed_after}; the updates of steps {first} to "
            f"{unstable.step} are dropped"
        )


def _cache(config: TrainConfig) -> Path:
    """Return this machine's folder of shards: machines may share the disk of a run folder."""
    if config.cache.folder is not None:
        return Path(config.cache.folder)
    return Path(config.run_folder, run_folder.CACHE, f"node-{dist.get_node_rank()}")


def _algorithms(config: TrainConfig) -> list[Algorithm]:
    if config.grad_clip is None:
        return []
    return [GradientClipping(clipping_type="norm", clipping_threshold=config.grad_clip)]
