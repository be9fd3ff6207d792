"""`make proof`: build the corpora, train every arm, store the curves, write the results."""

import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Annotated

import typer
from corpora import PROBLEMS
from real_text import measure_text
from results import write_results
from run_list import ANNEAL, DECAY, PROOF, SPANS, ExperimentRun, list_runs, shorten_runs

from ixt_data.console import Output, OutputMode
from ixt_data.errors import IxtError
from ixt_tools.demo import count_cores
from ixt_train.scaling import TrainJob, read_run, run_jobs, write_curves

SERIES = {"proof": (PROOF, None), "spans": (SPANS, None), "anneal": (ANNEAL, DECAY)}
EVERY = 25
QUICK_DOCUMENTS, QUICK_STEPS, QUICK_EVERY, QUICK_PROBLEMS = 200, 8, 4, 20


def train_all(
    runs: Sequence[ExperimentRun],
    folder: Path,
    curves: Path,
    parallel: int,
    quick: bool,
    out: Output,
) -> None:
    """Train the runs that have not finished yet; store the curve of each run when it ends.

    Raises:
        IxtError: a train run failed.
    """
    every, problems = (QUICK_EVERY, QUICK_PROBLEMS) if quick else (EVERY, PROBLEMS)
    by_job: dict[TrainJob, ExperimentRun] = {}

    def jobs() -> Iterator[TrainJob]:
        # A generator: a corpus is built while other runs train.
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
            write_curves(curves / f"{run.group}.jsonl", [curve])
            bar.update(finished, note=f"{job.name}: {max(curve.metrics['tasks.sums']):.2f}")

        run_jobs(jobs(), parallel, on_update)


def _main(
    part: Annotated[
        str,
        typer.Argument(help="proof (R1 and R2), spans, anneal, text, or write (only the page)."),
    ] = "proof",
    folder: Annotated[
        Path, typer.Option(help="Folder of corpora and train runs; finished runs are not repeated.")
    ] = Path("ixt-proof"),
    results: Annotated[Path, typer.Option(help="Folder of results.md.")] = Path("docs"),
    seeds: Annotated[int, typer.Option(min=1, help="Number of seeds.")] = 3,
    parallel: Annotated[
        int | None, typer.Option(min=1, show_default="one per core", help="Parallel train runs.")
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few steps of each arm, as a test of the pipeline.")
    ] = False,
) -> None:
    """Run the experiments of docs/results.md, and write it."""
    out = Output(OutputMode.text)
    if quick:
        # Values after a few steps must not appear in the results.
        folder, results = Path(f"{folder}-quick"), Path(f"{folder}-quick") / "docs"
        shutil.rmtree(folder, ignore_errors=True)
    curves = results / "results"
    if part in SERIES:
        series, decay = SERIES[part]
        runs = list_runs(series, range(1 if quick else seeds), decay)
        if quick:
            runs = shorten_runs(runs, QUICK_DOCUMENTS, QUICK_STEPS)
        train_all(runs, folder, curves, parallel or count_cores(), quick, out)
    elif part == "text":
        measure_text(folder, curves, seeds, parallel or count_cores(), quick, out)
    elif part != "write":
        raise IxtError(f"part: {part!r} is not valid; valid: proof, spans, anneal, text, write")
    page = write_results(results)
    out.note(f"Results: {page}")


if __name__ == "__main__":
    typer.run(_main)
