"""The verbs of this package: demo. Everything heavy is imported when a verb is called."""

import importlib.util
from pathlib import Path
from typing import Annotated

import typer

from ixt_data.cli.output import Output, OutputMode, OutputOption
from ixt_data.errors import MissingExtra


def register(app: typer.Typer) -> None:
    """Adds the verbs to the app."""
    app.command()(demo)


def demo(
    folder: Annotated[Path, typer.Option(help="Where everything goes; made anew.")] = Path("demo"),
    seed: Annotated[int, typer.Option(min=0, help="Of the corpus, the mixes, the models.")] = 0,
    quick: Annotated[
        bool, typer.Option("--quick", help="A few steps only: is everything connected?")
    ] = False,
    output: OutputOption = OutputMode.text,
) -> None:
    """Play the whole way of the data on this machine, in minutes, and write report.html."""
    for package in ("composer", "altair", "vl_convert"):
        if importlib.util.find_spec(package) is None:
            raise MissingExtra(package, "train")
    from ixt_tools.demo.main import run_demo

    out = Output(output)
    out.result(run_demo(folder, seed, out, quick))
