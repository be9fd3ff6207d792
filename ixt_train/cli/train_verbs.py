"""The verbs of the trainer: they train and replay. Heavy imports wait inside."""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixt_data.cli import DEFAULT_STORE, OutputOption, StoreOption, transfer_verbs
from ixt_data.console import Output, OutputMode
from ixt_train.cli import model_verbs
from ixt_train.cli.options import MaybeStoreOption, quiet_libraries
from ixt_train.cli.scaling_verb import scaling

if TYPE_CHECKING:
    from ixt_data.mix import Mix
    from ixt_train.stream import MaterializeReport


def register(app: typer.Typer) -> None:
    """Adds the verbs to the app."""
    app.command()(train)
    model_verbs.register(app)
    app.command()(tokenize)
    app.command()(replay)
    app.command()(scaling)
    transfer_verbs.bakers[:] = [bake_mix]


def train(
    config: Annotated[Path, typer.Argument(metavar="RUN.YAML", help="The train config.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Keys of the config to change.")
    ] = None,
    store: MaybeStoreOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Drop the train run that the run folder holds.")
    ] = False,
    output: OutputOption = OutputMode.text,
) -> None:
    """Train a model on a mix, or go on where an interrupted train run stopped."""
    from ixt_train.config import load_train_config

    settings = load_train_config(config, overrides or [])
    if store is not None:
        settings = settings.model_copy(update={"store": str(store)})
    quiet_libraries()
    from ixt_train.trainer import train

    out = Output(output)
    result = train(settings, overwrite=overwrite, out=out)
    if os.environ.get("RANK", "0") == "0":
        out.result(result.record())


def tokenize(
    tokenizer: Annotated[
        Path, typer.Option("--tokenizer", metavar="DIR", help="A folder with a fast tokenizer.")
    ],
    corpus: Annotated[
        list[str] | None, typer.Option("--corpus", help="Whose documents [all].")
    ] = None,
    critic: Annotated[
        list[str] | None, typer.Option("--critic", help="Whose critiques [all].")
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    output: OutputOption = OutputMode.text,
) -> None:
    """Tokenize documents and critiques ahead of training, for this tokenizer."""
    quiet_libraries()
    from ixt_data.store import Store
    from ixt_train.conditioning import SPECIAL_TOKENS, load_tokenizer
    from ixt_train.stream import tokenize

    out = Output(output)
    with out.progress("Tokenizing", total=None, unit="shards") as bar:
        report = tokenize(
            Store.open(store),
            load_tokenizer(tokenizer, SPECIAL_TOKENS),
            corpus,
            critic,
            lambda done, total: bar.update(done, total=total),
        )
    out.result(report.record())


def replay(
    run: Annotated[Path, typer.Option("--run", metavar="DIR", help="The folder of a train run.")],
    batch: Annotated[
        int | None, typer.Option("--batch", min=1, help="Show what this step drew.")
    ] = None,
    doc: Annotated[
        str | None, typer.Option("--doc", metavar="ID", help="Name the steps that drew a document.")
    ] = None,
    store: MaybeStoreOption = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """Show what a past train run read: a batch of it, or where a document came."""
    if (batch is None) == (doc is None):
        raise typer.BadParameter("give either --batch or --doc")
    quiet_libraries()
    from ixt_train.stream import Replay

    replay = Replay(run, store)
    out = Output(output)
    if batch is not None:
        out.result(replay.batch(batch))
    elif doc is not None:
        out.result(replay.document(doc))


def bake_mix(
    mix: "Mix", tokenizer: Path, folder: str, max_length: int, **options: Any
) -> "MaterializeReport":
    """What `ixt export --baked` calls: `materialize_mix` from the mix's own store."""
    quiet_libraries()
    from ixt_data.store import Store
    from ixt_train.conditioning import SPECIAL_TOKENS, load_tokenizer
    from ixt_train.stream import materialize_mix

    loaded = load_tokenizer(tokenizer, SPECIAL_TOKENS)
    return materialize_mix(Store.open(mix.store), mix, loaded, folder, max_length, **options)
