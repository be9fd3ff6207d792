"""The verb `critique`: a critic over a corpus."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ixt_data.cli.options import DEFAULT_STORE, OutputOption, StoreOption, key_values
from ixt_data.cli.verbs import Group, add_verb
from ixt_data.console import Output, OutputMode, format_count

if TYPE_CHECKING:
    from ixt_data.critics import ChunkOptions, Critic
    from ixt_data.critique_runs import CritiqueReport, CritiqueRunSpec, StatusCallback, WorkerStatus

JUDGE = "Options of --critic vllm"
PARTS = "Chunks and turns"
CHUNK_CHARS = 8192


def register(app: typer.Typer) -> None:
    """Add the verb to the app."""
    add_verb(
        app,
        critique,
        Group.CRITIQUE,
        example="ixt critique --store S --corpus web --critic rules",
        docs="critics.md",
    )


def critique(
    corpus: Annotated[str, typer.Option(help="Corpus to critique.")],
    critic: Annotated[
        str,
        typer.Option(help="rules, arithmetic, import, vllm, a plugin's critic, or module:Class."),
    ],
    store: StoreOption = DEFAULT_STORE,
    name: Annotated[
        str | None,
        typer.Option(
            show_default="the critic's own name", help="Name of the critic in queries and mixes."
        ),
    ] = None,
    option: Annotated[
        list[str] | None,
        typer.Option(
            "--option", "-O", metavar="KEY=VALUE", help="Option of the critic; may be repeated."
        ),
    ] = None,
    retry_failed: Annotated[
        bool, typer.Option(help="Critique documents again whose critique failed.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=1, help="Number of worker processes; with --ray, of actors.")
    ] = 1,
    ray: Annotated[
        str | None,
        typer.Option(metavar="ADDRESS", help="Run the workers on a Ray cluster; local starts one."),
    ] = None,
    metrics_port: Annotated[
        int | None,
        typer.Option(min=0, max=65535, help="Port for Prometheus metrics; 0 selects a free port."),
    ] = None,
    metrics_host: Annotated[
        str, typer.Option(help="Address for Prometheus metrics.")
    ] = "127.0.0.1",
    per_chunk: Annotated[
        bool,
        typer.Option(
            "--per-chunk", help="Critique each chunk of a document.", rich_help_panel=PARTS
        ),
    ] = False,
    chunk_chars: Annotated[
        int | None,
        typer.Option(
            show_default=str(CHUNK_CHARS), help="Characters per chunk.", rich_help_panel=PARTS
        ),
    ] = None,
    chunk_tokens: Annotated[
        int | None,
        typer.Option(
            help="Or mean tokens per chunk, by the judge's tokenizer.", rich_help_panel=PARTS
        ),
    ] = None,
    turns: Annotated[
        Literal["each", "conversation"] | None,
        typer.Option(
            help="Critique each turn of the assistant, or complete conversations (rubric sft).",
            rich_help_panel=PARTS,
        ),
    ] = None,
    endpoint: Annotated[
        list[str] | None,
        typer.Option(
            help="OpenAI-compatible server, up to /v1; may be repeated.", rich_help_panel=JUDGE
        ),
    ] = None,
    serve: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL", help="Start `vllm serve` with this model.", rich_help_panel=JUDGE
        ),
    ] = None,
    vllm_bin: Annotated[
        str, typer.Option(help="The vllm executable for --serve.", rich_help_panel=JUDGE)
    ] = "vllm",
    vllm_arg: Annotated[
        list[str] | None,
        typer.Option(help="Flag for --serve, as --vllm-arg=--flag.", rich_help_panel=JUDGE),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            show_default="the server's only model",
            help="Name of the model at the server.",
            rich_help_panel=JUDGE,
        ),
    ] = None,
    rubric: Annotated[
        str,
        typer.Option(help="Rubric: code, math, sft, web, or a YAML file.", rich_help_panel=JUDGE),
    ] = "web",
    thinking_budget: Annotated[
        int | None,
        typer.Option(
            show_default="no limit",
            help="Maximum thinking tokens; 0 turns thinking off.",
            rich_help_panel=JUDGE,
        ),
    ] = None,
    max_tokens: Annotated[
        int, typer.Option(help="Maximum tokens of thinking and response.", rich_help_panel=JUDGE)
    ] = 4096,
    temperature: Annotated[
        float, typer.Option(help="Sampling temperature.", rich_help_panel=JUDGE)
    ] = 0.6,
    samples: Annotated[
        int, typer.Option(help="Responses per document.", rich_help_panel=JUDGE)
    ] = 1,
    expected: Annotated[
        bool,
        typer.Option(help="Request the expected score with one more token.", rich_help_panel=JUDGE),
    ] = True,
    concurrency: Annotated[
        int, typer.Option(help="Maximum concurrent requests per server.", rich_help_panel=JUDGE)
    ] = 256,
    timeout: Annotated[
        float, typer.Option(help="Seconds until a request times out.", rich_help_panel=JUDGE)
    ] = 600,
    max_failed: Annotated[
        float,
        typer.Option(help="Share of recent failures that stops the run.", rich_help_panel=JUDGE),
    ] = 0.5,
    estimate: Annotated[
        bool,
        typer.Option(
            help="Estimate the cost from a sample; critique nothing.", rich_help_panel=JUDGE
        ),
    ] = False,
    gpus: Annotated[
        int, typer.Option(help="Number of GPUs, for --estimate.", rich_help_panel=JUDGE)
    ] = 1,
    output: OutputOption = OutputMode.text,
) -> None:
    """Critique every document of a corpus that this critic has not critiqued yet.

    The API key of a server is read from the environment variable IXT_API_KEY.
    """
    from ixt_data.critique_runs import CritiqueRunSpec
    from ixt_data.store import Store

    out = Output(output)
    opened = Store.open(store)
    options: dict[str, Any] = dict(key_values(option))
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
        flag = "--endpoint" if endpoint else "--serve" if serve else "--estimate"
        raise typer.BadParameter(f"is for --critic vllm, not {critic}", param_hint=flag)
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
    """Return how documents are divided, None if they are not."""
    from ixt_data.critics import ChunkOptions

    sized = chars is not None or tokens is not None
    if sized and not per_chunk:
        raise typer.BadParameter("requires --per-chunk", param_hint="--chunk-chars/-tokens")
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
    """Return the options of the vllm critic without its sampling."""
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
        what = "--serve allows one worker per machine: start `vllm serve` and give --endpoint"
        raise typer.BadParameter(what, param_hint="--workers")
    judge, known = critic_class(job.critic), store.snapshot().corpora.get(job.corpus)
    documents = known.documents if known else None
    with (
        out.progress("critiquing", documents, "documents") as bar,
        _serve_metrics(out, job, documents or 0, *metrics) as note,
        exiting_on_sigterm(),
    ):
        pending: list[PendingWork] = []

        def show(status: "WorkerStatus") -> None:
            note(status)
            if status.pending is not None and not pending:
                pending.append(status.pending)
                if status.pending.previous_critic is not None:
                    out.note(f"note: {status.pending}")
            total = status.pending.documents if status.pending else None
            bar.update(status.documents, _note(status), total)

        report = _run_workers(job, workers, ray, show)
    ok = count_succeeded(report)
    out.result(
        {
            "critic": report.critic,
            "run": report.run,
            "documents": report.documents,
            "ok": ok,
            "failed": report.documents - ok,
            "statuses": {**_all_statuses(judge), **report.statuses},
            "reused": report.reused,
            **report.usage,
            "units": report.units,
            "skipped_units": report.skipped,
            "snapshot": report.snapshot,
        }
    )
    if report.documents > ok and not job.retry_failed and getattr(judge, "journaled", False):
        out.note("to critique the failed documents again, repeat the command with --retry-failed")
    if report.documents and not ok:
        sql = "SELECT status, any_value(error) FROM critiques GROUP BY 1"
        out.note(f'no document has a critique; the reasons: ixt query "{sql}"')
        raise typer.Exit(1)


@contextmanager
def _serve_metrics(
    out: Output, job: "CritiqueRunSpec", documents: int, host: str, port: int | None
) -> "Iterator[StatusCallback]":
    """Serve the run's metrics to Prometheus if a port is given; yield their receiver."""
    if port is None:
        yield lambda status: None
        return
    from ixt_data.critique_runs import WorkerMetrics, serve_metrics

    metrics = WorkerMetrics(job, documents)
    with serve_metrics(metrics, host, port) as url:
        out.note(f"metrics: {url}")
        yield metrics.update


def _run_workers(
    job: "CritiqueRunSpec", workers: int, ray: str | None, report: "StatusCallback"
) -> "CritiqueReport":
    """Run the critic in this process, in several, or on Ray."""
    from ixt_data.critique_runs import run_locally, run_worker

    if ray is not None:
        from ixt_data.critique_runs import run_on_ray

        return run_on_ray(job, ray, workers, report)
    return run_worker(job, report) if workers == 1 else run_locally(job, workers, report)


def _all_statuses(critic: type["Critic"]) -> dict[str, int]:
    """Return all statuses that a critic may produce, each with count 0."""
    return dict.fromkeys(getattr(critic, "statuses", ()), 0)


def _note(status: "WorkerStatus") -> str:
    total = status.statuses.total()
    shares = ", ".join(f"{name} {n / total:.0%}" for name, n in status.statuses.most_common(3))
    tokens = status.usage["tokens_in"] + status.usage["tokens_out"]
    return f"{shares}; {format_count(tokens, 'token')}" if tokens else shares


def _estimate(out: Output, store: Any, job: "CritiqueRunSpec", gpus: int) -> None:
    from ixt_data.critique_runs import closing_critic, estimate_cost

    judge: Any = job.load()
    with closing_critic(judge), out.progress("sampling", None, "documents") as bar:
        costs = estimate_cost(store, job.corpus, judge, gpus, lambda done: bar.update(done))
    out.result(costs)
