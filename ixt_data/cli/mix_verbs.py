"""The verbs of a mix: plan and preset."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
import yaml

from ixt_data.cli.options import DEFAULT_STORE, AtOption, OutputOption, StoreOption
from ixt_data.cli.verbs import Group, add_verb, add_verbs
from ixt_data.console import Output, OutputMode


class Feedback(StrEnum):
    """The feedback of a preset."""

    none = "none"
    score = "score"
    critique = "critique"
    both = "both"


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    mix = add_verbs(app, "mix", Group.MIX, "Write a mix, and plan what a training job draws.")
    add_verb(mix, plan, None, example="ixt mix plan mix.yaml --samples 10000", docs="trainers.md")
    add_verb(
        mix,
        preset,
        None,
        example='ixt mix preset anneal --store S --critic rules --good "score >= 0.8" > mix.yaml',
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
        str,
        typer.Argument(metavar="NAME", help="anneal, spans, spans-natural or spans-good-first."),
    ],
    critic: Annotated[str, typer.Option(help="Critic of the scores and spans, by name or id.")],
    visits: Annotated[
        int | None,
        typer.Option(
            min=1,
            show_default="required for spans",
            help="Documents that the run draws: steps times global_batch_size.",
        ),
    ] = None,
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
    last: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="anneal: share of the run, at its end, that draws good documents alone.",
        ),
    ] = 0.3,
    feedback: Annotated[
        Feedback, typer.Option(help="anneal: feedback before each document.")
    ] = Feedback.none,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Only documents of this corpus; may be repeated.")
    ] = None,
    at: AtOption = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of draws, order and dropout.")] = 17,
    store: StoreOption = DEFAULT_STORE,
    output: OutputOption = OutputMode.text,
) -> None:
    """Print a measured mix as YAML (docs/results.md).

    `anneal` draws all documents, and good documents alone at the end. `spans` puts span critiques
    into the documents, with a schedule.
    """
    from ixt_data.errors import MixError
    from ixt_data.mix import SPAN_PRESETS, Recipe, anneal_mix, build_condition, span_mix, store_at
    from ixt_data.store import Store

    opened = Store.open(store)
    if name != "anneal" and name not in SPAN_PRESETS:
        valid = ", ".join(("anneal", *SPAN_PRESETS))
        raise MixError(f"preset {name!r} does not exist; valid are {valid}")
    recipe = Recipe(
        # Absolute: the store of a mix is relative to its file, and the file is not known here.
        store=store_at(str(store), Path()),
        critic=critic,
        good=good,
        visits=visits,
        sign=sign,
        snapshot=int(at) if at is not None and at.isdecimal() else at,
        corpus=tuple(corpus) if corpus else None,
        seed=seed,
    )
    if name == "anneal":
        mix = anneal_mix(opened, recipe, last, build_condition(kind=feedback.value))
    else:
        mix = span_mix(opened, recipe, SPAN_PRESETS[name])
    record = mix.model_dump(mode="json", exclude_defaults=True)
    if output is OutputMode.json:
        Output(output).result(record)
    else:
        # The console would fold long lines.
        typer.echo(yaml.safe_dump(record, sort_keys=False, width=100), nl=False)
