"""The trainer on a GPU: right, and how fast. Without one, the same parts run small on the CPU.

    python tools/benchmarks/gpu.py --output json

Each part is a process of its own, so a part that fails or takes too long leaves the others. The
throughput parts train the same model by `ixt_train.train` and by a bare PyTorch loop with the same
kernels, precision, optimizer and clipping, whose batches are in memory.
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from composer.core import Callback, State
from composer.loggers import Logger
from measurements import Measurement, check_limit, compare, log, make_parser, report

from ixt_data.config import validate
from ixt_data.critics import load_critic
from ixt_data.critique_runs import annotate
from ixt_data.ingestion import ingest
from ixt_data.mix import plan_mix
from ixt_data.store import Store
from ixt_train.conditioning import SPECIAL_TOKENS, Conditioner, load_tokenizer, train_tokenizer
from ixt_train.config import TokenizerTraining, TrainConfig, load_run_mix
from ixt_train.inference import (
    build_model,
    logits_of,
    use_flex_attention,
    weighted_loss,
)
from ixt_train.runs import read_metrics
from ixt_train.stream import Collator, MixStream
from ixt_train.trainer import HookCallback, MetricsCallback, compile_layers, train

PACKAGES = ("ixt", "torch", "transformers", "mosaicml", "mosaicml-streaming")
GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if GPU else "cpu")
PART_SECONDS = 150
RATIO_GOAL, MFU_GOAL = 0.97, 0.45
# Relative differences of losses: bfloat16 has 8 bits of mantissa; compiled code rounds elsewhere.
BF16_GOAL, COMPILE_GOAL = 0.02, 0.002

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


def check_precision(folder: Path) -> list[Measurement]:
    """Compare losses in bfloat16, compiled, and with checkpointed activations against fp32."""
    model = SMALL if GPU else TINY
    exact = losses(run_config(folder, "fp32", model))
    cases = {
        "amp_bf16": ({"precision": "amp_bf16"}, BF16_GOAL),
        "amp_bf16, compiled": ({"precision": "amp_bf16", "compile": True}, BF16_GOAL),
        "compiled": ({"compile": True}, COMPILE_GOAL),
        "activation checkpointing": ({"activation_checkpointing": True}, COMPILE_GOAL),
    }
    if GPU:
        cases["amp_fp16"] = ({"precision": "amp_fp16"}, BF16_GOAL)
        cases["automatic micro-batch"] = ({"microbatch_size": "auto"}, COMPILE_GOAL)
    return [
        check_limit(
            f"{name}: largest difference of 20 losses from fp32's ({exact[0]:.4f} to "
            f"{exact[-1]:.4f})",
            largest_difference(losses(run_config(folder, f"case-{i}", model, **changes)), exact),
            "share", goal, is_maximum=True,
        )
        for i, (name, (changes, goal)) in enumerate(cases.items())
    ]  # fmt: skip


class Stop(Exception):
    """The end of a train run before its plan's."""


def check_resume(folder: Path) -> list[Measurement]:
    """Compare the losses of a resumed run with those of one without a stop."""
    model = SMALL if GPU else TINY
    settings = {"precision": "amp_bf16", "checkpoint": {"every": "5ba"}}
    whole = losses(run_config(folder, "whole", model, **settings))
    again = losses(run_config(folder, "again", model, **settings))
    step = 0

    def stop() -> None:
        nonlocal step
        step += 1
        if step == 12:
            raise Stop

    config = run_config(folder, "stopped", model, **settings)
    try:
        train(config, callbacks=[HookCallback(lambda: None, stop)])
    except Stop:
        resumed = losses(config)
    return [
        check_limit(name, largest_difference(theirs, whole), "share", 0.0, is_maximum=True)
        for name, theirs in (
            ("the same run twice: largest difference of 20 losses", again),
            ("stopped at 12, resumed at 10: largest difference of 20 losses", resumed),
        )
    ]


def check_attention(folder: Path) -> list[Measurement]:
    """Compare packed documents with each document alone, in fp32, for the kernels at hand."""
    tokenizer = load_tokenizer(folder / "tokenizer", SPECIAL_TOKENS)
    lengths = (100, 37, 119) if GPU else (20, 7, 5)
    documents = [torch.arange(n) * 31 % 997 + 10 for n in lengths]
    samples = [
        {"input_ids": d.numpy(), "loss_weights": torch.ones(len(d)).numpy(), "doc_id": bytes(16)}
        for d in documents
    ]
    collate = Collator(tokenizer.pad_token_id, sum(lengths), "best_fit", separate_documents=True)
    packed = collate(samples)
    tensors = {k: v.to(DEVICE) for k, v in packed.items() if isinstance(v, torch.Tensor)}
    order = sorted(range(len(documents)), key=lambda i: -lengths[i])
    families = {
        "llama": SMALL, "qwen3": SMALL | {"model_type": "qwen3", "head_dim": 64},
        "gpt2": {"model_type": "gpt2", "n_embd": 256, "n_layer": 2, "n_head": 4},
        "gpt_neox": SMALL | {"model_type": "gpt_neox"},
        "mistral, window of 64": SMALL | {"model_type": "mistral", "sliding_window": 64},
    }  # fmt: skip
    results = []
    for name, settings in families.items():
        config = run_config(folder, "attention", settings).model
        assert config is not None
        model = build_model(config, tokenizer, 1, 512).to(DEVICE).eval()
        with torch.no_grad():
            alone = [
                logits_of(model, {"input_ids": documents[i].to(DEVICE)[None]})[0] for i in order
            ]
            for kernel in ("sdpa", "flex_attention") if GPU else ("sdpa",):
                if kernel == "flex_attention" and not use_flex_attention(model):
                    continue
                logits = logits_of(model, tensors)[0]
                largest = (logits[: sum(lengths)] - torch.cat(alone)).abs().max().item()
                results.append(
                    check_limit(
                        f"{name}, {kernel}: largest difference of logits, packed and alone",
                        largest, "", 2e-3, is_maximum=True,
                    )
                )  # fmt: skip
    return results


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


def measure_size(folder: Path, size: str) -> list[Measurement]:
    """Compare tokens per second with a bare loop; state MFU and memory."""
    config = size_config(folder, size, f"size-{size}")
    seconds, memory, rows = time_trainer(config)
    bare, bare_memory = time_bare_loop(config)
    tokens = config.global_batch_size * config.max_length
    fill = statistics.fmean(row["row_fill"] for row in rows)
    log(f"{size}: {seconds:.4f} s a step, bare {bare:.4f}, row fill {fill:.3f}, {rows[-1]}")
    results = [
        compare(
            f"{size}: tokens/s in rows of {config.max_length}, row fill {fill:.3f}",
            tokens / seconds, "1/s", "a bare loop", tokens / bare, RATIO_GOAL if GPU else 0,
            is_maximum=False,
        ),
    ]  # fmt: skip
    if GPU:
        results.append(
            compare(
                f"{size}: memory", memory, "GiB", "a bare loop", bare_memory, 1.05, is_maximum=True
            )
        )
    if "mfu" in rows[-1]:
        goal = MFU_GOAL if size == "1B" else 0.0
        results.append(
            check_limit(f"{size}: MFU by the metrics", rows[-1]["mfu"], "", goal, is_maximum=False)
        )
    return results


def measure_packing(folder: Path) -> list[Measurement]:
    """Compare packed rows whose documents are separate with rows in which all is visible."""
    settings = {"packing": "best_fit", "corpus": "short", "compile": GPU}
    settings["global_batch_size"] = 128 if GPU else 8
    speeds = {}
    for attention in ("row", "document"):
        config = size_config(folder, "160M", attention, attention=attention, **settings)
        _, _, rows = time_trainer(config)
        speeds[attention] = rows[-1]
    return [
        compare(
            f"160M: tokens/s of separate documents, row fill {speeds['document']['row_fill']}",
            speeds["document"]["tokens_per_second"], "1/s", "attention within the row",
            speeds["row"]["tokens_per_second"], 0.9 if GPU else 0, is_maximum=False,
        )
    ]  # fmt: skip


PARTS: dict[str, Callable[[Path], list[Measurement]]] = {
    "precision": check_precision,
    "resume": check_resume,
    "attention": check_attention,
    "160M": lambda folder: measure_size(folder, "160M"),
    "1B": lambda folder: measure_size(folder, "1B"),
    "packing": measure_packing,
}
if not GPU:
    del PARTS["1B"]


def run_part(name: str, folder: Path, seconds: float) -> list[Measurement]:
    """Run a part in a process; a failure is a measurement that does not hold."""
    log(f"{name} ...")
    start = time.perf_counter()
    answer = folder / f"{name}.json"
    command = [sys.executable, __file__, "--part", name, "--folder", str(folder)]
    try:
        code: int | str = subprocess.run(command, stdout=sys.stderr, timeout=seconds).returncode
    except subprocess.TimeoutExpired:
        code = f"stopped after {seconds} s"
    log(f"{name}: {time.perf_counter() - start:.1f} s")
    if not answer.exists():
        return [Measurement(f"{name}: failed ({code})", float("nan"), "", holds=False)]
    return [Measurement(**fields) for fields in json.loads(answer.read_text())]


def main() -> None:
    """Run all parts, or one of them in this process."""
    parser = make_parser(__doc__)
    parser.add_argument("--parts", default=",".join(PARTS), help="parts to run")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.part:
        measurements = PARTS[options.part](options.folder)
        fields = [{k: getattr(m, k) for k in Measurement.__slots__} for m in measurements]
        (options.folder / f"{options.part}.json").write_text(json.dumps(fields))
        return
    card = torch.cuda.get_device_name() if GPU else "no GPU: small models on the CPU"
    log(card)
    with tempfile.TemporaryDirectory(prefix="ixt-gpu-") as name:
        folder = Path(name)
        write_corpora(folder)
        measurements = [
            m for part in options.parts.split(",") for m in run_part(part, folder, PART_SECONDS)
        ]
    report(measurements, PACKAGES, options.output)
    if any(m.holds is False for m in measurements):
        sys.exit(1)


if __name__ == "__main__":
    main()
