"""The setup of a train run: its plan, its tokenizer, and the records in its run folder."""

import json
from contextlib import ExitStack
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import torch
from composer.utils import dist

from ixt_data.console import Output
from ixt_data.errors import ConfigError, FingerprintError
from ixt_data.export import PairTable
from ixt_data.mix import (
    Mix,
    MixPlan,
    load_mix,
    observed_feedback,
    plan_mix,
    with_edges,
)
from ixt_data.store import Store
from ixt_train.conditioning import (
    build_conditioner,
    control_tokens,
    prepare_tokenizer,
    set_chat_template,
    template_id,
    tokenizer_id,
)
from ixt_train.config import TokenizerConfig, TrainConfig
from ixt_train.inference import (
    build_model,
    model_like,
    save_adapters,
    save_model_config,
    with_adapters,
)
from ixt_train.runs import feedback_record, fetch_run, read_pairs, run_folder, scope_of
from ixt_train.trainer.drawn_samples import check_targets, mean_length
from ixt_train.trainer.run_pairs import find_pairs
from ixt_train.trainer.token_budget import TokenCounter, plan_tokens
from ixt_train.trainer.warm_start import (
    StartingCheckpoint,
    WarmStart,
    copy_model,
    find_starting_checkpoint,
    kept_checkpoint,
    model_id,
    start_from,
)


def set_up(
    folder: Path,
    config: TrainConfig,
    mix: Mix,
    store: Store,
    overwrite: bool,
    pins: ExitStack,
    out: Output | None = None,
) -> MixPlan:
    """Fill a new run folder, or check that the existing one is of the same train run.

    A train run without a step is replaced by another one. Pin the snapshot against garbage
    collection until `pins` closes.

    Raises:
        ConfigError: the config, or a file that it names, is wrong.
        MixError: the mix cannot be planned.
        FingerprintError: the run folder holds another train run.
    """
    try:
        return _set_up(folder, config, mix, store, overwrite, pins, out)
    except FingerprintError:
        if overwrite or run_folder.has_steps(folder) or _inputs_inside(folder, config):
            raise
    if out is not None:
        out.note(f"{folder} has a train run of another config without a step; it is replaced")
    return _set_up(folder, config, mix, store, True, pins, out)


def _set_up(
    folder: Path,
    config: TrainConfig,
    mix: Mix,
    store: Store,
    overwrite: bool,
    pins: ExitStack,
    out: Output | None,
) -> MixPlan:
    if overwrite:
        _check_inputs(folder, config)
    mix, version = pin_mix(folder, config, mix, store, overwrite)
    pins.enter_context(store.pins.hold(version, "train"))
    with ExitStack() as stack:
        sources, source_fingerprint = _sources(folder, config, overwrite, stack)
        tokenizer = _tokenizer(folder, config, mix, store, sources, overwrite)
        samples = None if overwrite else run_folder.planned_samples(folder)
        pairs = find_pairs(folder, config, mix, store, overwrite, stack, out)
        plan = plan_run(store, mix, config, tokenizer, samples, out, pairs)
        if samples is None:
            conditioner = build_conditioner(config, tokenizer, plan.mix.condition, pairs=pairs)
            check_targets(store, plan, conditioner, config)
        fingerprint = {
            **config.fingerprint(),
            "snapshot": plan.version,
            "plan.digest": plan.digest,
            "tokenizer.id": tokenizer_id(tokenizer),
            **_template_fingerprint(config, tokenizer),
            **({} if pairs is None else {"preference.pairs": len(pairs)}),
            **source_fingerprint,
        }
        already_exists = run_folder.prepare_folder(folder, fingerprint, overwrite)
        if not already_exists or not (folder / run_folder.VERSIONS).exists():
            if pairs is not None and pairs.path.parent != folder:
                run_folder.copy_file(pairs.path, folder / run_folder.PAIRS)
            _fill(folder, config, store, plan, tokenizer, sources)
    return plan


def pin_mix(
    folder: Path, config: TrainConfig, mix: Mix, store: Store, overwrite: bool
) -> tuple[Mix, int]:
    """Return the mix with snapshot, saved selections and score edges resolved, and the version.

    A train run keeps its snapshot: others may have committed since it started. A new one gets the
    snapshot that the mix names, or the latest.

    Raises:
        FingerprintError: the mix names another snapshot than the train run in the folder.
        StoreError: the store has no such snapshot.
    """
    pinned = None if overwrite else run_folder.pinned_snapshot(folder)
    if pinned is not None and mix.snapshot is None:
        version = pinned
    else:
        version = store.snapshot(mix.snapshot).version
    if pinned is not None and version != pinned:
        raise FingerprintError(
            f"snapshot: the mix names {mix.snapshot!r}, which is version {version}, and the train "
            f"run in {folder} uses version {pinned}. Remove snapshot from the mix to resume that "
            "train run, or choose another run_folder"
        )
    resolved = {"snapshot": version, "store": _absolute(store.root)}
    return with_edges(store, mix.model_copy(update=resolved), config.holdout), version


def _absolute(root: str) -> str:
    return root if "://" in root else str(Path(root).resolve())


def _fill(
    folder: Path,
    config: TrainConfig,
    store: Store,
    plan: MixPlan,
    tokenizer: Any,
    sources: StartingCheckpoint | Path | None,
) -> None:
    """Write everything that reproduces the train run into its folder."""
    mix = plan.mix
    tokenizer.save_pretrained(folder / run_folder.TOKENIZER)
    if isinstance(sources, StartingCheckpoint):
        sources.link_into(folder)
    elif sources is not None:
        copy_model(sources, folder)
    if config.lora is not None:
        tokens = control_tokens(tokenizer)
        save_adapters(folder / run_folder.MODEL, config.lora, tokens)
    start_model = starting_model(folder, config, tokenizer)
    save_model_config(start_model.model, folder / run_folder.MODEL)
    observed = observed_feedback(store, mix, config.holdout) if any(mix.critics) else {}
    run_folder.write_json(folder / run_folder.FEEDBACK, feedback_record(observed))
    run_folder.write_yaml(folder / run_folder.SUBMITTED, config)
    run_folder.write_yaml(folder / run_folder.CONFIG, _run_config(folder, config, mix))
    run_folder.write_yaml(folder / run_folder.MIX, mix)
    run_folder.write_json(folder / run_folder.PLAN, plan.summary())
    # Last: a folder with this file is complete.
    run_folder.write_json(folder / run_folder.VERSIONS, run_folder.versions())


def _check_inputs(folder: Path, config: TrainConfig) -> None:
    """Refuse to delete a run folder that contains inputs of this train run."""
    for key, path in _inputs_inside(folder, config):
        raise ConfigError(
            f"--overwrite: {key} is {path}, which would be deleted with {folder}. Choose "
            "another run_folder"
        )


def _inputs_inside(folder: Path, config: TrainConfig) -> list[tuple[str, str]]:
    """Return the keys and paths of inputs of this train run that are in its run folder."""
    paths = [
        *(("model.path", part.path) for part in [config.model] if part),
        *(("tokenizer.path", part.path) for part in [config.tokenizer] if part),
        *(("start.checkpoint", part.checkpoint) for part in [config.start] if part),
        *(("mix", config.mix) for _ in [0] if isinstance(config.mix, str)),
    ]
    return [(key, p) for key, p in paths if p is not None and Path(p).is_relative_to(folder)]


def _sources(
    folder: Path, config: TrainConfig, overwrite: bool, stack: ExitStack
) -> tuple[StartingCheckpoint | Path | None, dict[str, Any]]:
    """Return the source of the weights, if any, and its part of the fingerprint.

    A train run that has started resumes without the source.
    """
    path = config.start.checkpoint if config.start else config.model_path
    if path is None:
        return None, {}
    fingerprint_path = folder / run_folder.FINGERPRINT
    if not overwrite and not Path(path).exists() and fingerprint_path.exists():
        source_fingerprint = json.loads(fingerprint_path.read_text())
        keys = [k for k in source_fingerprint if k.startswith("start.") or k == "model.weights"]
        return None, {k: source_fingerprint[k] for k in keys if k != "start.optimizer"}
    if config.start is None:
        return Path(path), {"model.weights": model_id(Path(path))}
    start = config.start
    if "://" in path:
        folder.parent.mkdir(parents=True, exist_ok=True)
        download_folder = stack.enter_context(
            TemporaryDirectory(dir=folder.parent, prefix=".start-")
        )
        start = start.model_copy(update={"checkpoint": str(fetch_run(path, Path(download_folder)))})
    origin = find_starting_checkpoint(start)
    return origin, {f"start.{key}": value for key, value in origin.record.items()}


def _tokenizer(
    folder: Path,
    config: TrainConfig,
    mix: Mix,
    store: Store,
    sources: StartingCheckpoint | Path | None,
    overwrite: bool,
) -> Any:
    saved = folder / run_folder.TOKENIZER
    if config.tokenizer is None:
        source = sources.tokenizer if isinstance(sources, StartingCheckpoint) else saved
        tokenizer = prepare_tokenizer(source, store, mix, None)
    else:
        tokenizer = prepare_tokenizer(config.tokenizer, store, mix, None if overwrite else saved)
    if config.has_chat:
        set_chat_template(tokenizer, config.sft.template)
    return tokenizer


def _template_fingerprint(config: TrainConfig, tokenizer: Any) -> dict[str, str]:
    if not config.has_chat:
        return {}
    return {"sft.template": template_id(tokenizer, config.sft.date)}


def _run_config(folder: Path, config: TrainConfig, mix: Mix) -> TrainConfig:
    """Return the config with the files of the run folder as its inputs."""
    tasks = []
    for number, task in enumerate(config.eval.tasks):
        name = None
        if task.path is not None:
            name = f"{run_folder.TASKS}/{number}.jsonl"
            run_folder.copy_file(Path(task.path), folder / name)
        tasks.append(task.model_copy(update={"path": name}))
    update: dict[str, Any] = {
        "mix": run_folder.MIX,
        "store": mix.store,
        "eval": config.eval.model_copy(update={"tasks": tuple(tasks)}),
        "sft": config.sft.model_copy(update={"template": None}),
    }
    if config.tokenizer is not None:
        update["tokenizer"] = TokenizerConfig(path=run_folder.TOKENIZER)
    if config.model is not None and config.model.path is not None:
        update["model"] = config.model.model_copy(update={"path": run_folder.START})
    if config.start is not None:
        checkpoint_update = {"checkpoint": f"{run_folder.START}/{kept_checkpoint(folder).name}"}
        update["start"] = config.start.model_copy(update=checkpoint_update)
    return config.model_copy(update=update)


def starting_model(folder: Path, config: TrainConfig, tokenizer: Any) -> WarmStart:
    """Return the model of step 0, from the files of the run folder.

    The first rank of a model that FSDP2 shards has the weights, and sends the others their parts.
    """
    start = _start_without_adapters(folder, config, tokenizer)
    if config.lora is None:
        return start
    torch.manual_seed(config.seed)
    return WarmStart(with_adapters(start.model, folder / run_folder.MODEL))


def _start_without_adapters(folder: Path, config: TrainConfig, tokenizer: Any) -> WarmStart:
    if config.start is not None:
        checkpoint_update = config.start.model_copy(
            update={"checkpoint": str(kept_checkpoint(folder))}
        )
        return start_from(
            find_starting_checkpoint(checkpoint_update), checkpoint_update, tokenizer, config.seed
        )
    assert config.model is not None
    if _gets_its_part(config):
        return WarmStart(model_like(folder / run_folder.MODEL, empty=True))
    model = config.model
    if model.path is not None:
        model = model.model_copy(update={"path": str(folder / run_folder.START)})
    return WarmStart(build_model(model, tokenizer, config.seed, config.max_length))


def resumed_model(folder: Path, config: TrainConfig) -> WarmStart:
    """Return a model for the weights of a checkpoint of this train run."""
    model = folder / run_folder.MODEL
    return WarmStart(with_adapters(model_like(model, empty=_gets_its_part(config)), model))


def _gets_its_part(config: TrainConfig) -> bool:
    """Return whether this rank gets its part of the model from the first rank."""
    has_parts = config.fsdp is not None and config.fsdp.get("version") == 2
    return has_parts and config.lora is None and dist.get_global_rank() > 0


def plan_run(
    store: Store,
    mix: Mix,
    config: TrainConfig,
    tokenizer: Any,
    samples: int | None = None,
    out: Output | None = None,
    pairs: PairTable | None = None,
) -> MixPlan:
    """Plan all draws of the train run, in complete batches.

    A budget in tokens becomes the number of steps whose draws have the nearest number of tokens.
    This happens once: `samples` is the number that the run folder has.

    Raises:
        ConfigError: the batch cannot be divided among the processes.
        MixError: the mix cannot be planned.
    """
    batch, world = config.global_batch_size, dist.get_world_size()
    if batch % world:
        raise ConfigError(f"global_batch_size: {batch} is not divisible by {world} processes")

    def plan(count: int | None) -> MixPlan:
        return plan_mix(
            mix, count, store=store, batch=batch, holdout=config.holdout, scope_of=scope_of(pairs)
        )

    budget = config.duration.value
    if config.duration.unit == "ba":
        return plan(budget * batch)
    if samples is not None and not samples % batch:
        return plan(samples)
    observed = observed_feedback(store, mix, config.holdout) if any(mix.critics) else {}
    conditioner = build_conditioner(config, tokenizer, mix.condition, observed, pairs)
    mean = mean_length(store, plan(None), conditioner, config.max_length)
    counter = TokenCounter(store, conditioner, config.cut_length, out)
    return plan_tokens(budget, batch, max(1, round(budget / (mean * batch))), plan, counter)


def recorded_plan(folder: Path, config: TrainConfig, store: Store) -> MixPlan:
    """Compute the plan that a complete run folder records."""
    return plan_mix(
        load_mix(folder / run_folder.MIX),
        run_folder.planned_samples(folder),
        store=store,
        batch=config.global_batch_size,
        holdout=config.holdout,
        scope_of=scope_of(read_pairs(folder, config)),
    )
