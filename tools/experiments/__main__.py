"""`make proof`: build the corpora, train every arm, keep the curves, write the results."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from corpora import PROBLEMS
from real_text import measure_text
from results import write_results
from run_list import PROOF, SPANS, Run, runs_of, shortened

from ixt_data.console import Output, OutputMode
from ixt_data.errors import IxtError
from ixt_tools.demo import count_cores
from ixt_train.scaling import TrainJob, read_run, run_jobs, write_curves

SERIES = {"proof": PROOF, "spans": SPANS}
EVERY = 25
QUICK_DOCUMENTS, QUICK_STEPS, QUICK_EVERY, QUICK_PROBLEMS = 200, 8, 4, 20


def train_all(
    runs: Sequence[Run], folder: Path, curves: Path, parallel: int, quick: bool, out: Output
) -> None:
    """Trains what is not trained yet; the curve of each run is kept as it ends.

    Raises:
        IxtError: a train run failed.
    """
    every, problems = (QUICK_EVERY, QUICK_PROBLEMS) if quick else (EVERY, PROBLEMS)
    by_job: dict[TrainJob, Run] = {}

    def jobs() -> Iterator[TrainJob]:
        # One by one, so that a corpus is made while others train.
        for run in runs:
            job = run.prepare(folder, every, problems)
            by_job[job] = run
            yield job

    with out.progress("Training", total=len(runs), unit="runs") as bar:
        finished = 0

        def on_update(job: TrainJob) -> None:
            nonlocal finished
            if not job.is_finished:
                return
            finished += 1
            run = by_job[job]
            curve = read_run(job.run_folder, run.label)
            write_curves(curves / f"{run.corpus.name}.jsonl", [curve])
            bar.update(finished, note=f"{job.name}: {max(curve.metrics['tasks.sums']):.2f}")

        run_jobs(jobs(), parallel, on_update)


def _main(
    part: Annotated[
        str, typer.Argument(help="proof (R1 and R2), spans, text, or write: only the page.")
    ] = "proof",
    folder: Annotated[
        Path, typer.Option(help="Corpora and train runs; what is finished there is not repeated.")
    ] = Path("ixt-proof"),
    results: Annotated[Path, typer.Option(help="Where results.md lies.")] = Path("docs"),
    seeds: Annotated[int, typer.Option(min=1, help="How many seeds.")] = 3,
    parallel: Annotated[
        int | None, typer.Option(min=1, help="Train runs at once [as many as cores].")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few steps of each arm: shows that all is connected.")
    ] = False,
) -> None:
    """Measure what docs/results.md says, and write it."""
    out = Output(OutputMode.text)
    if quick:
        # Figures of a few steps must not stand among results.
        folder, results = Path(f"{folder}-quick"), Path(f"{folder}-quick") / "docs"
        shutil.rmtree(folder, ignore_errors=True)
    curves = results / "results"
    if part in SERIES:
        runs = runs_of(SERIES[part], range(1 if quick else seeds))
        if quick:
            runs = shortened(runs, QUICK_DOCUMENTS, QUICK_STEPS)
        train_all(runs, folder, curves, parallel or count_cores(), quick, out)
    elif part == "text":
        measure_text(folder, curves, seeds, parallel or count_cores(), quick, out)
    elif part != "write":
        raise IxtError(f"part: {part!r} is none of proof, spans, text, write")
    page = write_results(results)
    out.note(f"The results: {page}")


if __name__ == "__main__":
    typer.run(_main)
