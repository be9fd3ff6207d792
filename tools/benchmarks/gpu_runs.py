"""The train runs of the benchmark gpu.py: corpora, sizes, configs, and the bare loop."""

import json
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from composer.core import Callback, State
from composer.loggers import Logger

from ixt_data.config import validate
from ixt_data.critics import load_critic
from ixt_data.critique_runs import annotate
from ixt_data.ingestion import ingest
from ixt_data.mix import plan_mix
from ixt_data.store import Store
from ixt_train.conditioning import SPECIAL_TOKENS, Conditioner, load_tokenizer, train_tokenizer
from ixt_train.config import TokenizerTraining, TrainConfig, load_run_mix
from ixt_train.inference import build_model, logits_of, weighted_loss
from ixt_train.runs import read_metrics
from ixt_train.stream import Collator, MixStream
from ixt_train.trainer import MetricsCallback, compile_layers, train

GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")

SMALL = {
    "model_type": "llama", "hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4,
    "num_attention_heads": 4, "num_key_value_heads": 4,
}  # fmt: skip
TINY = SMALL | {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2}
# 162 million parameters, as Pythia-160M (Biderman et al. 2023, arXiv 2304.01373).
MODEL_160M = {
    "model_type": "llama", "hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 12,
    "num_attention_heads": 12, "num_key_value_heads": 12, "vocab_size": 50304,
}  # fmt: skip
# 1.04 billion parameters.
MODEL_1B = {
    "model_type": "llama", "hidden_size": 2048, "intermediate_size": 8192, "num_hidden_layers": 16,
    "num_attention_heads": 16, "num_key_value_heads": 8, "vocab_size": 32768,
    "tie_word_embeddings": True,
}  # fmt: skip
# Model, rows per step, rows per micro-batch, tokens per row.
SIZES = {"160M": (MODEL_160M, 32, 16, 2048), "1B": (MODEL_1B, 16, 8, 2048)}
if not GPU:
    SIZES = {"160M": (TINY, 4, 2, 128)}
WARM_UP, TIMED = (8, 24) if GPU else (3, 9)


def write_corpora(folder: Path) -> None:
    """Write a store with two corpora, of long and of short documents, and a tokenizer."""
    words = [f"{number * 2654435761 % 16**7:x}" for number in range(4000)]
    length = 3000 if GPU else 200
    corpora = {"long": (700, lambda i: length), "short": (1200, lambda i: 20 + i * 7919 % 300)}
    texts: list[str] = []
    store = Store.init(folder / "store")
    for name, (count, words_of) in corpora.items():
        file = folder / f"{name}.jsonl"
        with file.open("w") as lines:
            for i in range(count if GPU else 120):
                numbers = [(i * 37 + j * j + j // 7) % len(words) for j in range(words_of(i))]
                texts.append(" ".join(words[number] for number in numbers))
                lines.write(json.dumps({"id": f"{name}-{i}", "text": texts[-1]}) + "\n")
        ingest(store, name, [file])
        annotate(store, name, load_critic("rules"))
    training = TokenizerTraining(vocab_size=4096)
    train_tokenizer(texts[::10], training, SPECIAL_TOKENS).save_pretrained(folder / "tokenizer")


def run_config(folder: Path, name: str, model: dict[str, Any], **changes: Any) -> TrainConfig:
    """Return the config of a train run on one of the corpora."""
    corpus = changes.pop("corpus", "long")
    tree = {
        "mix": {
            "store": str(folder / "store"),
            "corpus": corpus,
            "critic": "rules",
            "condition": {"kind": "score"},
            "selections": [{"name": "all", "max_repeats": 1000}],
        },
        "run_folder": str(folder / name),
        "model": {"config": model},
        "tokenizer": {"path": str(folder / "tokenizer")},
        "holdout": 0,
        "max_length": 256,
        "global_batch_size": 8,
        "duration": "20ba",
        "checkpoint": {"every": "0ba"},
        "eval": {"samples": 0},
        "logging": {"every": 1, "progress": False, "tensorboard": False},
        "optimizer": {"lr": 1e-3},
    }
    return validate(TrainConfig, tree | changes, "gpu")


def losses(config: TrainConfig) -> list[float]:
    """Train, and return the losses."""
    train(config)
    return [row["loss"] for row in read_metrics(config.run_folder) if "loss" in row]


def largest_difference(ours: list[float], reference: list[float]) -> float:
    """Return the largest relative difference of two lists of losses."""
    return max(abs(a - b) / abs(b) for a, b in zip(ours, reference, strict=True))


class Stop(Exception):
    """The end of a train run before its plan's."""


def forget_memory() -> None:
    """Start to measure the memory of tensors."""
    if GPU:
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()


def most_memory() -> float:
    """Return the most memory of tensors since the start, in GiB; 0 without a GPU."""
    return torch.cuda.max_memory_allocated() / 2**30 if GPU else 0.0


class Timer(Callback):  # type: ignore[misc]
    """A timer of the steps after the warm-up; it ends the run, without a checkpoint, after them."""

    def __init__(self) -> None:
        self._step, self.seconds, self._start = 0, 0.0, 0.0

    def batch_checkpoint(self, state: State, logger: Logger) -> None:
        """Count a step of the trainer."""
        try:
            self.step()
        except Stop:
            for callback in state.callbacks:
                if isinstance(callback, MetricsCallback):
                    callback.flush()
            raise

    def step(self) -> None:
        """Count a step."""
        self._step += 1
        if self._step not in (WARM_UP, WARM_UP + TIMED):
            return
        if GPU:
            torch.cuda.synchronize()
        if self._step == WARM_UP:
            self._start = time.perf_counter()
            return
        self.seconds = (time.perf_counter() - self._start) / TIMED
        raise Stop


def size_config(folder: Path, size: str, name: str, **changes: Any) -> TrainConfig:
    """Return the config of a throughput run."""
    model, rows, micro, length = SIZES[size]
    settings = {
        "max_length": length,
        "global_batch_size": rows,
        "microbatch_size": micro,
        "duration": f"{WARM_UP + TIMED + 2}ba",
        "precision": "amp_bf16",
        "compile": True,
        "logging": {"every": WARM_UP + 2, "progress": False, "tensorboard": False},
    }
    return run_config(folder, name, model, **settings | changes)


def time_trainer(config: TrainConfig) -> tuple[float, float, list[dict[str, Any]]]:
    """Return seconds per step, GiB and rows of metrics of a train run."""
    timer = Timer()
    forget_memory()
    with suppress(Stop):
        train(config, callbacks=[timer])
    rows = [row for row in read_metrics(config.run_folder) if "loss" in row]
    return timer.seconds, most_memory(), rows


def time_bare_loop(config: TrainConfig) -> tuple[float, float]:
    """Return seconds per step and GiB of a loop with the same parts and batches in memory."""
    tokenizer = load_tokenizer(config.tokenizer.path, SPECIAL_TOKENS)  # type: ignore[union-attr, arg-type]
    mix, rows = load_run_mix(config), config.global_batch_size
    assert config.model is not None
    assert isinstance(config.microbatch_size, int)
    store = Store.open(mix.store)
    plan = plan_mix(mix, (WARM_UP + TIMED) * rows, store=store, batch=rows)
    collate = Collator(tokenizer.pad_token_id, config.max_length, config.packing)
    conditioner = Conditioner(tokenizer, mix.condition)
    with (
        tempfile.TemporaryDirectory() as local,
        MixStream(plan, conditioner, store=store.root, local=local, batch_size=rows) as stream,
    ):
        samples = [sample for _ in range(plan.epochs) for sample in stream]
    batches = [collate(samples[i : i + rows]) for i in range(0, len(samples), rows)]
    keys = ("input_ids", "loss_weights")
    parts = [[batch[k].split(config.microbatch_size) for k in keys] for batch in batches]
    with torch.device(DEVICE):
        model = build_model(config.model, tokenizer, config.seed, config.max_length).train()
    compile_layers(model)
    loss_of = torch.compile(weighted_loss)
    settings = config.optimizer
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=settings.lr, betas=settings.betas,
        weight_decay=settings.weight_decay, fused=True,
    )  # fmt: skip
    timer = Timer()
    forget_memory()
    with suppress(Stop):
        for ids, weights in parts:
            total = sum(float(part[:, 1:].sum()) for part in weights)
            for part, weight in zip(ids, weights, strict=True):
                batch = {"input_ids": part.to(DEVICE), "loss_weights": weight.to(DEVICE)}
                with torch.autocast(DEVICE.type, torch.bfloat16):
                    logits = logits_of(model, batch)
                    loss, _ = loss_of(logits, batch["input_ids"], batch["loss_weights"])
                (loss / total).backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            timer.step()
    return timer.seconds, most_memory()
