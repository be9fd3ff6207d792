"""The verb `critique`: a critic over a corpus."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ixt_data.cli.options import DEFAULT_STORE, OutputOption, StoreOption
from ixt_data.console import Output, OutputMode

if TYPE_CHECKING:
    from ixt_data.critics import ChunkOptions, Critic
    from ixt_data.critique_runs import CritiqueReport, CritiqueRunSpec, StatusCallback, WorkerStatus

JUDGE = "The vllm critic"
PARTS = "Parts of documents"
CHUNK_CHARS = 8192


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
    workers: Annotated[
        int, typer.Option(min=1, help="Processes that share the work, or actors with --ray.")
    ] = 1,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="ADDRESS", help="Place the workers on a Ray cluster; local starts one."
        ),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Serve Prometheus metrics; 0 takes a free port."),
    ] = None,
    metrics_host: Annotated[str, typer.Option(help="Address to serve them at.")] = "127.0.0.1",
    per_chunk: Annotated[
        bool,
        typer.Option("--per-chunk", help="Judge each chunk of a document.", rich_help_panel=PARTS),
    ] = False,
    chunk_chars: Annotated[
        int | None,
        typer.Option(help="Characters of a chunk; 8192 by default.", rich_help_panel=PARTS),
    ] = None,
    chunk_tokens: Annotated[
        int | None,
        typer.Option(help="Or tokens of the judge, on average.", rich_help_panel=PARTS),
    ] = None,
    turns: Annotated[
        Literal["each", "conversation"] | None,
        typer.Option(
            help="Judge each turn of the assistant, or conversations whole, as rubric sft does.",
            rich_help_panel=PARTS,
        ),
    ] = None,
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
    from ixt_data.critique_runs import CritiqueRunSpec
    from ixt_data.store import Store

    out = Output(output)
    opened = Store.open(store)
    options: dict[str, Any] = dict(_options(option or []))
    server = None
    if critic == "vllm":
        if not endpoint and not serve:
            what = "give --endpoint URL or --serve MODEL"
            raise typer.BadParameter(what, param_hint="--critic vllm")
        if serve:
            server = {
                "model": serve,
                "binary": vllm_bin,
                "name": model,
                "arguments": vllm_arg or [],
            }
        options |= _judge(endpoint, model or serve, rubric, concurrency, timeout, max_failed)
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
    if turns is None and not per_chunk and critic == "vllm" and rubric == "sft":
        turns = "conversation"
    parts = _parts(per_chunk, chunk_chars, chunk_tokens, turns)
    job = CritiqueRunSpec(opened.root, corpus, critic, options, parts, server, name, retry_failed)
    if estimate:
        _estimate(out, opened, job, gpus)
    else:
        _run(out, opened, job, workers, ray, (metrics_host, metrics_port))


def _parts(
    per_chunk: bool, chars: int | None, tokens: int | None, turns: str | None
) -> "ChunkOptions | None":
    """How documents are divided, None if they are not."""
    from ixt_data.critics import ChunkOptions

    sized = chars is not None or tokens is not None
    if sized and not per_chunk:
        raise typer.BadParameter("is for --per-chunk", param_hint="--chunk-chars/-tokens")
    if chars is not None and tokens is not None:
        raise typer.BadParameter("give one of them", param_hint="--chunk-chars/-tokens")
    if per_chunk and turns is not None:
        raise typer.BadParameter("give one of --per-chunk and --turns", param_hint="--turns")
    if per_chunk:
        return ChunkOptions("chunk", chars if sized else CHUNK_CHARS, tokens)
    if turns is None:
        return None
    return ChunkOptions("turn" if turns == "each" else "conversation")


def _judge(
    endpoint: list[str] | None,
    model: str | None,
    rubric: str,
    concurrency: int,
    timeout: float,
    max_failed: float,
) -> dict[str, Any]:
    """Options of the vllm critic beside its sampling."""
    from ixt_data.critics import Timeouts, load_rubric

    return {
        "endpoints": endpoint or [],
        "model": model,
        "rubric": load_rubric(rubric),
        "concurrency": concurrency,
        "max_failed": max_failed,
        "timeouts": Timeouts(request_seconds=timeout),
    }


def _run(
    out: Output,
    store: Any,
    job: "CritiqueRunSpec",
    workers: int,
    ray: str | None,
    metrics: tuple[str, int | None],
) -> None:
    from ixt_data.critics import critic_class
    from ixt_data.critique_runs import PendingWork, count_succeeded, exiting_on_sigterm

    if job.serve is not None and workers > 1 and ray is None:
        what = "--serve is for one worker a machine: start `vllm serve` and give --endpoint"
        raise typer.BadParameter(what, param_hint="--workers")
    judge, known = critic_class(job.critic), store.snapshot().corpora.get(job.corpus)
    documents = known.documents if known else None
    with (
        out.progress("critiquing", documents, "documents") as bar,
        _scraped(out, job, documents or 0, *metrics) as note,
        exiting_on_sigterm(),
    ):
        begun: list[PendingWork] = []

        def tell(told: "WorkerStatus") -> None:
            note(told)
            if told.pending is not None and not begun:
                begun.append(told.pending)
                if told.pending.previous_critic is not None:
                    out.note(f"note: {told.pending}")
            bar.update(
                told.documents, _note(told), told.pending.documents if told.pending else None
            )

        report = _placed(job, workers, ray, tell)
    ok = count_succeeded(report)
    out.result(
        {
            "critic": report.critic,
            "run": report.run,
            "documents": report.documents,
            "ok": ok,
            "failed": report.documents - ok,
            "statuses": {**_classes(judge), **report.statuses},
            "reused": report.reused,
            **report.usage,
            "units": report.units,
            "skipped_units": report.skipped,
            "snapshot": report.snapshot,
        }
    )
    if report.documents > ok and not job.retry_failed and getattr(judge, "journaled", False):
        out.note("to ask again about those that failed: the same command with --retry-failed")


@contextmanager
def _scraped(
    out: Output, job: "CritiqueRunSpec", documents: int, host: str, port: int | None
) -> "Iterator[StatusCallback]":
    """Serves the run's figures to Prometheus, if a port is given; gives who takes them."""
    if port is None:
        yield lambda told: None
        return
    from ixt_data.critique_runs import WorkerMetrics, serve_metrics

    metrics = WorkerMetrics(job, documents)
    with serve_metrics(metrics, host, port) as url:
        out.note(f"metrics: {url}")
        yield metrics.update


def _placed(
    job: "CritiqueRunSpec", workers: int, ray: str | None, tell: "StatusCallback"
) -> "CritiqueReport":
    """The critique run where it was asked for: in this process, in several, or on Ray."""
    from ixt_data.critique_runs import run_locally, run_worker

    if ray is not None:
        from ixt_data.critique_runs import run_on_ray

        return run_on_ray(job, ray, workers, tell)
    return run_worker(job, tell) if workers == 1 else run_locally(job, workers, tell)


def _classes(critic: type["Critic"]) -> dict[str, int]:
    """All statuses that a critic may give, at 0."""
    return dict.fromkeys(getattr(critic, "statuses", ()), 0)


def _note(told: "WorkerStatus") -> str:
    total = told.statuses.total()
    shares = ", ".join(f"{status} {n / total:.0%}" for status, n in told.statuses.most_common(3))
    tokens = told.usage["tokens_in"] + told.usage["tokens_out"]
    return f"{shares}; {tokens:,} tokens" if tokens else shares


def _estimate(out: Output, store: Any, job: "CritiqueRunSpec", gpus: int) -> None:
    from ixt_data.critique_runs import closing_critic, estimate_cost

    judge: Any = job.load()
    with closing_critic(judge), out.progress("sampling", None, "documents") as bar:
        found = estimate_cost(store, job.corpus, judge, gpus, lambda done: bar.update(done))
    out.result(found)


def _options(pairs: list[str]) -> dict[str, str]:
    for pair in pairs:
        if "=" not in pair:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint="--option")
    return dict(pair.split("=", 1) for pair in pairs)
