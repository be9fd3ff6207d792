"""The train runs of a scaling config."""

from pathlib import Path

from ixt_data.console import Output
from ixt_train.scaling.config import ScalingConfig, prepare_jobs, write_label
from ixt_train.scaling.curves import LearningCurve, read_run
from ixt_train.scaling.runner import TrainJob, run_jobs


def run_arms(config: ScalingConfig, folder: Path, out: Output) -> list[LearningCurve]:
    """Train the arms that are not trained yet and read all curves; resume interrupted runs.

    Raises:
        ConfigError: a config is wrong.
        IxtError: a train run failed.
    """
    jobs = dict(prepare_jobs(config, folder))
    with out.progress("Training", total=len(jobs), unit="runs") as bar:
        finished = 0

        def on_update(job: TrainJob) -> None:
            nonlocal finished
            if not job.is_finished:
                return
            finished += 1
            write_label(job.run_folder, jobs[job])
            bar.update(finished, note=job.name)

        run_jobs(jobs, config.parallel_runs, on_update)
    return [read_run(job.run_folder, label) for job, label in jobs.items()]
