"""The verbs that take data in where it is, and let it out: adopt, export."""

from collections.abc import Callable
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ixt_data.cli.options import DEFAULT_STORE, AtOption, OutputOption, StoreOption
from ixt_data.console import Output, OutputMode
from ixt_data.errors import MissingExtra

if TYPE_CHECKING:
    from ixt_data.mix import Mix


bakers: list[Callable[..., Any]] = []
"""What makes baked exports: the verbs of the trainer's package put it here, since only they know
tokens."""


class ExportFormat(StrEnum):
    """What `ixt export` makes."""

    delta = "delta"
    parquet = "parquet"
    jsonl = "jsonl"
    mds = "mds"


def register(app: typer.Typer) -> None:
    """Adds the verbs to the app."""
    app.command()(adopt)
    app.command()(export)


def adopt(
    folder: Annotated[
        str,
        typer.Argument(metavar="MDS_FOLDER", help="Folder of MDS shards, also s3://bucket/prefix."),
    ],
    corpus: Annotated[str, typer.Option(help="Corpus that the documents go to.")],
    store: StoreOption = DEFAULT_STORE,
    text_field: Annotated[str, typer.Option(help="Column that holds the text.")] = "text",
    id_field: Annotated[
        str | None, typer.Option(help="Column that holds your own id [folder:shard:row].")
    ] = None,
    stage: Annotated[
        Literal["pretrain", "midtrain", "sft"], typer.Option(help="Stage of training.")
    ] = "pretrain",
    output: OutputOption = OutputMode.text,
) -> None:
    """Make an MDS folder a corpus where it is; nothing is copied and nothing in it changed."""
    from ixt_data.ingestion import adopt as run
    from ixt_data.ingestion import folder_bytes
    from ixt_data.store import Store

    out = Output(output)
    opened = Store.open(store)
    with out.progress("adopting", folder_bytes(folder), "B") as bar:
        report = run(
            opened,
            corpus,
            folder,
            text_field=text_field,
            id_field=id_field,
            stage=stage,
            progress=lambda done, documents: bar.update(done, f"{documents:,} documents"),
        )
    out.result(asdict(report))
    if report.left_out:
        out.note(f"no metadata from {', '.join(report.left_out)}: neither numbers nor text")


def export(
    to: Annotated[
        str | None,
        typer.Argument(metavar="OUT", help="File or folder to make; delta has STORE/delta."),
    ] = None,
    format: Annotated[ExportFormat, typer.Option("--format", "-f", help="What to make.")] = (
        ExportFormat.parquet
    ),
    where: Annotated[
        str | None, typer.Option(metavar="SQL", help="Only documents for which this is true.")
    ] = None,
    selection: Annotated[
        str | None,
        typer.Option(metavar="NAME", help="Only documents of this saved selection."),
    ] = None,
    corpus: Annotated[
        list[str] | None, typer.Option(help="Only documents of this corpus; may be repeated.")
    ] = None,
    critic: Annotated[
        str | None, typer.Option(help="Whose critiques to join [the only critic's].")
    ] = None,
    at: AtOption = None,
    baked: Annotated[
        bool,
        typer.Option(
            "--baked",
            help="mds: conditioned, tokenized and packed rows, as llm-foundry reads them.",
        ),
    ] = False,
    tokenizer: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="With --baked: a folder with a fast tokenizer."),
    ] = None,
    mix: Annotated[
        Path | None,
        typer.Option(metavar="MIX.YAML", help="With --baked: what to draw [all that is chosen]."),
    ] = None,
    max_length: Annotated[int, typer.Option(min=1, help="With --baked: tokens of a row.")] = 2048,
    samples: Annotated[
        int | None, typer.Option(min=1, help="With --baked: how many to draw [each once].")
    ] = None,
    holdout: Annotated[
        float, typer.Option(min=0, max=0.99, help="With --baked: share of documents left out.")
    ] = 0.0,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace an earlier export.")
    ] = False,
    store: StoreOption = DEFAULT_STORE,
    output: OutputOption = OutputMode.text,
) -> None:
    """Write documents with their critiques for other tools, or show the rows as Delta tables."""
    from ixt_data import export as exports
    from ixt_data.store import Store, saved_selection

    chosen = where or selection or corpus or critic or at
    _check_baked(format, baked, mix, tokenizer, chosen)
    if format is ExportFormat.delta:
        if where or selection or corpus or critic:
            raise typer.BadParameter(
                "delta tables are whole: without --where, --selection, --corpus, --critic",
                param_hint="--format",
            )
        made = exports.export_delta(Store.open(store), to, at=at, overwrite=overwrite)
        Output(output).result(asdict(made))
        return
    if to is None:
        raise typer.BadParameter(f"{format.value} needs a place to go to", param_hint="OUT")
    if where is not None and selection is not None:
        raise typer.BadParameter("give one of --where and --selection", param_hint="--selection")
    opened = Store.open(store)
    if selection is not None:
        saved = saved_selection(opened.snapshot(at), selection, opened.root)
        where, critic = saved.where, critic or saved.critic
    if baked and tokenizer is not None:
        drawn = _mix_of(store, mix, where, corpus, critic, at)
        _bake(drawn, to, tokenizer, max_length, samples, holdout, overwrite, Output(output))
        return
    selected = exports.MatchedDocuments(
        opened, where=where, corpora=corpus or (), critic=critic, at=at
    )
    write = {
        ExportFormat.parquet: exports.export_parquet,
        ExportFormat.jsonl: exports.export_jsonl,
        ExportFormat.mds: exports.export_mds,
    }[format]
    out = Output(output)
    with out.progress("exporting", selected.total, "documents") as bar:
        report = write(
            selected,
            to,
            overwrite=overwrite,
            progress=lambda done, found: bar.update(done, f"{found:,} chosen"),
        )
    out.result(asdict(report))


def _check_baked(
    format: ExportFormat, baked: bool, mix: Path | None, tokenizer: Path | None, chosen: object
) -> None:
    """Refuses options that do not go together."""
    if baked and format is not ExportFormat.mds:
        raise typer.BadParameter("only mds can be baked: --format mds", param_hint="--baked")
    if baked and tokenizer is None:
        raise typer.BadParameter("--baked needs it", param_hint="--tokenizer")
    if not baked and (mix or tokenizer):
        raise typer.BadParameter("they are for --baked", param_hint="--mix, --tokenizer")
    if mix and chosen:
        raise typer.BadParameter(
            "the mix says what to draw: without --where, --selection, --corpus, --critic, --at",
            param_hint="--mix",
        )


def _mix_of(
    store: str,
    config: Path | None,
    where: str | None,
    corpora: list[str] | None,
    critic: str | None,
    at: str | None,
) -> "Mix":
    """The mix of a file, or one that draws all that is chosen, conditioned as mixes are."""
    from ixt_data.config import validate
    from ixt_data.mix import Mix, load_mix
    from ixt_data.store import Store

    if config is not None:
        mix = load_mix(config)
        return mix if store == DEFAULT_STORE else mix.model_copy(update={"store": store})
    opened = Store.open(store)
    critics = sorted({known.name for known in opened.snapshot(at).critics.values()})
    if critic is None and len(critics) > 1:
        raise typer.BadParameter(f"name one of {', '.join(critics)}", param_hint="--critic")
    critic = critic or next(iter(critics), None)
    tree = {
        "store": store,
        "snapshot": at,
        "corpus": corpora or None,
        "critic": critic,
        "condition": {} if critic else {"kind": "none"},
        "selections": [{"name": "all", "where": where or "true"}],
    }
    return validate(Mix, tree, "export")


def _bake(
    mix: "Mix",
    to: str,
    tokenizer: Path,
    max_length: int,
    samples: int | None,
    holdout: float,
    overwrite: bool,
    out: Output,
) -> None:
    """Has the trainer's package write the mix."""
    if not bakers:
        raise MissingExtra("ixt_train", "train")
    try:
        with out.progress("baking", samples, "samples") as bar:
            report = bakers[0](
                mix,
                tokenizer,
                to,
                max_length,
                samples=samples,
                holdout=holdout,
                overwrite=overwrite,
                progress=lambda done, total: bar.update(done, total=total),
            )
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "torch", "train") from None
    out.result(report.record())
