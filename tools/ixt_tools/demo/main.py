"""The story from the first file to the report."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ixt_data.console import Output
from ixt_tools.demo.configs import FULL, QUICK, STDLIB, TAG
from ixt_tools.demo.data import build_store
from ixt_tools.demo.machine import machine_facts
from ixt_tools.demo.queries import ask, histograms, samples
from ixt_tools.demo.training import plan_all, read_arms, read_losses, train_all, write_configs
from ixt_tools.demo.workspace import DemoWorkspace
from ixt_tools.report import Arm, Loss, Report, arm_table, loss_table, write_report


def run_demo(folder: Path, seed: int, out: Output, quick: bool = False) -> dict[str, Any]:
    """Play the whole demo in `folder`; return what `ixt demo --output json` prints.

    Raises:
        IxtError: the folder holds something else, or a train run failed.
    """
    began = time.monotonic()
    scene = DemoWorkspace(folder, seed, QUICK if quick else FULL, out)
    scene.prepare()
    version = build_store(scene)
    queries = ask(scene)
    jobs = write_configs(scene)
    plans = plan_all(scene)
    train_all(scene, jobs)
    arms, losses = read_arms(jobs, plans), read_losses(jobs[0])
    tell_results(scene, arms, losses)
    store = scene.store
    documents = sum(corpus.documents for corpus in store.snapshot(TAG).corpora.values())
    report = Report(
        title=headline(arms),
        snapshot=version,
        documents=documents,
        seed=seed,
        seconds=time.monotonic() - began,
        effect=describe_effect(scene, arms),
        histograms=histograms(store),
        queries=queries,
        mixes=plans,
        arms=arms,
        losses=losses,
        loss_note=describe_losses(losses),
        samples=samples(store),
        facts=machine_facts(),
        repeat=repeat_lines(scene, quick),
    )
    page = write_report(report, folder)
    scene.say(f"The report: {page}")
    return {
        "store": str(scene.store_path),
        "snapshot": version,
        "documents": documents,
        "arms": {arm.name: arm.final for arm in arms},
        "report": str(page),
        "seconds": round(time.monotonic() - began, 1),
    }


def tell_results(scene: DemoWorkspace, arms: Sequence[Arm], losses: tuple[Loss, ...]) -> None:
    """Print both tables of results."""
    scene.chapter("6  Results")
    scene.say(headline(arms))
    scene.show(arm_table(tuple(arms)))
    if losses:
        scene.say("")
        scene.say(describe_losses(losses))
        scene.show(loss_table(losses))
    scene.say("")


def headline(arms: Sequence[Arm]) -> str:
    """One sentence that says what came out, whatever came out."""
    accuracy = {arm.name: arm.final for arm in arms}
    others = max(value for name, value in accuracy.items() if name != "critique")
    if accuracy["critique"] >= others + 0.3:
        return (
            f"With critiques the model solves {accuracy['critique']:.0%} of new problems; "
            f"without them, at most {others:.0%}"
        )
    shares = ", ".join(f"{name} {value:.0%}" for name, value in accuracy.items())
    return f"New problems solved: {shares}"


def describe_effect(scene: DemoWorkspace, arms: Sequence[Arm]) -> str:
    """What the experiment is, for someone who sees only the report."""
    flawless = next(arm.documents for arm in arms if arm.name == "filter")
    return (
        f"{scene.size.documents:,} worked sums modulo 40, of which {flawless:,} are without a "
        "mistake; the other authors have a systematic defect. The critic reads only the text; it "
        "gives a score and names the defect. Plain trains on all documents as they come, filter "
        "only on those without a mistake, score puts the score in front of each document, critique "
        "the score and the critique. At the end each model solves problems that were in no "
        "document; score and critique ask for the best feedback. The critic knows exactly what is "
        "wrong, so this is an upper bound, and its own compute is not counted."
    )


def describe_losses(losses: tuple[Loss, ...]) -> str:
    """What the table of losses says, read from its figures."""
    if not losses:
        return ""
    figures = {(loss.bucket, loss.feedback): loss.loss for loss in losses}
    buckets = sorted({bucket for bucket, _ in figures if " to " in bucket})
    gains = [figures[bucket, "worst"] - figures[bucket, "best"] for bucket in buckets]
    shift = gains[-1] - gains[0] if gains else 0.0
    verdict = (
        f"From the lowest scores to the highest, best feedback gains {shift:.3f} nats per token on "
        "worst feedback: told what to expect, the model expects it."
        if shift > 0
        else "Best feedback does not suit the files of high score better than those of low score: "
        "after so short a training the model does not tell them apart."
    )
    return (
        f"The small model of Python on files of {STDLIB!r} that were held out of training, under "
        f"the best feedback, the worst, none, and each file's own. {verdict}"
    )


def repeat_lines(scene: DemoWorkspace, quick: bool) -> tuple[str, ...]:
    """Commands that repeat the demo, and its parts."""
    folder = scene.folder
    return (
        f"ixt demo --folder {folder} --seed {scene.seed}{' --quick' if quick else ''}",
        f"ixt query --store {scene.store_path} --at {TAG} "
        f"\"SELECT critique, count(*) FROM critiques WHERE critic = 'arithmetic' GROUP BY 1\"",
        f"ixt mix plan {scene.configs}/critique.mix.yaml",
        f"ixt train {scene.configs}/critique.yaml run_folder={folder}/runs/again",
    )
