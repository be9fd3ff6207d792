"""The demo from the first file to the report."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ixt_data.console import Output
from ixt_tools.demo.configs import FULL, QUICK, STDLIB, TAG
from ixt_tools.demo.data import build_store
from ixt_tools.demo.machine import machine_facts
from ixt_tools.demo.queries import read_histograms, read_samples, run_queries
from ixt_tools.demo.training import plan_all, read_arms, read_losses, train_all, write_configs
from ixt_tools.demo.workspace import DemoWorkspace
from ixt_tools.report import Arm, Loss, Report, arm_table, loss_table, write_report


def run_demo(folder: Path, seed: int, out: Output, quick: bool = False) -> dict[str, Any]:
    """Run the demo in `folder`; return the record that `ixt demo --output json` prints.

    Raises:
        IxtError: the folder contains other files, or a train run failed.
    """
    start = time.monotonic()
    demo = DemoWorkspace(folder, seed, QUICK if quick else FULL, out)
    demo.prepare()
    version = build_store(demo)
    queries = run_queries(demo)
    jobs = write_configs(demo)
    plans = plan_all(demo)
    train_all(demo, jobs)
    arms, losses = read_arms(jobs, plans), read_losses(jobs[0])
    print_results(demo, arms, losses)
    store = demo.store
    documents = sum(corpus.documents for corpus in store.snapshot(TAG).corpora.values())
    report = Report(
        title=format_headline(arms),
        snapshot=version,
        documents=documents,
        seed=seed,
        seconds=time.monotonic() - start,
        effect=describe_effect(demo, arms),
        histograms=read_histograms(store),
        queries=queries,
        mixes=plans,
        arms=arms,
        losses=losses,
        loss_note=describe_losses(losses),
        samples=read_samples(store),
        facts=machine_facts(),
        repeat=repeat_lines(demo, quick),
    )
    page = write_report(report, folder)
    demo.print_text(f"Report: {page}")
    return {
        "store": str(demo.store_path),
        "snapshot": version,
        "documents": documents,
        "arms": {arm.name: arm.final for arm in arms},
        "report": str(page),
        "seconds": round(time.monotonic() - start, 1),
    }


def print_results(demo: DemoWorkspace, arms: Sequence[Arm], losses: tuple[Loss, ...]) -> None:
    """Print both tables of results."""
    demo.print_heading("6  Results")
    demo.print_text(format_headline(arms))
    demo.print_table(arm_table(tuple(arms)))
    if losses:
        demo.print_text("")
        demo.print_text(describe_losses(losses))
        demo.print_table(loss_table(losses))
    demo.print_text("")


def format_headline(arms: Sequence[Arm]) -> str:
    """Return one sentence with the result of the comparison."""
    accuracy = {arm.name: arm.final for arm in arms}
    others = max(value for name, value in accuracy.items() if name != "critique")
    if accuracy["critique"] >= others + 0.3:
        return (
            f"With critiques, the model solves {accuracy['critique']:.0%} of new problems; "
            f"without them, at most {others:.0%}"
        )
    shares = ", ".join(f"{name} {value:.0%}" for name, value in accuracy.items())
    return f"New problems solved: {shares}"


def describe_effect(demo: DemoWorkspace, arms: Sequence[Arm]) -> str:
    """Return a description of the experiment for the report."""
    flawless = next(arm.documents for arm in arms if arm.name == "filter")
    return (
        f"The corpus has {demo.size.documents:,} worked sums modulo 40; {flawless:,} are correct, "
        "and the other authors have a systematic defect. The critic reads only the text. It "
        "gives a score and names the defect. The arm plain trains on all documents, filter only "
        "on the correct ones, anneal on all documents and in the last part on the correct ones, "
        "score with the score before each document, and critique with score and critique. The "
        "learning rate of each arm falls in the last part. At the end each model solves problems "
        "that occur in no document; score and critique are conditioned on the best feedback. The "
        "critic knows every error, so the result is an upper bound. The compute of the critic is "
        "not counted."
    )


def describe_losses(losses: tuple[Loss, ...]) -> str:
    """Return a description of the table of losses."""
    if not losses:
        return ""
    values = {(loss.bucket, loss.feedback): loss.loss for loss in losses}
    buckets = sorted({bucket for bucket, _ in values if " to " in bucket})
    gains = [values[bucket, "worst"] - values[bucket, "best"] for bucket in buckets]
    shift = gains[-1] - gains[0] if gains else 0.0
    verdict = (
        f"From the lowest scores to the highest, the gain of best over worst feedback grows by "
        f"{shift:.3f} nats per token: the feedback changes what the model expects."
        if shift > 0
        else "Best feedback does not fit files of high scores better than files of low scores: "
        "after this short training the model does not distinguish them."
    )
    return (
        f"Losses of the small model of Python on held-out files of {STDLIB!r}, under the best "
        f"feedback, the worst, none, and the observed feedback of each file. {verdict}"
    )


def repeat_lines(demo: DemoWorkspace, quick: bool) -> tuple[str, ...]:
    """Return commands that repeat the demo and its parts."""
    folder = demo.folder
    return (
        f"ixt demo --folder {folder} --seed {demo.seed}{' --quick' if quick else ''}",
        f"ixt query --store {demo.store_path} --at {TAG} "
        f"\"SELECT critique, count(*) FROM critiques WHERE critic = 'arithmetic' GROUP BY 1\"",
        f"ixt mix plan {demo.configs}/critique.mix.yaml",
        f"ixt train {demo.configs}/critique.yaml run_folder={folder}/runs/again",
    )
