"""The verb `scaling`: run arms or read their curves, and compare the compute that they need."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ixt_data.cli import OutputOption
from ixt_data.console import Output, OutputMode

if TYPE_CHECKING:
    from ixt_train.scaling import LearningCurve, ScalingConfig

PathsArgument = Annotated[
    list[str],
    typer.Argument(
        metavar="[ARM=]PATH...",
        help="A scaling config (YAML) to run; or run folders, folders of them, or JSONL of curves.",
    ),
]


def scaling(
    paths: PathsArgument,
    metric: Annotated[
        str | None,
        typer.Option(
            show_default="the first task", help="Metric, such as tasks.sums or loss.inference.all."
        ),
    ] = None,
    target: Annotated[
        list[float] | None,
        typer.Option(show_default=".3 .5 .9", help="Target value of the metric; may be repeated."),
    ] = None,
    against: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ARM",
            show_default="plain and filter arms",
            help="Baseline arm; 'plain|filter' is the better of two.",
        ),
    ] = None,
    html: Annotated[
        Path | None, typer.Option(metavar="FILE.html", help="Write a page with plots, too.")
    ] = None,
    save: Annotated[
        Path | None, typer.Option(metavar="FILE.jsonl", help="Write the curves to a file, too.")
    ] = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """Compare the compute that arms need to reach a target: steps, tokens, FLOPs.

    Feedback tokens count, padding does not. Annotation is counted separately.
    """
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    from ixt_train.scaling import compare_arms, render_tables, report_record, write_curves

    out = Output(output)
    curves, config = _curves(paths, out)
    groups = compare_arms(
        curves,
        metric or (config.metric if config else None),
        target or (config.targets if config else ()),
        against or (config.against if config else ()),
    )
    report = report_record(groups)
    if save is not None:
        write_curves(save, curves)
    if html is not None:
        from ixt_train.scaling import write_page

        write_page(html, groups, curves)
        report["page"] = str(html)
    out.result(report, render_tables(groups))


def _curves(
    paths: Sequence[str], out: Output
) -> "tuple[list[LearningCurve], ScalingConfig | None]":
    from ixt_train.scaling import read_paths

    if len(paths) == 1 and paths[0].endswith((".yaml", ".yml")):
        from ixt_train.scaling import load_scaling_config, run_arms

        config = load_scaling_config(paths[0])
        return run_arms(config, Path(paths[0]).parent, out), config
    return read_paths(paths), None
