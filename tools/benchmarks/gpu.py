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
from pathlib import Path

import torch
from gpu_runs import (
    DEVICE,
    GPU,
    SMALL,
    TINY,
    Stop,
    largest_difference,
    losses,
    run_config,
    size_config,
    time_bare_loop,
    time_trainer,
    write_corpora,
)
from measurements import Measurement, check_limit, compare, log, make_parser, report

from ixt_train.conditioning import SPECIAL_TOKENS, load_tokenizer
from ixt_train.inference import build_model, logits_of, use_flex_attention
from ixt_train.stream import Collator
from ixt_train.trainer import HookCallback, train

PACKAGES = ("ixt", "torch", "transformers", "mosaicml", "mosaicml-streaming")
PART_SECONDS = 150
RATIO_GOAL, MFU_GOAL = 0.97, 0.45
# Relative differences of losses: bfloat16 has 8 bits of mantissa; compiled code rounds elsewhere.
BF16_GOAL, COMPILE_GOAL = 0.02, 0.002


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
                masks = "flex" if kernel == "flex_attention" else "positions"
                logits = logits_of(model, tensors, masks)[0]
                largest = (logits[: sum(lengths)] - torch.cat(alone)).abs().max().item()
                results.append(
                    check_limit(
                        f"{name}, {kernel}: largest difference of logits, packed and alone",
                        largest, "", 2e-3, is_maximum=True,
                    )
                )  # fmt: skip
    return results


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
