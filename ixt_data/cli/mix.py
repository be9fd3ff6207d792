"""The verbs of a mix: plan."""

from pathlib import Path
from typing import Annotated

import typer

from ixt_data.cli.output import Output, OutputMode, OutputOption


def register(app: typer.Typer) -> None:
    """Adds the verbs to the app."""
    mix = typer.Typer(no_args_is_help=True, help="Plan what a training job would draw.")
    mix.command()(plan)
    # A second command would go here; the callback keeps `plan` a verb of its own until then.
    mix.callback()(lambda: None)
    app.add_typer(mix, name="mix")


def plan(
    config: Annotated[Path, typer.Argument(metavar="MIX.YAML", help="The mix.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Keys of the mix to change.")
    ] = None,
    store: Annotated[
        Path | None, typer.Option(envvar="IXT_STORE", help="Root of the store [the mix's].")
    ] = None,
    samples: Annotated[
        int | None, typer.Option(help="Samples that the train run draws [each document once].")
    ] = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """Print what a mix draws: documents, tokens and epochs per selection, and its digest."""
    from ixt_data.mix import load_mix, plan_mix, render_plan
    from ixt_data.store import Store

    mix = load_mix(config, overrides or [])
    planned = plan_mix(Store.open(store or mix.store), mix, samples)
    Output(output).result(planned.summary(), render_plan(planned))
