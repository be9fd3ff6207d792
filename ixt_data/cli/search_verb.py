"""The verb `search`: words in texts, critiques and thinking; and the indexes that make it fast."""

from dataclasses import asdict
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixt_data.cli.options import DEFAULT_STORE, AtOption, OutputOption, StoreOption
from ixt_data.cli.verbs import Group, add_verb
from ixt_data.console import Output, OutputMode, format_count, printable

if TYPE_CHECKING:
    from rich.text import Text

    from ixt_data.store import SearchHit, SearchResult


class SearchField(StrEnum):
    """What a search reads."""

    text = "text"
    critique = "critique"
    thinking = "thinking"


def register(app: typer.Typer) -> None:
    """Add the verb to the app."""
    example = "ixt search '\"brown fox\" jump*' --store S --where \"corpus = 'web'\""
    add_verb(app, search, Group.ASK, example=example, docs="searching.md")


def search(
    words: Annotated[
        str | None,
        typer.Argument(
            help='Words that must all occur; "a phrase", prefix*, -without.', show_default=False
        ),
    ] = None,
    store: StoreOption = DEFAULT_STORE,
    where: Annotated[
        str | None, typer.Option(help="Predicate as in a mix, on the 10,000 best matches.")
    ] = None,
    critic: Annotated[
        str | None,
        typer.Option(show_default="the only critic", help="Critic whose columns --where uses."),
    ] = None,
    fields: Annotated[
        list[SearchField] | None,
        typer.Option("--in", show_default="all", help="What to search; may be repeated."),
    ] = None,
    at: AtOption = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Maximum number of hits.")] = 20,
    index: Annotated[
        bool, typer.Option("--index", help="Index what has no index yet, instead of searching.")
    ] = False,
    rebuild: Annotated[
        bool, typer.Option("--rebuild", help="With --index: build all indexes again.")
    ] = False,
    workers: Annotated[
        int | None,
        typer.Option(min=1, show_default="one per core", help="With --index: processes."),
    ] = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """Search the texts, critiques and thinking of documents; the best hits first.

    Without an index, a search reads up to 256 MB of texts. With one (`ixt search --index`, extra
    `search`), a search of a million documents takes some milliseconds.
    """
    from ixt_data.store import SEARCH_FIELDS, Store, explain_unsearched

    chosen = [field.value for field in fields] if fields else list(SEARCH_FIELDS)
    out = Output(output)
    if index:
        _refuse(words=words, where=where, at=at)
        _index(Store.open(store), out, chosen, rebuild=rebuild, workers=workers)
        return
    _refuse_without_index(rebuild=rebuild, workers=workers)
    if words is None:
        raise typer.BadParameter("is missing. To build indexes: --index", param_hint="WORDS")
    found = Store.open(store).search(
        words, where=where, critic=critic, at=at, limit=limit, fields=chosen
    )
    out.result(found.to_json(), _shown(found))
    if found.unsearched:
        out.note(f"incomplete: {explain_unsearched(found.unsearched)}")
    elif found.scanned:
        texts = format_count(found.scanned, "text")
        out.note(f"read {texts} without an index; to search faster: ixt search --index")


def _refuse(**given: object) -> None:
    for name, value in given.items():
        if value is not None:
            what = f"builds indexes and does not search: leave out {name}"
            raise typer.BadParameter(what, param_hint="--index")


def _refuse_without_index(*, rebuild: bool, workers: int | None) -> None:
    if rebuild or workers is not None:
        raise typer.BadParameter("requires --index", param_hint="--rebuild/--workers")


def _index(
    store: Any, out: Output, fields: list[str], *, rebuild: bool, workers: int | None
) -> None:
    from ixt_data.analysis import build_indexes

    with out.progress("indexing", None, "shards") as bar:
        report = build_indexes(
            store,
            fields,
            rebuild=rebuild,
            workers=workers,
            progress=lambda done, total: bar.update(done, total=total),
        )
    out.result(asdict(report))


def _shown(found: "SearchResult") -> "Any":
    from rich.console import Group as Lines
    from rich.text import Text

    head = format_count(found.total, "matching text")
    if found.total > len(found.hits):
        head += f", the first {len(found.hits):,} (--limit N shows more)"
    head += f", snapshot {found.snapshot}, {1000 * found.seconds:,.0f} ms"
    lines: list[Any] = [Text(head)]
    for hit in found.hits:
        of = hit.field if hit.critic is None else f"{hit.field} by {hit.critic}"
        title = Text(f"\n{hit.rank}. ")
        title.append(printable(hit.source_id), style="bold")
        title.append(f"  {hit.doc_id[:8]}  {printable(hit.corpus)}  {of}", style="dim")
        lines += [title, _marked(hit)]
    return Lines(*lines)


def _marked(hit: "SearchHit") -> "Text":
    from rich.text import Text

    text, snippet = Text("   "), hit.snippet
    position = 0
    for start, end in snippet.marks:
        text.append(printable(snippet.text[position:start]))
        text.append(printable(snippet.text[start:end]), style="bold yellow")
        position = end
    text.append(printable(snippet.text[position:]))
    return text
