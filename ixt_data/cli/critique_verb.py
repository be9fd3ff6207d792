"""The verb `critique`: a critic over a corpus."""

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from ixt_data.cli.critique_check import check_critic, estimate_critique
from ixt_data.cli.critique_ledger import with_ledger
from ixt_data.cli.critique_pairs import run_comparisons
from ixt_data.cli.critique_parts import CHUNK_CHARS, PARTS, choose_rubric, divide_documents
from ixt_data.cli.critique_summary import run_critique
from ixt_data.cli.judge_options import (
    CONVERSATION_RUBRICS,
    JUDGE,
    SPENDING,
    ApiKeyFileOption,
    CaFileOption,
    ClientCertOption,
    ConcurrencyOption,
    EndpointOption,
    MaxCostOption,
    MaxTokensOption,
    ModelOption,
    PriceInOption,
    PriceOutOption,
    PricesOption,
    ProxyOption,
    ReasoningEffortOption,
    StructuredOption,
    TemperatureOption,
    ThinkingBudgetOption,
    TimeoutOption,
    choose_prices,
    refuse_options_of_judges,
)
from ixt_data.cli.options import DEFAULT_STORE, OutputOption, StoreOption, key_values
from ixt_data.cli.verbs import Group, add_verb
from ixt_data.console import Output, OutputMode

PAIRS = "Pairs: --critic vllm and llama"


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
    context: typer.Context,
    corpus: Annotated[str, typer.Option(help="Corpus to critique.")],
    critic: Annotated[
        str,
        typer.Option(
            help="rules, arithmetic, import, llama, vllm, a plugin's critic, or module:Class."
        ),
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
        int | None,
        typer.Option(
            min=1,
            show_default="1; one per core for critics that need no server or model",
            help="Number of worker processes; with --ray, of actors.",
        ),
    ] = None,
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
    parts: Annotated[
        Literal["auto", "never"],
        typer.Option(
            help="Documents longer than the judge's context: auto judges them in parts where the "
            "rubric says so, never shows an excerpt.",
            rich_help_panel=PARTS,
        ),
    ] = "auto",
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
            help="Critique each turn of the assistant, or complete conversations.",
            rich_help_panel=PARTS,
        ),
    ] = None,
    endpoint: EndpointOption = None,
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
    model: ModelOption = None,
    rubric: Annotated[
        str,
        typer.Option(
            help="Rubric: code, dialogue, math, sft, web, or a YAML file.", rich_help_panel=JUDGE
        ),
    ] = "web",
    thinking_budget: ThinkingBudgetOption = None,
    max_tokens: MaxTokensOption = 4096,
    temperature: TemperatureOption = 0.6,
    samples: Annotated[
        int, typer.Option(help="Responses per document.", rich_help_panel=JUDGE)
    ] = 1,
    expected: Annotated[
        bool,
        typer.Option(help="Request the expected score with one more token.", rich_help_panel=JUDGE),
    ] = True,
    reasoning_effort: ReasoningEffortOption = None,
    structured: StructuredOption = "auto",
    api_key_file: ApiKeyFileOption = None,
    proxy: ProxyOption = None,
    ca_file: CaFileOption = None,
    client_cert: ClientCertOption = None,
    concurrency: ConcurrencyOption = 256,
    timeout: TimeoutOption = 600,
    max_requests_per_minute: Annotated[
        float | None,
        typer.Option(
            help="Over all servers and workers of this command.", rich_help_panel=SPENDING
        ),
    ] = None,
    max_tokens_per_minute: Annotated[
        float | None,
        typer.Option(help="Of prompts and completions together.", rich_help_panel=SPENDING),
    ] = None,
    max_cost: MaxCostOption = None,
    price_in: PriceInOption = 0.0,
    price_out: PriceOutOption = 0.0,
    prices: PricesOption = None,
    batch: Annotated[
        bool,
        typer.Option(
            "--batch",
            help="Submit batches to the vendor's batch API: half the price, up to a day.",
            rich_help_panel=SPENDING,
        ),
    ] = False,
    batch_requests: Annotated[
        int | None,
        typer.Option(
            min=1,
            max=50_000,
            show_default="10000",
            help="Documents per batch.",
            rich_help_panel=SPENDING,
        ),
    ] = None,
    pairwise: Annotated[
        bool,
        typer.Option(
            "--pairwise",
            help="Compare documents in pairs, in both orders; a Bradley-Terry model scores them.",
            rich_help_panel=PAIRS,
        ),
    ] = False,
    pairs_per_document: Annotated[
        int | None,
        typer.Option(
            min=2, max=1000, show_default="8", help="Pairs of a document.", rich_help_panel=PAIRS
        ),
    ] = None,
    pair_seed: Annotated[
        int | None,
        typer.Option(min=0, show_default="0", help="Seed of the pairs.", rich_help_panel=PAIRS),
    ] = None,
    comparisons: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.jsonl",
            help="Write each comparison with the judge's text.",
            rich_help_panel=PAIRS,
        ),
    ] = None,
    max_failed: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="Share of failed documents above which the run is a failure."
        ),
    ] = 0.5,
    check: Annotated[
        bool,
        typer.Option(
            "--check",
            help="Judge the rubric's examples, print whether this judge can tell good from bad "
            "(else exit code 1); critique nothing.",
        ),
    ] = False,
    min_auc: Annotated[
        float,
        typer.Option(min=0, max=1, help="For --check: lower bound of the AUC that is enough."),
    ] = 0.7,
    canaries: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="For --check: canaries to judge, too (JSON lines)."),
    ] = None,
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
    from ixt_data.critics import BATCH_CRITIC, ConnectionOptions, SpendingLimits, Timeouts
    from ixt_data.critique_runs import CritiqueRunSpec, PairwiseOptions, journal_folder
    from ixt_data.store import Store

    out = Output(output)
    opened = Store.open(store)
    options: dict[str, Any] = dict(key_values(option))
    if "api_key" in options:
        what = "every user of this machine can read it: set IXT_API_KEY or give --api-key-file"
        raise typer.BadParameter(what, param_hint="--option api_key")
    server: dict[str, Any] | None = None
    price_in, price_out = choose_prices(prices, model, price_in, price_out, is_batch=batch)
    limits = SpendingLimits(
        max_requests_per_minute, max_tokens_per_minute, max_cost, price_in, price_out
    )
    if critic in ("vllm", "llama"):
        judging_rubric = choose_rubric(rubric, parts)
        options |= {
            "model": model,
            "rubric": judging_rubric,
            "sampling": {
                "thinking_budget": thinking_budget,
                "max_tokens": max_tokens,
                "temperature": temperature,
                "samples": samples,
                "expected": expected,
                "reasoning_effort": reasoning_effort,
            },
            "structured": structured,
            "max_failed": max_failed,
            "timeouts": Timeouts(request_seconds=timeout),
        }
        if not check and not estimate:
            limits = with_ledger(opened, corpus, critic, options, limits)
        options["limits"] = limits.divide(workers or 1)
    elif estimate or parts == "never":
        flag = "--estimate" if estimate else "--parts"
        raise typer.BadParameter(f"is for a judge, not for {critic}", param_hint=flag)
    else:
        allowed = ("endpoint", "serve", "rubric" if check else "")
        refuse_options_of_judges(context, critic, (JUDGE, SPENDING, PAIRS), allowed)
    if critic == "vllm":
        if not endpoint and not serve:
            what = "give --endpoint URL or --serve MODEL"
            raise typer.BadParameter(what, param_hint="--critic vllm")
        if serve:
            server = {"model": serve, "binary": vllm_bin, "name": model}
            server["arguments"] = vllm_arg or []
            options["model"] = model or serve
        options |= {
            "endpoints": endpoint or [],
            "concurrency": concurrency,
            "api_key_file": api_key_file,
            "connection": ConnectionOptions(proxy, ca_file, client_cert),
        }
        if batch:
            not_given = {
                "--serve": serve is None,
                "--workers": workers in (None, 1),
                "--ray": ray is None,
                "--check": not check,
                "--estimate": not estimate,
            }
            _refuse("is not for --batch", not_given)
            critic = BATCH_CRITIC
            options["sampling"]["expected"] = False
            options["folder"] = str(journal_folder(opened) / "batches")
            options["batch_requests"] = batch_requests or 10_000
    elif endpoint or serve:
        flag = "--endpoint" if endpoint else "--serve"
        raise typer.BadParameter(f"is for --critic vllm, not {critic}", param_hint=flag)
    is_judge = critic in ("vllm", "llama", BATCH_CRITIC)
    pairs = {
        "--pairs-per-document": pairs_per_document,
        "--pair-seed": pair_seed,
        "--comparisons": comparisons,
    }
    if not pairwise and (given := [key for key, value in pairs.items() if value is not None]):
        raise typer.BadParameter("requires --pairwise", param_hint=given[0])
    if pairwise:
        _refuse("needs a judge: vllm or llama", {"--critic": is_judge})
        not_given = {
            "--workers": workers in (None, 1),
            "--ray": ray is None,
            "--metrics-port": metrics_port is None,
            "--per-chunk": not per_chunk,
            "--turns": turns is None,
            "--check": not check,
            "--estimate": not estimate,
        }
        _refuse("is not for --pairwise", not_given)
        job = CritiqueRunSpec(opened.root, corpus, critic, options, serve=server, name=name)
        pair_options = PairwiseOptions(judging_rubric, pairs_per_document or 8, pair_seed or 0)
        run_comparisons(out, opened, job, pair_options, retry_failed, max_failed, comparisons)
        return
    if batch_requests is not None and not batch:
        raise typer.BadParameter("requires --batch", param_hint="--batch-requests")
    if batch and critic != BATCH_CRITIC:
        raise typer.BadParameter(f"is for --critic vllm, not {critic}", param_hint="--batch")
    if turns is None and not per_chunk and is_judge and rubric in CONVERSATION_RUBRICS:
        turns = "conversation"
    division = divide_documents(per_chunk, chunk_chars, chunk_tokens, turns)
    job = CritiqueRunSpec(
        opened.root, corpus, critic, options, division, server, name, retry_failed
    )
    if canaries is not None and not check:
        raise typer.BadParameter("requires --check", param_hint="--canaries")
    if critic == "llama" or server is not None:
        out.note("starting the judge, then a trial request: on a CPU this may take minutes")
    if check:
        check_critic(out, job, choose_rubric(rubric, parts), canaries, min_auc)
    elif estimate:
        estimate_critique(out, opened, job, gpus)
    else:
        run_critique(out, opened, job, workers, ray, (metrics_host, metrics_port), max_failed)


def _refuse(what: str, not_given: dict[str, bool]) -> None:
    """Refuse the first option that is given."""
    for option, is_missing in not_given.items():
        if not is_missing:
            raise typer.BadParameter(what, param_hint=option)
