"""Mixes, plans, and the train runs: the arms and the model of Python."""

import os
from collections.abc import Sequence
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from ixt_data.mix import load_mix, plan_mix
from ixt_tools.demo.configs import (
    ARMS,
    CHARACTERS_PER_TOKEN,
    CLOCK,
    STDLIB,
    clock_mix,
    clock_train,
    stdlib_mix,
    stdlib_train,
    write_yaml,
)
from ixt_tools.demo.jobs import DemoJob
from ixt_tools.demo.machine import count_cores
from ixt_tools.demo.queries import score_quantiles
from ixt_tools.demo.workspace import DemoWorkspace
from ixt_tools.report import Arm, Loss, MixPlanSummary, ReportTable
from ixt_train.config import load_train_config
from ixt_train.scaling import run_jobs

TASK = "sums"


def write_configs(demo: DemoWorkspace) -> list[DemoJob]:
    """Write all mix and train files; return the train runs, the longest first."""
    low, middle, high = score_quantiles(demo.store, STDLIB, [0.25, 0.5, 0.75])
    buckets = tuple(sorted({0.0, low, high, 1.0}))
    # Relative to the file of the mix; the report shows no path of this machine.
    store = os.path.relpath(demo.store_path, demo.configs)
    write_yaml(demo.configs / f"{STDLIB}.mix.yaml", stdlib_mix(store, middle, demo.seed))
    for arm in ARMS:
        write_yaml(demo.configs / f"{arm}.mix.yaml", clock_mix(arm, store, demo.seed))
    jobs = []
    for name in (STDLIB, *reversed(ARMS)):
        run_folder = demo.folder / "runs" / name
        common = (str(run_folder), demo.seed, demo.size)
        train = stdlib_train(*common, buckets) if name == STDLIB else clock_train(name, *common)
        config = write_yaml(demo.configs / f"{name}.yaml", train)
        steps = demo.size.stdlib_steps if name == STDLIB else demo.size.arm_steps
        jobs.append(DemoJob(name, config, config.with_suffix(".log"), run_folder, steps=steps))
    return jobs


def plan_all(demo: DemoWorkspace) -> tuple[MixPlanSummary, ...]:
    """Plan every mix, as `ixt mix plan` does."""
    demo.print_heading("4  Mixes")
    demo.print_text(
        f"The {len(ARMS)} arms differ only in their mix. The plan of each mix, before training:"
    )
    plans = tuple(_plan(demo, name) for name in (*ARMS, STDLIB))
    rows = tuple((plan.name, *row) for plan in plans for row in plan.rows)
    demo.print_table(
        ReportTable("", ("mix", "selection", "documents", "~tokens", "weight", "epochs"), rows)
    )
    return plans


def _plan(demo: DemoWorkspace, name: str) -> MixPlanSummary:
    path, train = (
        demo.configs / f"{name}.mix.yaml",
        load_train_config(demo.configs / f"{name}.yaml"),
    )
    batch = train.global_batch_size
    # The sizes of the train run give the digest that its checkpoints record.
    samples = train.duration.value * batch
    plan = plan_mix(
        load_mix(path),
        samples,
        store=demo.store,
        batch=batch,
        holdout=train.holdout,
        characters_per_token=CHARACTERS_PER_TOKEN[STDLIB if name == STDLIB else CLOCK],
    )
    summary = plan.summary()
    rows = tuple(
        (
            selection["name"],
            f"{selection['documents']:,}",
            f"{selection['tokens']:,}",
            f"{selection['weight']:.2f}",
            f"{selection['epochs']:.1f}",
        )
        for selection in summary["selections"]
    )
    text = path.read_text(encoding="utf-8")
    return MixPlanSummary(name, text, rows, plan.documents, plan.digest)


def train_all(demo: DemoWorkspace, jobs: Sequence[DemoJob]) -> None:
    """Train as `ixt train` does, in parallel processes of one thread."""
    demo.print_heading("5  Training")
    parallel = max(1, min(len(jobs), count_cores()))
    demo.print_text(
        f"Small models, {parallel} at a time: one learns Python from {STDLIB!r}, {len(ARMS)} "
        "learn to calculate from the same worked sums."
    )
    columns = (TextColumn("  {task.description:<9}"), BarColumn(), MofNCompleteColumn())
    note = TextColumn("{task.fields[note]}")
    with Progress(*columns, TimeElapsedColumn(), note, console=demo.console) as progress:
        tasks = {
            job.name: progress.add_task(job.name, total=job.steps, start=False, note="waiting")
            for job in jobs
        }

        def show(job: DemoJob) -> None:
            task = tasks[job.name]
            if not progress.tasks[task].started:
                progress.start_task(task)
            done = job.steps if job.is_finished else job.steps_done()
            progress.update(task, completed=done, note=_note(job))
            if job.is_finished:
                progress.stop_task(task)

        run_jobs(jobs, parallel, show)


def _note(job: DemoJob) -> str:
    if job.name == STDLIB:
        losses = [row["loss"] for row in job.metrics() if "loss" in row]
        return f"loss {losses[-1]:.2f}" if losses else ""
    curve = accuracy_curve(job.metrics())
    return f"solves {curve[-1][1]:.0%}" if curve else ""


def accuracy_curve(rows: Sequence[dict[str, Any]]) -> list[tuple[int, float]]:
    """Return step and accuracy of every evaluation."""
    accuracies = {
        int(row["step"]): float(row["eval"]["tasks"][TASK])
        for row in rows
        if TASK in row.get("eval", {}).get("tasks", {})
    }
    return sorted(accuracies.items())


def read_arms(jobs: Sequence[DemoJob], plans: Sequence[MixPlanSummary]) -> tuple[Arm, ...]:
    """Return the results of the arms, from their metrics."""
    documents = {plan.name: plan.documents for plan in plans}
    by_name = {job.name: job for job in jobs}
    return tuple(_arm(by_name[name], documents[name]) for name in ARMS)


def _arm(job: DemoJob, documents: int) -> Arm:
    rows = job.metrics()
    curve = accuracy_curve(rows)
    return Arm(
        name=job.name,
        steps=tuple(step for step, _ in curve),
        accuracy=tuple(accuracy for _, accuracy in curve),
        final=curve[-1][1],
        documents=documents,
        tokens=max(int(row["tokens"]) for row in rows),
        seconds=job.seconds,
    )


def read_losses(job: DemoJob) -> tuple[Loss, ...]:
    """Return the held-out loss of the model of Python by score bucket and feedback."""
    last_evaluation = [row["eval"] for row in job.metrics() if "eval" in row][-1]
    return tuple(
        Loss(bucket.replace("-", " to "), feedback, loss)
        for feedback, buckets in last_evaluation.get("loss", {}).items()
        for bucket, loss in buckets.items()
    )
