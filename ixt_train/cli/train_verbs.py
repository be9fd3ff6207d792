"""The verbs of the trainer: train, tokenize, replay. Heavy imports are inside."""

import os
import shlex
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ixt_data.cli import DEFAULT_STORE, Group, OutputOption, StoreOption, add_verb
from ixt_data.console import Output, OutputMode, table
from ixt_train.cli import model_verbs
from ixt_train.cli.options import MaybeStoreOption, quiet_libraries
from ixt_train.cli.scaling_verb import scaling

if TYPE_CHECKING:
    from ixt_train.config import TrainConfig


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    page = "training.md"
    add_verb(app, train, Group.TRAIN, example="ixt train run.yaml duration=500ba", docs=page)
    model_verbs.register(app)
    add_verb(
        app, tokenize, Group.TRAIN, example="ixt tokenize --store S --tokenizer DIR", docs=page
    )
    add_verb(app, replay, Group.TRAIN, example="ixt replay --run runs/first --batch 12", docs=page)
    add_verb(
        app, scaling, Group.TRAIN, example="ixt scaling runs/ --html page.html", docs="scaling.md"
    )


def train(
    config: Annotated[Path, typer.Argument(metavar="RUN.YAML", help="The train config.")],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Keys of the config to override."),
    ] = None,
    store: MaybeStoreOption = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Delete the train run in the run folder first.")
    ] = False,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            "--sweep",
            metavar="KEY=VALUE,VALUE",
            help="Train once per value, in folders inside run_folder, and compare the losses; "
            "several --sweep train every combination.",
        ),
    ] = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """Train a model on a mix, or resume an interrupted run."""
    if sweep:
        _sweep(config, overrides or [], sweep, store, overwrite, Output(output))
        return
    from ixt_train.config import load_train_config
    from ixt_train.runs import check_train_run

    settings = load_train_config(config, overrides or [])
    if store is not None:
        settings = settings.model_copy(update={"store": str(store)})
    if os.environ.get("WORLD_SIZE", "1") == "1":
        check_train_run(settings, overwrite)  # before the slow imports
    quiet_libraries()
    from ixt_train.trainer import reuse_freed_memory, train

    reuse_freed_memory()
    out = Output(output)
    with _keep_stdout(out, lambda: _what_is_kept(settings)):
        result = train(settings, overwrite=overwrite, out=out)
    if _is_first():
        out.result(result.record())


def _is_first() -> bool:
    """Return whether this process is the one that prints."""
    return os.environ.get("RANK", "0") == "0"


@contextmanager
def _keep_stdout(out: Output, what_is_kept: Callable[[], str]) -> Iterator[None]:
    """Keep Composer off stdout, which is for the result; print what an interruption keeps."""
    try:
        with redirect_stdout(sys.stderr):
            yield
    except (KeyboardInterrupt, SystemExit):
        # Composer exits at SIGINT and SIGTERM.
        if _is_first():
            out.note(what_is_kept())
        raise


def _sweep(
    config: Path,
    overrides: list[str],
    axes: list[str],
    store: Path | str | None,
    overwrite: bool,
    out: Output,
) -> None:
    """Train every combination of a sweep, and print a table of their losses, the lowest first."""
    from ixt_train.runs import check_train_run, load_points

    named = [] if store is None else [f"store={store}"]
    points = load_points(config, [*overrides, *named], axes)
    if os.environ.get("WORLD_SIZE", "1") == "1":
        for _, settings in points:
            check_train_run(settings, overwrite)  # before the slow imports
    quiet_libraries()
    from ixt_train.trainer import reuse_freed_memory, run_sweep, sweep_rows

    reuse_freed_memory()
    again = " without --overwrite" if overwrite else ""
    kept_runs = f"interrupted; the same command{again} repeats no finished run of the sweep"
    with _keep_stdout(out, lambda: kept_runs):
        runs = run_sweep(points, overwrite=overwrite, out=out)
    if _is_first():
        out.result({"runs": [asdict(run) for run in runs]}, table(*sweep_rows(runs)))
        # The sweep has its folder; the run to come takes the one of the config.
        kept = [setting for setting in overrides if not setting.startswith("run_folder=")]
        command = shlex.join(["ixt", "train", str(config), *kept, *runs[0].settings])
        out.note(f"lowest loss, in {runs[0].run_folder}: {command}")


def _what_is_kept(config: "TrainConfig") -> str:
    """Return what an interrupted train run has, and where the same command continues."""
    from ixt_train.runs import checkpoint_step, newest_checkpoint

    latest = newest_checkpoint(Path(config.run_folder))
    if latest is None:
        every = config.checkpoint.every
        return (
            f"interrupted before a checkpoint (checkpoint.every: {every}); the same command "
            "starts again from step 0"
        )
    return f"interrupted; the same command resumes at step {checkpoint_step(latest):,}"


def tokenize(
    tokenizer: Annotated[
        Path, typer.Option("--tokenizer", metavar="DIR", help="A folder with a fast tokenizer.")
    ],
    corpus: Annotated[
        list[str] | None,
        typer.Option("--corpus", show_default="all", help="Corpus to tokenize; may be repeated."),
    ] = None,
    critic: Annotated[
        list[str] | None,
        typer.Option(
            "--critic",
            show_default="all",
            help="Critic whose critiques to tokenize; may be repeated.",
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    output: OutputOption = OutputMode.text,
) -> None:
    """Tokenize documents and critiques before training, for one tokenizer."""
    quiet_libraries()
    from ixt_data.store import Store
    from ixt_train.conditioning import SPECIAL_TOKENS, load_tokenizer
    from ixt_train.stream import tokenize

    out = Output(output)
    with out.progress("tokenizing", total=None, unit="shards") as bar:
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
        int | None, typer.Option("--batch", min=1, help="Step whose documents to list.")
    ] = None,
    doc: Annotated[
        str | None, typer.Option("--doc", metavar="ID", help="Document whose steps to list.")
    ] = None,
    store: MaybeStoreOption = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """List the documents of a batch of a past train run, or the steps that drew a document."""
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
