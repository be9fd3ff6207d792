"""The verbs of a mix: plan and preset."""

from pathlib import Path
from typing import Annotated

import typer
import yaml

from ixt_data.cli.options import DEFAULT_STORE, AtOption, OutputOption, StoreOption
from ixt_data.cli.verbs import Group, add_verb, add_verbs
from ixt_data.console import Output, OutputMode


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    mix = add_verbs(app, "mix", Group.MIX, "Write a mix, and plan what a training job draws.")
    add_verb(mix, plan, None, example="ixt mix plan mix.yaml --samples 10000", docs="trainers.md")
    add_verb(
        mix,
        preset,
        None,
        example="ixt mix preset spans --store S --critic rules --visits 10000 > mix.yaml",
        docs="trainers.md",
    )


def plan(
    config: Annotated[Path, typer.Argument(metavar="MIX.YAML", help="The mix.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Keys of the mix to change.")
    ] = None,
    store: Annotated[
        Path | None,
        typer.Option(
            envvar="IXT_STORE", show_default="the store in the mix", help="Root of the store."
        ),
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(show_default="each document once", help="Samples that the train run draws."),
    ] = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """Print what a mix draws: documents, tokens and epochs per selection, and a digest."""
    from ixt_data.mix import load_mix, plan_mix, render_plan
    from ixt_data.store import Store

    mix = load_mix(config, overrides or [])
    planned = plan_mix(mix, samples, store=Store.open(store or mix.store))
    Output(output).result(planned.summary(), render_plan(planned))


def preset(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="spans, spans-natural or spans-good-first.")
    ],
    critic: Annotated[str, typer.Option(help="Critic whose spans to use, by name or id.")],
    visits: Annotated[
        int,
        typer.Option(min=1, help="Documents that the run draws: steps times global_batch_size."),
    ],
    good: Annotated[
        str, typer.Option(metavar="SQL", help="Predicate of documents without a defect.")
    ] = "score >= 1",
    sign: Annotated[
        str | None,
        typer.Option(
            metavar="TOKEN",
            help="Token that a tag replaces and a verdict follows, such as '='.",
        ),
    ] = None,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Only documents of this corpus; may be repeated.")
    ] = None,
    at: AtOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of draws, order and dropout.")] = 17,
    store: StoreOption = DEFAULT_STORE,
    output: OutputOption = OutputMode.text,
) -> None:
    """Print a measured mix as YAML: span critiques with a schedule (docs/results.md)."""
    from ixt_data.errors import MixError
    from ixt_data.mix import PRESETS, Recipe, span_mix
    from ixt_data.store import Store

    opened = Store.open(store)
    if name not in PRESETS:
        raise MixError(f"preset {name!r} does not exist; valid are {', '.join(PRESETS)}")
    recipe = Recipe(
        store=str(store),
        critic=critic,
        good=good,
        visits=visits,
        sign=sign,
        snapshot=int(at) if at is not None and at.isdecimal() else at,
        corpus=tuple(corpus) if corpus else None,
        seed=seed,
    )
    mix = span_mix(opened, recipe, PRESETS[name])
    record = mix.model_dump(mode="json", exclude_defaults=True)
    if output is OutputMode.json:
        Output(output).result(record)
    else:
        # The console would fold long lines.
        typer.echo(yaml.safe_dump(record, sort_keys=False, width=100), nl=False)
