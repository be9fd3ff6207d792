"""The verb `critique`: a critic over a corpus."""

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ixt_data.cli.output import DEFAULT_STORE, Output, OutputMode, OutputOption, StoreOption

if TYPE_CHECKING:
    from ixt_data.critics.base import Critic
    from ixt_data.model import Critique

JUDGE = "The vllm critic"


def register(app: typer.Typer) -> None:
    """Adds the verb to the app."""
    app.command()(critique)


def critique(
    corpus: Annotated[str, typer.Option(help="Corpus to critique.")],
    critic: Annotated[
        str, typer.Option(help="rules, arithmetic, import, vllm, or your own as module:Class.")
    ],
    store: StoreOption = DEFAULT_STORE,
    name: Annotated[
        str | None, typer.Option(help="Name in queries and mixes ['rules' for rules, ...].")
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option("--option", "-O", metavar="KEY=VALUE", help="Option of the critic."),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option(help="Ask again about those documents that have no good critique.")
    ] = False,
    endpoint: Annotated[
        list[str] | None,
        typer.Option(help="OpenAI-compatible server up to /v1; repeat.", rich_help_panel=JUDGE),
    ] = None,
    serve: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Start `vllm serve` of a model.", rich_help_panel=JUDGE),
    ] = None,
    vllm_bin: Annotated[
        str, typer.Option(help="The vllm program for --serve.", rich_help_panel=JUDGE)
    ] = "vllm",
    vllm_arg: Annotated[
        list[str] | None,
        typer.Option(help="A flag for --serve, as --vllm-arg=--flag.", rich_help_panel=JUDGE),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(help="Its name at the server [the only one].", rich_help_panel=JUDGE),
    ] = None,
    rubric: Annotated[
        str,
        typer.Option(help="code, math, sft, web, or a YAML file.", rich_help_panel=JUDGE),
    ] = "web",
    thinking_budget: Annotated[
        int | None,
        typer.Option(help="Tokens of thinking at most; 0: none.", rich_help_panel=JUDGE),
    ] = None,
    max_tokens: Annotated[
        int, typer.Option(help="Tokens of thinking and answer.", rich_help_panel=JUDGE)
    ] = 4096,
    temperature: Annotated[float, typer.Option(help="Of sampling.", rich_help_panel=JUDGE)] = 0.6,
    samples: Annotated[int, typer.Option(help="Answers a document.", rich_help_panel=JUDGE)] = 1,
    expected: Annotated[
        bool,
        typer.Option(help="Ask for the expected score by one more token.", rich_help_panel=JUDGE),
    ] = True,
    concurrency: Annotated[
        int, typer.Option(help="Requests under way at a server, at most.", rich_help_panel=JUDGE)
    ] = 256,
    timeout: Annotated[
        float, typer.Option(help="Seconds for one answer.", rich_help_panel=JUDGE)
    ] = 600,
    max_failed: Annotated[
        float,
        typer.Option(help="Share of recent failures that stops the run.", rich_help_panel=JUDGE),
    ] = 0.5,
    estimate: Annotated[
        bool,
        typer.Option(help="Only say what it would cost, by a sample.", rich_help_panel=JUDGE),
    ] = False,
    gpus: Annotated[
        int, typer.Option(help="GPUs in all, for --estimate.", rich_help_panel=JUDGE)
    ] = 1,
    output: OutputOption = OutputMode.text,
) -> None:
    """Critique every document of a corpus that this critic has not critiqued.

    The key for servers that want one is read from IXT_API_KEY.
    """
    from ixt_data.critics import load_critic
    from ixt_data.store import Store

    out = Output(output)
    opened = Store.open(store)
    options: dict[str, Any] = dict(_options(option or []))
    if critic == "vllm":
        options |= _judge(
            endpoint, serve, vllm_bin, vllm_arg, model, rubric, concurrency, timeout, max_failed
        )
        options["sampling"] = {
            "thinking_budget": thinking_budget,
            "max_tokens": max_tokens,
            "temperature": temperature,
            "samples": samples,
            "expected": expected,
        }
    elif endpoint or serve or estimate:
        given = "--endpoint" if endpoint else "--serve" if serve else "--estimate"
        raise typer.BadParameter(f"is for --critic vllm, not {critic}", param_hint=given)
    judge = load_critic(critic, options=options)
    if name is not None:
        judge.name = name
    with _closed(judge):
        if estimate:
            _estimate(out, opened, corpus, judge, gpus)
        else:
            _run(out, opened, corpus, judge, retry_failed)


def _judge(
    endpoint: list[str] | None,
    serve: str | None,
    vllm_bin: str,
    vllm_arg: list[str] | None,
    model: str | None,
    rubric: str,
    concurrency: int,
    timeout: float,
    max_failed: float,
) -> dict[str, Any]:
    """Options of the vllm critic beside its sampling."""
    from ixt_data.critics.vllm.endpoints import Patience

    if not endpoint and not serve:
        raise typer.BadParameter("give --endpoint URL or --serve MODEL", param_hint="--critic vllm")
    options: dict[str, Any] = {
        "endpoints": endpoint or [],
        "model": model,
        "rubric": rubric,
        "concurrency": concurrency,
        "max_failed": max_failed,
        "patience": Patience(request=timeout),
    }
    if serve:
        from ixt_data.critics.vllm.serve import Server

        options["server"] = Server(serve, vllm_bin, name=model, arguments=vllm_arg or [])
        options["model"] = model or serve
    return options


@contextmanager
def _closed(critic: "Critic") -> Iterator[None]:
    """Closes a critic that holds connections or a server."""
    try:
        yield
    finally:
        if callable(close := getattr(critic, "close", None)):
            close()


def _run(out: Output, store: Any, corpus: str, critic: "Critic", retry_failed: bool) -> None:
    from ixt_data.annotate import annotate, spent, succeeded

    known = store.snapshot().corpora.get(corpus)
    statuses: Counter[str] = Counter()
    with out.progress("critiquing", known.documents if known else None, "documents") as bar:

        def progress(done: int, critique: "Critique") -> None:
            statuses[critique.status] += 1
            bar.update(done, _note(statuses, spent(critic)))

        report = annotate(store, corpus, critic, progress, retry_failed=retry_failed)
    ok = succeeded(report)
    out.result(
        {
            "critic": report.critic,
            "run": report.run,
            "documents": report.documents,
            "ok": ok,
            "failed": report.documents - ok,
            "statuses": {**_classes(critic), **report.statuses},
            "reused": report.reused,
            **report.spent,
            "units": report.units,
            "skipped_units": report.skipped,
            "snapshot": report.snapshot,
        }
    )
    if report.documents > ok and not retry_failed and getattr(critic, "journaled", False):
        out.note("to ask again about those that failed: the same command with --retry-failed")


def _classes(critic: "Critic") -> dict[str, int]:
    """All statuses that a critic may give, at 0."""
    return dict.fromkeys(getattr(critic, "statuses", ()), 0)


def _note(statuses: Counter[str], costs: Counter[str]) -> str:
    total = statuses.total()
    shares = ", ".join(f"{status} {n / total:.0%}" for status, n in statuses.most_common(3))
    tokens = costs["tokens_in"] + costs["tokens_out"]
    return f"{shares}; {tokens:,} tokens" if tokens else shares


def _estimate(out: Output, store: Any, corpus: str, critic: Any, gpus: int) -> None:
    from ixt_data.critics.vllm.estimate import estimate

    with out.progress("sampling", None, "documents") as bar:
        found = estimate(store, corpus, critic, gpus, lambda done: bar.update(done))
    out.result(found)


def _options(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--option")
    return dict(pair.split("=", 1) for pair in pairs)
