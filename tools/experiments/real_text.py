"""Real text: Python files with critiques by `rules`, at equal compute."""

import sysconfig
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from arms import condition

from ixt_data.console import Output
from ixt_data.critics import load_critic
from ixt_data.critique_runs import annotate
from ixt_data.ingestion import ingest
from ixt_data.mix import Mix, Selection
from ixt_data.store import Store
from ixt_tools.demo import TEXT_MODEL, copy_stdlib, write_yaml
from ixt_train.scaling import RunLabel, TrainJob, read_run, run_jobs, write_curves

PYTHON = "python"
INSTALLED_FILES = 4000
STEPS, EVERY, HELD_OUT = 400, 50, 96
ARMS = ("plain", "filter", "score", "critique")


def measure_text(
    folder: Path, curves: Path, seeds: int, parallel: int, quick: bool, out: Output
) -> None:
    """Train the four arms on the standard library and installed packages; store the curves.

    Raises:
        IxtError: a train run failed.
    """
    place = folder / PYTHON
    store = _store(place, quick)
    cuts = _quantiles(store, [0.25, 0.5, 0.75])
    labels = dict(_jobs(place, store, cuts, 1 if quick else seeds, quick))
    with out.progress("Training", total=len(labels), unit="runs") as bar:
        finished = 0

        def on_update(job: TrainJob) -> None:
            nonlocal finished
            if not job.is_finished:
                return
            finished += 1
            curve = read_run(job.run_folder, labels[job])
            write_curves(curves / f"{PYTHON}.jsonl", [curve])
            bar.update(finished, note=job.name)

        run_jobs(labels, parallel, on_update)


def _store(place: Path, quick: bool) -> Store:
    """Return the store of all files and their critiques; create what is missing."""
    root = place / "store"
    if not (root / "ixt.json").exists():
        Store.init(root)
    store = Store.open(root)
    if PYTHON not in store.snapshot().corpora:
        sources = place / "files"
        copy_stdlib(sources / "stdlib", 60 if quick else None)
        _copy_installed(sources / "installed", 60 if quick else INSTALLED_FILES)
        ingest(store, PYTHON, [sources])
    if "rules" not in {critic.name for critic in store.snapshot().critics.values()}:
        annotate(store, PYTHON, load_critic("rules"))
    return store


def _copy_installed(target: Path, limit: int) -> None:
    """Return files of installed packages, evenly spread by path."""
    root = Path(sysconfig.get_paths()["purelib"])
    paths = sorted(root.rglob("*.py"))
    for path in paths[:: max(1, len(paths) // limit)][:limit]:
        copy = target / path.relative_to(root)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(path.read_bytes())


def _quantiles(store: Store, shares: list[float]) -> list[float]:
    """Return quantiles of the scores, to two decimals."""
    found = store.sql(f"SELECT quantile_cont(score, {shares}) AS q FROM critiques").arrow()
    return [round(value, 2) for value in found["q"][0].as_py()]


def _jobs(
    place: Path, store: Store, cuts: list[float], seeds: int, quick: bool
) -> Iterator[tuple[TrainJob, RunLabel]]:
    steps = 4 if quick else STEPS
    for seed in range(seeds):
        for arm in ARMS:
            name = f"{arm}-{seed}"
            mix = _mix(arm, str(store.root), cuts[1], seed)
            write_yaml(place / "configs" / f"{name}.mix.yaml", mix.model_dump(mode="json"))
            buckets = sorted({0.0, *cuts, 1.0})
            config = _train(f"{name}.mix.yaml", place / "runs" / name, seed, steps, buckets)
            path = write_yaml(place / "configs" / f"{name}.yaml", config)
            job = TrainJob(
                f"{PYTHON} {name}", path, path.with_suffix(".log"), place / "runs" / name
            )
            yield job, RunLabel(arm, PYTHON, seed, f"{steps}ba")


def _mix(arm: str, store: str, middle: float, seed: int) -> Mix:
    kinds = {"score": "score", "critique": "both"}
    better = Selection(name="better half", where=f"score >= {middle}")
    return Mix(
        store=store,
        corpus=(PYTHON,),
        critic="rules",
        condition=condition(kinds[arm], dropout=0.1) if arm in kinds else condition("none"),
        selections=(better if arm == "filter" else Selection(name="all"),),
        seed=seed,
    )


def _train(
    mix: str, run_folder: Path, seed: int, steps: int, buckets: list[float]
) -> dict[str, Any]:
    return {
        "mix": mix,
        "run_folder": str(run_folder),
        "seed": seed,
        "model": {"config": dict(TEXT_MODEL)},
        "tokenizer": {"train": {"kind": "bpe", "vocab_size": 2048, "samples": 500}},
        "max_length": TEXT_MODEL["max_position_embeddings"],
        "global_batch_size": 16,
        "duration": f"{steps}ba",
        "optimizer": {"lr": 2.0e-3, "betas": [0.9, 0.95], "weight_decay": 0.1},
        "schedule": {"kind": "constant", "warmup": f"{min(20, steps)}ba"},
        "ema": 0.97,
        "holdout": 0.1,
        "checkpoint": {"every": "0ba"},
        "eval": {
            "every": f"{min(EVERY, steps)}ba",
            "buckets": buckets,
            "feedback": ["best", "none"],
            "samples": HELD_OUT,
            "batch_size": 16,
        },
        "logging": {"tensorboard": False, "progress": False},
        "threads": 1,
    }
