"""The train config: YAML plus dotted overrides, checked before anything heavy is imported."""

import re
from collections.abc import Iterable, Mapping
from itertools import pairwise
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, PlainSerializer, PositiveInt, model_validator

from ixt_data.config import ConfigModel, load_config, validate
from ixt_data.errors import ConfigError
from ixt_data.mix import Mix, load_mix
from ixt_data.records import Stage
from ixt_train.config.logger_config import MlflowConfig, WandbConfig
from ixt_train.config.stage_config import SftConfig, StartConfig

_AMOUNT = re.compile(r"(\d[\d_]*)(ba|tok)?")
BUILT_IN_TASKS = ("arithmetic",)
# What the weights do not depend on, and paths: their content is in the fingerprint.
NOT_IN_FINGERPRINT: dict[str, Any] = {
    "mix": True,
    "store": True,
    "run_folder": True,
    "logging": True,
    "num_workers": True,
    "cache": True,
    "threads": True,
    "eval": True,
    "stop": True,
    "checkpoint": True,
    "tokenizer": True,
    "model": {"path"},
    "start": {"checkpoint"},
    "sft": {"template"},
}


class Amount(ConfigModel):
    """A number of steps or tokens, written `900ba` or `5_000_000tok`; a bare number is steps."""

    value: Annotated[int, Field(ge=0)]
    """How many."""
    unit: Literal["ba", "tok"] = "ba"
    """Steps or tokens, in Composer's letters."""

    def __str__(self) -> str:
        return f"{self.value}{self.unit}"

    def of(self, steps: int, tokens: int) -> float:
        """Return which share of this amount `steps` and `tokens` are; 1 where the amount is 0."""
        return (steps if self.unit == "ba" else tokens) / self.value if self.value else 1.0


def _parse_amount(value: Any) -> Any:
    match = _AMOUNT.fullmatch(str(value).strip()) if isinstance(value, int | str) else None
    if isinstance(value, Amount | dict):
        return value
    if match is None:
        raise ValueError(f"{value!r} is no amount; write steps as 900ba or tokens as 5_000_000tok")
    return {"value": int(match[1]), "unit": match[2] or "ba"}


AmountText = Annotated[
    Amount,
    BeforeValidator(_parse_amount, json_schema_input_type=int | str),
    PlainSerializer(str, return_type=str),
]


class InitConfig(ConfigModel):
    """How the weights of a model from scratch are drawn, beyond its Hugging Face config."""

    embedding_std: Annotated[float, Field(gt=0)] | None = None
    """Standard deviation of the input embedding; null keeps the model's own."""
    scale_residual: bool = False
    """Divide the output projections of attention and MLP by sqrt(2 x layers), as GPT-2 does."""


class ModelConfig(ConfigModel):
    """The model: from scratch by `config`, or from a folder by `path`."""

    config: dict[str, Any] | None = None
    """A Hugging Face config with its `model_type`; vocabulary and special tokens are filled in."""
    path: str | None = None
    """A folder that `save_pretrained` or `ixt export-model` wrote."""
    init: InitConfig = InitConfig()
    """Initial weights; only for `config`."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.config is None) == (self.path is None):
            raise ValueError("give either config or path")
        if self.config is not None and "model_type" not in self.config:
            raise ValueError("config needs a model_type, for instance llama")
        return self


class TokenizerTraining(ConfigModel):
    """A tokenizer trained on the mix's documents and critiques."""

    kind: Literal["bpe", "words"] = "bpe"
    """`bpe`: byte-level BPE. `words`: whatever stands between white space is one token."""
    vocab_size: PositiveInt = 8192
    """Upper limit of the vocabulary, special tokens counted."""
    samples: PositiveInt = 100_000
    """Read at most this many documents."""


class TokenizerConfig(ConfigModel):
    """The tokenizer: a folder by `path`, or trained by `train`."""

    path: str | None = None
    """A folder with a Hugging Face tokenizer; feedback tokens are added where they lack."""
    train: TokenizerTraining | None = None
    """Train one; it is saved into the run folder."""

    @model_validator(mode="after")
    def _one_source(self) -> Self:
        if (self.path is None) == (self.train is None):
            raise ValueError("give either path or train")
        return self


class CacheConfig(ConfigModel):
    """The shards that this machine holds while it trains; gone when the train run ends."""

    folder: str | None = None
    """On a disk of this machine, relative to the working folder; null: in the run folder, one for
    each machine."""
    limit: PositiveInt | None = None
    """Most bytes of them; null keeps all that were read."""


class OptimizerConfig(ConfigModel):
    """AdamW (Loshchilov & Hutter, arXiv 1711.05101) on all parameters."""

    lr: Annotated[float, Field(gt=0)] = 3e-4
    """Highest learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay of the first and second moment."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the root of the second moment."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled weight decay."""


class ScheduleConfig(ConfigModel):
    """The learning rate over the run."""

    kind: Literal["constant", "cosine", "wsd"] = "constant"
    """`wsd` is warm-up, stable, linear decay."""
    warmup: AmountText = Amount(value=0)
    """Linear warm-up from zero, in steps or tokens."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.2
    """`wsd`: the last share of the run in which the rate falls."""
    final: Annotated[float, Field(ge=0, le=1)] = 0.1
    """`cosine` and `wsd`: the rate at the end, as a share of the highest."""


class CheckpointConfig(ConfigModel):
    """When to write checkpoints."""

    every: AmountText = Amount(value=500)
    """Distance between checkpoints; the end always writes one. 0: only the end."""
    keep: PositiveInt = 2
    """How many of the newest stay."""
    remote: Annotated[str, Field(pattern="^s3://.+")] | None = None
    """An address such as s3://bucket/prefix: checkpoints go there too once they are whole, with
    all else of the run folder that a resume on another machine needs."""


class TaskConfig(ConfigModel):
    """A task by exact match: built in, or a JSONL of segments or of prompts and answers."""

    name: str
    """What metrics call it."""
    path: str | None = None
    """A JSONL of {"segments": [[given, answer], ...]} or {"prompt", "answer"}, relative to the
    config file; null takes the built-in task of this name, of which there is `arithmetic`."""
    feedback: str = "best"
    """What to condition on: best, worst, none, given (each line's own), or any text."""
    guidance: Annotated[float, Field(ge=0)] = 1.0
    """Gamma of classifier-free guidance from none towards the feedback; 1 is without."""
    limit: PositiveInt | None = None
    """Only the first so many problems."""

    @model_validator(mode="after")
    def _known(self) -> Self:
        if self.path is None and self.name not in BUILT_IN_TASKS:
            raise ValueError(
                f"{self.name!r} is no built-in task ({', '.join(BUILT_IN_TASKS)}); give a path"
            )
        return self


class EvalConfig(ConfigModel):
    """What is measured during training and by `ixt eval`."""

    every: AmountText = Amount(value=0)
    """Distance between evaluations; the end always has one. 0: only the end."""
    buckets: tuple[float, ...] = (0.0, 0.2, 0.4, 0.6, 0.8, 1.0)
    """Edges of the score buckets, ascending from 0 to 1; the last bucket holds its upper edge."""
    feedback: tuple[Literal["best", "worst", "none", "observed"], ...] = (
        "best",
        "worst",
        "none",
        "observed",
    )
    """With which feedback the held-out loss is measured."""
    tasks: tuple[TaskConfig, ...] = ()
    """Tasks by exact match."""
    samples: Annotated[int, Field(ge=0)] = 32
    """Held-out documents per score bucket; 0 leaves the loss by bucket out."""
    batch_size: PositiveInt = 64
    """Documents per forward pass."""

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        edges = self.buckets
        if len(edges) < 2 or any(a >= b for a, b in pairwise(edges)):
            raise ValueError(f"buckets must ascend, got {list(edges)}")
        return self


class StopConfig(ConfigModel):
    """Ends the train run early; without it the same train run goes on exactly where it stopped."""

    metric: str
    """A figure of the evaluation by its path, such as `tasks.sums` or `loss.best.all`."""
    at: float
    """Stop at the first evaluation that reaches it: from above for a loss, else from below."""

    def reached(self, figures: Mapping[str, Any]) -> bool:
        """Return whether the figures of an evaluation reach it.

        Raises:
            ConfigError: there is no such figure.
        """
        flat = flatten(figures)
        if self.metric not in flat:
            known = ", ".join(sorted(flat)) or "none"
            raise ConfigError(f"stop.metric: no figure {self.metric!r}; measured are: {known}")
        value = flat[self.metric]
        return bool(value <= self.at if self.metric.startswith("loss.") else value >= self.at)


class LoggingConfig(ConfigModel):
    """Where metrics go, beside metrics.jsonl in the run folder."""

    every: PositiveInt = 10
    """Steps between rows of metrics.jsonl, and between points of the services below."""
    tensorboard: bool = True
    """Write TensorBoard files into the run folder."""
    progress: bool = True
    """Show progress on stderr."""
    wandb: WandbConfig | None = None
    """Weights & Biases; `{}` takes its defaults."""
    mlflow: MlflowConfig | None = None
    """MLflow; `{}` takes its defaults."""


class TrainConfig(ConfigModel):
    """Everything that a train run depends on."""

    mix: str | dict[str, Any]
    """A mix YAML, relative to this file, or the mix itself."""
    run_folder: str
    """Where the train run lives, relative to the working folder: checkpoints, metrics, draws, and
    all that repeats it."""
    store: str | None = None
    """Root of the store, relative to the working folder; null takes the mix's."""
    seed: Annotated[int, Field(ge=0)] = 17
    """Seed of the initial weights and of dropout; the order of samples has the mix's seed."""
    stage: Stage = "pretrain"
    """What this train run is to the model."""
    model: ModelConfig | None = None
    """The model, unless `start` brings it."""
    tokenizer: TokenizerConfig | None = None
    """The tokenizer, unless `start` brings it."""
    start: StartConfig | None = None
    """An earlier train run to go on from, as in midtrain and sft."""
    sft: SftConfig = SftConfig()
    """Conversations; only for stage sft."""
    max_length: PositiveInt = 1024
    """Longest sequence in tokens; a longer document is cut."""
    packing: Literal["pad", "concat", "best_fit"] = "pad"
    """`pad`: a document per row. `concat`: documents fill rows of max_length. `best_fit`: whole
    documents share rows of max_length."""
    attend: Literal["row", "document"] = "row"
    """What a token looks back at: its whole row, or only its own document."""
    global_batch_size: PositiveInt = 32
    """Documents per step, over all processes."""
    microbatch_size: PositiveInt | None = None
    """Rows per forward pass and process; null takes the whole batch."""
    duration: AmountText
    """How long to train."""
    optimizer: OptimizerConfig = OptimizerConfig()
    """The optimizer."""
    schedule: ScheduleConfig = ScheduleConfig()
    """The learning rate."""
    precision: Literal["fp32", "amp_bf16", "amp_fp16"] = "fp32"
    """Composer's precision; amp_fp16 needs a GPU."""
    grad_clip: Annotated[float, Field(gt=0)] | None = 1.0
    """Largest norm of the gradient; null does not clip."""
    ema: Annotated[float, Field(gt=0, lt=1)] | None = None
    """Decay of the averaged weights that are evaluated and exported; null keeps none."""
    holdout: Annotated[float, Field(ge=0, lt=1)] = 0.02
    """Share of documents, by doc_id, that is never trained on."""
    checkpoint: CheckpointConfig = CheckpointConfig()
    """Checkpoints."""
    eval: EvalConfig = EvalConfig()
    """Evaluation."""
    stop: StopConfig | None = None
    """When to end before `duration`; null trains to the end."""
    logging: LoggingConfig = LoggingConfig()
    """Logs."""
    num_workers: Annotated[int, Field(ge=0)] = 0
    """Processes per rank that read and tokenize."""
    cache: CacheConfig = CacheConfig()
    """Shards on this machine."""
    threads: PositiveInt | None = None
    """Torch threads per process; null divides the cores among the processes of this machine."""
    fsdp: dict[str, Any] | None = None
    """Composer's FSDP settings; `version: 2` is FSDP2, which works on CPUs too. null trains with
    plain data parallelism."""

    @model_validator(mode="after")
    def _one_start(self) -> Self:
        for key in ("model", "tokenizer"):
            if (getattr(self, key) is None) == (self.start is None):
                raise ValueError(f"{key}: give either {key} or start, which brings its own")
        if self.stage == "midtrain" and self.start is None and self.model_path is None:
            raise ValueError("stage: midtrain goes on from something; give start or model.path")
        if self.stage != "sft" and self.sft != SftConfig():
            raise ValueError(f"sft: the stage is {self.stage}; set stage to sft")
        if self.stage == "sft" and self.packing == "concat":
            raise ValueError("packing: concat cuts conversations in two; use pad or best_fit")
        return self

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.fsdp is not None and self.ema is not None:
            raise ValueError("ema does not work with fsdp yet; set one of them to null")
        if self.duration.value == 0:
            raise ValueError("duration must be longer than 0")
        return self

    @property
    def model_path(self) -> str | None:
        """The folder that the model comes from, if it comes from one."""
        return self.model.path if self.model else None

    def fingerprint(self) -> dict[str, Any]:
        """Return the settings that the weights depend on, by dotted key.

        Plan, tokenizer, and what the train run starts from are for the run folder to add.
        """
        settings = self.model_dump(mode="json", exclude=NOT_IN_FINGERPRINT)
        if self.stage != "sft":
            del settings["sft"]
        return flatten(settings)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """`{"a": {"b": 1}}` as `{"a.b": 1}`."""
    flat: dict[str, Any] = {}
    for key, value in tree.items():
        if isinstance(value, Mapping) and value:
            flat |= flatten(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def load_train_config(path: str | Path, overrides: Iterable[str] = ()) -> TrainConfig:
    """Return the train config in a YAML file, every path in it absolute.

    Inputs (mix, model, tokenizer, tasks) are relative to the file; outputs, the store, and what
    comes as an override, to the working folder.

    Raises:
        ConfigError: the file cannot be read, or a key is wrong.
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
    update = {
        "mix": at("mix", config.mix),
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


def load_mix_of(config: TrainConfig) -> Mix:
    """Return the mix that a train config names or holds.

    Raises:
        ConfigError: it cannot be read, or a key is wrong.
    """
    if isinstance(config.mix, str):
        return load_mix(config.mix)
    return validate(Mix, config.mix, "mix")
