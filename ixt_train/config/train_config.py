"""The train config: YAML and dotted overrides, validated before any heavy import."""

from collections.abc import Iterable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import Field, PositiveInt, model_validator

from ixt_data.config import ConfigModel, load_config, validate
from ixt_data.mix import Mix, load_mix, store_at
from ixt_train.config.amount import Amount, AmountText
from ixt_train.config.eval_config import EvalConfig, StopConfig, flatten
from ixt_train.config.instability_config import InstabilityConfig
from ixt_train.config.logger_config import MlflowConfig, WandbConfig
from ixt_train.config.lora_config import LoraConfig
from ixt_train.config.model_config import ModelConfig, TokenizerConfig
from ixt_train.config.optimizer_config import OptimizerConfig, ScheduleConfig
from ixt_train.config.profile_config import ProfileConfig
from ixt_train.config.stage_config import PreferenceConfig, SftConfig, StartConfig, TrainStage

# Settings that do not change the weights, and paths: the content of a path is in the fingerprint.
NOT_IN_FINGERPRINT: dict[str, Any] = {
    "mix": True,
    "store": True,
    "run_folder": True,
    "logging": True,
    "profile": True,
    "num_workers": True,
    "cache": True,
    "compile": True,
    "activation_checkpointing": True,
    "cross_entropy": True,
    "instability": True,
    "threads": True,
    "eval": True,
    "stop": True,
    "checkpoint": True,
    "tokenizer": True,
    "model": {"path"},
    "start": {"checkpoint"},
    "sft": {"template"},
}


class CacheConfig(ConfigModel):
    """The local copies of shards that a train run reads; deleted when the train run ends."""

    folder: str | None = None
    """A folder on a disk of this machine, relative to the working folder; null uses one folder
    per machine in the run folder."""
    max_bytes: PositiveInt | None = None
    """Maximum bytes of cached shards; null caches every shard that the train run reads."""


class CheckpointConfig(ConfigModel):
    """The checkpoints of a train run."""

    every: AmountText = Amount(value=500)
    """Distance between checkpoints; every train run writes one at its end. 0: only at the end."""
    keep: PositiveInt = 2
    """Number of most recent checkpoints to retain."""
    asynchronous: bool = False
    """Write checkpoints in the background, while training continues: folders to which each process
    writes its part of the model. Training waits for a copy in memory only."""
    remote: Annotated[str, Field(pattern="^s3://.+")] | None = None
    """An address such as s3://bucket/prefix. Complete checkpoints are copied there, with the rest
    of the run folder that a resume on another machine needs."""


class LoggingConfig(ConfigModel):
    """Destinations of metrics, next to metrics.jsonl in the run folder."""

    every: PositiveInt = 10
    """Steps between rows of metrics.jsonl and between points in the services below."""
    tensorboard: bool = True
    """Write TensorBoard files into the run folder."""
    progress: bool = True
    """Show progress on stderr."""
    wandb: WandbConfig | None = None
    """Weights & Biases; `{}` uses the defaults."""
    mlflow: MlflowConfig | None = None
    """MLflow; `{}` uses the defaults."""
    plugins: dict[str, dict[str, Any]] = Field(default_factory=dict)
    """More loggers by name, each with its options; `ixt plugins` lists them."""


class TrainConfig(ConfigModel):
    """Every setting of a train run."""

    mix: str | dict[str, Any]
    """A mix YAML, relative to this file, or the mix itself."""
    run_folder: str
    """Folder of checkpoints, metrics, draws and everything else that reproduces the train run,
    relative to the working folder."""
    store: str | None = None
    """Root of the store, relative to the working folder; null uses the mix's."""
    seed: Annotated[int, Field(ge=0)] = 17
    """Seed of the initial weights and of dropout; the mix's seed decides the order of samples."""
    stage: TrainStage = "pretrain"
    """Stage of training: pretrain, midtrain, sft or preference."""
    model: ModelConfig | None = None
    """The model, unless `start` provides it."""
    tokenizer: TokenizerConfig | None = None
    """The tokenizer, unless `start` provides it."""
    start: StartConfig | None = None
    """A previous train run to continue, as in midtrain, sft and preference."""
    lora: LoraConfig | None = None
    """Train low-rank adapters of the model of `start` or `model.path`; null trains all weights."""
    sft: SftConfig = SftConfig()
    """Conversations; only for stages sft and preference."""
    preference: PreferenceConfig = PreferenceConfig()
    """Pairs of answers and their loss; only for stage preference."""
    max_length: PositiveInt = 1024
    """Maximum length of a sequence, in tokens; longer documents are truncated."""
    packing: Literal["pad", "concat", "best_fit"] = "pad"
    """`pad`: one document per row. `concat`: documents fill rows of at most max_length.
    `best_fit`: such rows contain several complete documents."""
    split: Literal["never", "long", "fill"] = "never"
    """`best_fit`: `never` truncates a document longer than a row. `long` splits it into several
    rows, and `fill` splits documents to fill rows, all to the same length."""
    attention: Literal["row", "document"] = "row"
    """Scope of attention: a token attends to its `row`, or only to its own `document`."""
    global_batch_size: PositiveInt = 32
    """Documents per step, over all processes."""
    microbatch_size: PositiveInt | Literal["auto"] | None = None
    """Rows per forward pass and process; null takes the whole batch, and auto, on a GPU, the most
    that fit its memory."""
    duration: AmountText
    """Length of training, in steps or tokens."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """The optimizer."""
    schedule: ScheduleConfig = ScheduleConfig()
    """The learning rate."""
    precision: Literal["fp32", "amp_bf16", "amp_fp16"] = "fp32"
    """Precision of the model's operations: fp32, or bfloat16 or float16 where torch's autocast
    allows it. Weights, optimizer and loss stay fp32. amp_fp16 needs a GPU."""
    compile: bool = False
    """Compile each layer of the model and the loss by torch.compile; the first steps take
    longer."""
    activation_checkpointing: bool = False
    """Compute the activations of each layer again in the backward pass: less memory, a third more
    operations."""
    cross_entropy: Literal["dense", "chunked", "cut"] = "dense"
    """`dense` computes the logits of all tokens of a micro-batch. `chunked` computes those of 1,024
    tokens at a time, and again in the backward pass: less memory with a large vocabulary. `cut` is
    the kernel of the package cut-cross-entropy, on a GPU."""
    z_loss: Annotated[float, Field(ge=0)] = 0.0
    """Weight of the squared logarithm of the softmax's denominator, added to the loss of each
    token; 1e-4 keeps logits small."""
    grad_clip: Annotated[float, Field(gt=0)] | None = 1.0
    """Maximum norm of the gradient; null does not clip."""
    instability: InstabilityConfig = InstabilityConfig()
    """Steps whose loss is not finite, or far above the others."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of the averaged weights that are evaluated and exported; null does not average."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of documents, selected by doc_id, that training never draws."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Checkpoints."""
    eval: EvalConfig = EvalConfig()
    """Evaluation."""
    stop: StopConfig | None = None
    """Condition to stop before `duration`; null trains to the end."""
    logging: LoggingConfig = LoggingConfig()
    """Logging."""
    profile: ProfileConfig | None = None
    """A trace of some steps; null records none."""
    num_workers: Annotated[int, Field(ge=0)] | None = None
    """Processes per rank that read and tokenize; null takes none on a CPU, and on a GPU up to 4 of
    the cores that other ranks of the machine leave."""
    cache: CacheConfig = CacheConfig()
    """Local cache of shards."""
    threads: PositiveInt | None = None
    """Torch threads per process; null divides the cores among the processes of this machine."""
    fsdp: dict[str, Any] | None = None
    """Composer's FSDP settings; `version: 2` is FSDP2, which also works on CPUs. null trains with
    data parallelism alone."""

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        for key in ("model", "tokenizer"):
            if (getattr(self, key) is None) == (self.start is None):
                raise ValueError(f"{key}: give either {key} or start, which provides its own")
        continues = self.stage in ("midtrain", "preference")
        if continues and self.start is None and self.model_path is None:
            raise ValueError(f"stage: {self.stage} continues a model; give start or model.path")
        if not self.has_chat and self.sft != SftConfig():
            raise ValueError(f"sft: the stage is {self.stage}; set stage to sft or preference")
        if self.stage != "preference" and self.preference != PreferenceConfig():
            raise ValueError(f"preference: the stage is {self.stage}; set stage to preference")
        if self.stage == "sft" and self.packing == "concat":
            raise ValueError("packing: concat cuts conversations in two; use pad or best_fit")
        if self.split != "never" and (self.packing != "best_fit" or self.stage == "sft"):
            raise ValueError(
                f"split: {self.split} needs packing best_fit, and another stage than sft"
            )
        return self

    @model_validator(mode="after")
    def _compatible(self) -> Self:
        if self.duration.value == 0:
            raise ValueError("duration must be longer than 0")
        if self.stage == "preference":
            if self.packing != "pad":
                raise ValueError(f"packing: {self.packing}, and stage preference needs pad")
            if self.z_loss:
                raise ValueError("z_loss: the loss of stage preference has none; remove it")
            if self.fsdp is not None:
                raise ValueError(
                    "fsdp: the initial model of stage preference is not sharded; remove fsdp. lora "
                    "needs the memory of one model"
                )
        if self.lora is not None:
            if self.start is None and self.model_path is None:
                raise ValueError("lora: adapters need a trained model; give start or model.path")
            if self.start is not None and self.start.optimizer == "keep":
                raise ValueError(
                    "start.optimizer: keep needs the same parameters, and lora adds others; set it "
                    "to fresh"
                )
            if self.fsdp is not None:
                raise ValueError("lora: adapters and fsdp together are not supported; remove fsdp")
        return self

    @property
    def has_chat(self) -> bool:
        """True if the chat template renders conversations."""
        return self.stage in ("sft", "preference")

    @property
    def model_path(self) -> str | None:
        """The folder that the model is loaded from, or None."""
        return self.model.path if self.model else None

    @property
    def cut_length(self) -> int | None:
        """The number of tokens at which a sample is truncated; None truncates none."""
        is_cut_before = self.stage == "preference"
        is_whole = self.packing == "concat" or self.split != "never"
        return None if is_cut_before or is_whole else self.max_length

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that the weights depend on, by dotted key.

        The run folder adds the plan, the tokenizer and the starting checkpoint.
        """
        settings = self.model_dump(mode="json", exclude=NOT_IN_FINGERPRINT)
        if not self.has_chat:
            del settings["sft"]
        if self.stage != "preference":
            del settings["preference"]
        # A key that changes nothing is left out.
        if self.optimizer.kind == "adamw":
            del settings["optimizer"]["kind"]
        if not self.z_loss:
            del settings["z_loss"]
        if self.packing != "best_fit":
            del settings["split"]
        if self.lora is None:
            del settings["lora"]
        return flatten(settings)


def load_train_config(path: str | Path, overrides: Iterable[str] = ()) -> TrainConfig:
    """Read a train config from a YAML file; every path in the result is absolute.

    Paths of inputs (mix, model, tokenizer, tasks) and the store of a mix are relative to the file.
    Paths of outputs, `store` and paths in overrides are relative to the working folder.

    Args:
        path: the YAML file.
        overrides: settings such as `optimizer.lr=1e-3`, applied after the file.

    Returns:
        The validated config; it is frozen.

    Raises:
        ConfigError: the file cannot be read, or a key is wrong; the message has the key's full
            path.

    Examples:
        >>> from pathlib import Path
        >>> from tempfile import mkdtemp
        >>> path = Path(mkdtemp()) / "train.yaml"
        >>> _ = path.write_text('''
        ... mix: {store: ./ixt, critic: rules}
        ... run_folder: runs/first
        ... model: {config: {model_type: llama}}
        ... tokenizer: {train: {vocab_size: 4096}}
        ... duration: 900ba
        ... ''')
        >>> config = load_train_config(path, ["duration=5_000_000tok", "seed=3"])
        >>> str(config.duration), config.seed, config.packing
        ('5000000tok', 3, 'pad')
        >>> load_train_config(path, ["packing=tight"])  # doctest: +ELLIPSIS
        Traceback (most recent call last):
        ...
        ixt_data.errors.ConfigError: ...packing...
    """
    overrides = list(overrides)
    config = load_config(TrainConfig, path, overrides)
    return _resolve(config, Path(path).parent, {o.partition("=")[0] for o in overrides})


def _resolve(config: TrainConfig, folder: Path, typed: set[str]) -> TrainConfig:
    def at(key: str, value: Any) -> Any:
        if not isinstance(value, str) or "://" in value:
            return value
        return str(((Path() if key in typed else folder) / value).resolve())

    def part(key: str, model: ConfigModel | None, name: str = "path") -> ConfigModel | None:
        if model is None:
            return None
        return model.model_copy(update={name: at(f"{key}.{name}", getattr(model, name))})

    tasks = tuple(part(f"eval.tasks.{i}", t) for i, t in enumerate(config.eval.tasks))
    mix = config.mix
    if isinstance(mix, dict) and isinstance(mix.get("store"), str) and "mix.store" not in typed:
        mix = mix | {"store": store_at(mix["store"], folder)}
    update = {
        "mix": at("mix", mix),
        "run_folder": str(Path(config.run_folder).resolve()),
        "cache": config.cache.model_copy(update={"folder": _absolute(config.cache.folder)}),
        "model": part("model", config.model),
        "tokenizer": part("tokenizer", config.tokenizer),
        "start": part("start", config.start, "checkpoint"),
        "sft": part("sft", config.sft, "template"),
        "eval": config.eval.model_copy(update={"tasks": tasks}),
    }
    return config.model_copy(update=update)


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).resolve())


def load_run_mix(config: TrainConfig) -> Mix:
    """Return the mix that a train config names or contains.

    Raises:
        ConfigError: the mix cannot be read, or a key is wrong.
    """
    if isinstance(config.mix, str):
        return load_mix(config.mix)
    return validate(Mix, config.mix, "mix")
