"""The verbs of the inspector: inspect, serve. Heavy imports are inside."""

import webbrowser
from pathlib import Path
from threading import Thread
from typing import Annotated

import typer

from ixt_data.cli import DEFAULT_STORE, AtOption, Group, OutputOption, StoreOption, add_verb
from ixt_data.console import Output, OutputMode


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    add_verb(app, inspect, Group.ASK, example="ixt inspect S --sample 3", docs="inspecting.md")
    add_verb(app, serve, Group.ASK, example="ixt serve --store S", docs="inspector.md")


def inspect(
    target: Annotated[
        str,
        typer.Argument(
            help="Store, MDS folder or shard (also on S3), or a doc_id, its start, or a source_id."
        ),
    ],
    store: StoreOption = DEFAULT_STORE,
    at: AtOption = None,
    sample: Annotated[
        int, typer.Option(min=0, help="Random samples to show, after the first one.")
    ] = 0,
    seed: Annotated[int, typer.Option(help="Seed of the random samples.")] = 0,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read all files; compare sizes and hashes.")
    ] = False,
    full: Annotated[bool, typer.Option("--full", help="Show complete texts.")] = False,
    output: OutputOption = OutputMode.text,
) -> None:
    """Show the parts of a store, a folder of shards, a shard or a document.

    Exit code 1 if a problem is found. Code in a shard is never executed.
    """
    from ixt_inspector.terminal import InspectOptions, inspect_target, list_problems, render_view

    out = Output(output)
    view = inspect_target(target, store, at, InspectOptions(1, sample, seed, verify))
    out.result(view.to_json(), render_view(view, full) if output is OutputMode.text else None)
    if list_problems(view):
        raise typer.Exit(1)


def serve(
    store: StoreOption = DEFAULT_STORE,
    host: Annotated[
        str, typer.Option(help="Address to bind; an address other than loopback requires --token.")
    ] = "127.0.0.1",
    port: Annotated[
        int, typer.Option(min=0, max=65535, help="Port; 0 selects a free port.")
    ] = 8765,
    token: Annotated[
        str | None,
        typer.Option(
            envvar="IXT_SERVE_TOKEN",
            show_envvar=True,
            help="Secret that a browser sends once, as ?token=... in the address.",
        ),
    ] = None,
    host_name: Annotated[
        list[str] | None,
        typer.Option(help="Additional host name of the server; may be repeated."),
    ] = None,
    mixes: Annotated[
        Path | None, typer.Option(help="Folder of mixes (YAML) to show and to plan.")
    ] = None,
    runs: Annotated[Path | None, typer.Option(help="Folder of train runs to show.")] = None,
    write: Annotated[
        bool,
        typer.Option("--write", help="Let people label documents; requires --token."),
    ] = False,
    opens: Annotated[
        bool, typer.Option("--open", help="Open the page in this machine's browser.")
    ] = False,
    sql_seconds: Annotated[
        int, typer.Option(min=1, max=600, help="Time limit of a user's query, in seconds.")
    ] = 20,
    sql_memory: Annotated[
        int, typer.Option(min=256, help="Memory limit of a user's query, in MB.")
    ] = 2048,
    output: OutputOption = OutputMode.text,
) -> None:
    """Show a store in the browser: documents, critiques, scores, mixes, runs, SQL.

    It only reads, unless --write lets people label documents.
    """
    from ixt_inspector.web import QueryLimits, ServerAddress, Settings, run_server

    for name, folder in (("--mixes", mixes), ("--runs", runs)):
        if folder is not None and not folder.is_dir():
            raise typer.BadParameter(f"{folder} is not a folder", param_hint=name)
    if write and token is None:
        what = "requires a secret: --token, or IXT_SERVE_TOKEN"
        raise typer.BadParameter(what, param_hint="--write")
    out = Output(output)

    def ready(address: str) -> None:
        if output is OutputMode.json:
            out.result({"url": address})
        else:
            out.note(f"serving the store at {address} (Ctrl-C stops)")
        if opens:
            # Without the token, which other users could read in the browser's command line. In a
            # thread: a browser in the terminal would keep the server from its work.
            page = address.partition("?")[0]
            Thread(target=webbrowser.open, args=(page,), daemon=True).start()

    limits = QueryLimits(seconds=sql_seconds, memory=sql_memory << 20)
    settings = Settings(store, mixes, runs, limits, token if write else None)
    run_server(settings, ServerAddress(host, port, token, tuple(host_name or ())), ready)
