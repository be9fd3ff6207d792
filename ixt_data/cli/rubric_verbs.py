"""The verbs of a rubric: check and compare."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ixt_data.cli.judge_options import (
    CONVERSATION_RUBRICS,
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
)
from ixt_data.cli.options import DEFAULT_STORE, OutputOption, StoreOption
from ixt_data.cli.verbs import Group, add_verb, add_verbs
from ixt_data.console import Output, OutputMode, format_count, printable, table

if TYPE_CHECKING:
    from ixt_data.analysis import JudgedByRubric, RubricCheck, RubricComparison
    from ixt_data.records import Document

MAX_SHARDS = 16
"""Text shards that the documents of a comparison are from."""


def register(app: typer.Typer) -> None:
    """Add the verbs to the app."""
    rubric = add_verbs(app, "rubric", Group.CRITIQUE, "Check a rubric, and compare two of them.")
    add_verb(rubric, check, None, example="ixt rubric check mine.yaml", docs="critics.md")
    add_verb(
        rubric,
        compare,
        None,
        example="ixt rubric compare web mine.yaml --store S --corpus web --critic llama",
        docs="critics.md",
    )


def check(
    rubric: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUBRIC", show_default="all shipped rubrics", help="A name, or a YAML file."
        ),
    ] = None,
    price_in: PriceInOption = 0.0,
    price_out: PriceOutOption = 0.0,
    output: OutputOption = OutputMode.text,
) -> None:
    """Check rubrics: scales, anchors, examples, and tokens per document.

    No judge is needed. Exit code 1 if a rubric has an error; a warning does not.
    """
    from rich.console import Group as Lines

    from ixt_data.analysis import check_rubric
    from ixt_data.critics import load_rubric, shipped_rubrics

    checks = [check_rubric(load_rubric(one)) for one in rubric or shipped_rubrics()]
    records = [_check_record(one, price_in, price_out) for one in checks]
    header = [name for name in records[0] if name != "findings"]
    rows = [[record[name] for name in header] for record in records]
    findings = [(one.rubric, *_texts(f)) for one in checks for f in one.findings]
    shown: list[Any] = [table([name.replace("_", " ") for name in header], rows)]
    if findings:
        shown += ["", table(["rubric", "level", "place", "problem"], findings)]
    Output(output).result({"rubrics": records}, Lines(*shown))
    if not all(one.has_passed for one in checks):
        raise typer.Exit(1)


def _texts(finding: Any) -> tuple[str, str, str]:
    return finding.level, finding.place, printable(finding.problem)


def _check_record(found: "RubricCheck", price_in: float, price_out: float) -> dict[str, Any]:
    errors = sum(one.level == "error" for one in found.findings)
    record = {
        "rubric": found.rubric,
        "id": found.rubric_id,
        "scales": found.dimensions,
        "good_examples": found.good_examples,
        "bad_examples": found.bad_examples,
        "prompt_tokens": found.prompt_tokens,
        "max_answer_tokens": found.answer_tokens,
        "errors": errors,
        "warnings": len(found.findings) - errors,
        "findings": [asdict(one) for one in found.findings],
    }
    if price_in or price_out:
        cost = found.prompt_tokens * price_in + found.answer_tokens * price_out
        record["max_cost_of_1000"] = round(cost / 1000, 6)
    return record


def compare(
    first: Annotated[str, typer.Argument(metavar="A", help="A rubric: a name, or a YAML file.")],
    second: Annotated[str, typer.Argument(metavar="B", help="Another rubric.")],
    corpus: Annotated[str, typer.Option(help="Corpus of the documents.")],
    critic: Annotated[Literal["vllm", "llama"], typer.Option(help="Judge that applies both.")],
    store: StoreOption = DEFAULT_STORE,
    documents: Annotated[
        int, typer.Option(min=4, max=10_000, help="Number of documents, chosen at random.")
    ] = 200,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the choice.")] = 0,
    show: Annotated[
        int, typer.Option(min=0, max=1000, help="Documents to list that differ most.")
    ] = 10,
    endpoint: EndpointOption = None,
    model: ModelOption = None,
    thinking_budget: ThinkingBudgetOption = None,
    max_tokens: MaxTokensOption = 4096,
    temperature: TemperatureOption = 0.6,
    reasoning_effort: ReasoningEffortOption = None,
    structured: StructuredOption = "auto",
    api_key_file: ApiKeyFileOption = None,
    proxy: ProxyOption = None,
    ca_file: CaFileOption = None,
    client_cert: ClientCertOption = None,
    concurrency: ConcurrencyOption = 256,
    timeout: TimeoutOption = 600,
    max_cost: MaxCostOption = None,
    price_in: PriceInOption = 0.0,
    price_out: PriceOutOption = 0.0,
    prices: PricesOption = None,
    output: OutputOption = OutputMode.text,
) -> None:
    """Let one judge apply two rubrics to the same documents, and compare the scores.

    Nothing is stored. The documents are from at most 16 text shards.
    """
    from ixt_data.analysis import compare_rubrics
    from ixt_data.critics import COST, ConnectionOptions, SpendingLimits, Timeouts, load_rubric
    from ixt_data.critique_runs import sample_documents
    from ixt_data.store import Store

    if (critic == "vllm") != bool(endpoint):
        what = "requires --endpoint" if critic == "vllm" else "does not take --endpoint"
        raise typer.BadParameter(f"{critic} {what}", param_hint="--critic")
    price_in, price_out = choose_prices(prices, model, price_in, price_out, is_batch=False)
    rubrics = [load_rubric(first), load_rubric(second)]
    if rubrics[0].id == rubrics[1].id:
        raise typer.BadParameter(f"{first} and {second} have the same content", param_hint="A B")
    out, opened = Output(output), Store.open(store)
    snapshot = opened.snapshot()
    snapshot.check_corpora([corpus], opened.root)
    shards = snapshot.text_shards({corpus})
    sample = sample_documents(opened, snapshot, shards, documents, max_shards=MAX_SHARDS, seed=seed)
    judged: list[JudgedByRubric] = []
    for name, rubric in zip((first, second), rubrics, strict=True):
        spent = sum(one.usage[COST] for one in judged) / 1e6
        left = None if max_cost is None else max_cost - spent
        options: dict[str, Any] = {
            "model": model,
            "rubric": rubric,
            "sampling": {
                "thinking_budget": thinking_budget,
                "max_tokens": max_tokens,
                "temperature": temperature,
                "expected": False,
                "reasoning_effort": reasoning_effort,
            },
            "structured": structured,
            "limits": SpendingLimits(max_cost=left, price_in=price_in, price_out=price_out),
            "timeouts": Timeouts(request_seconds=timeout),
        }
        if critic == "vllm":
            options |= {
                "endpoints": endpoint,
                "concurrency": concurrency,
                "api_key_file": api_key_file,
                "connection": ConnectionOptions(proxy, ca_file, client_cert),
            }
        judged.append(_judge(out, critic, options, name, sample))
    found = compare_rubrics(sample, judged[0], judged[1], show)
    out.result(asdict(found), _shown(found))


def _judge(
    out: Output, critic: str, options: dict[str, Any], rubric: str, sample: "list[Document]"
) -> "JudgedByRubric":
    """Let a judge apply one rubric to the documents."""
    from ixt_data.analysis import judge_sample
    from ixt_data.critics import ChunkOptions, critic_id, load_critic
    from ixt_data.critique_runs import closing_critic, exiting_on_sigterm

    parts = ChunkOptions("conversation") if rubric in CONVERSATION_RUBRICS else None
    judge = load_critic(critic, options=options, parts=parts)
    with (
        closing_critic(judge),
        exiting_on_sigterm(),
        out.progress(f"judging by {rubric}", len(sample), "documents") as bar,
    ):
        return judge_sample(rubric, judge, critic_id(judge), sample, lambda done: bar.update(done))


def _shown(found: "RubricComparison") -> Any:
    from rich.console import Group as Lines

    from ixt_data.console import fields

    agreement = {
        "documents": found.documents,
        "compared": found.compared,
        "Spearman": found.spearman,
        "Spearman 95%": None
        if found.spearman_low is None
        else f"{found.spearman_low:.3f} to {found.spearman_high:.3f}",
        "kappa": found.kappa,
        "same score": f"{found.exact:.0%}",
        "mean difference": found.mean_difference,
    }
    header = ["rubric", "ok", "mean", "deviation", "tokens in", "tokens out", "seconds", "cost"]
    rows = [
        (
            one.rubric,
            one.ok,
            one.mean,
            one.deviation,
            one.tokens_in,
            one.tokens_out,
            one.seconds,
            one.cost,
        )
        for one in found.results
    ]
    shown: list[Any] = [fields(agreement), "", "per rubric; tokens, seconds and cost per document:"]
    shown += [table(header, rows)]
    if found.most_different:
        many = format_count(len(found.most_different), "document")
        different = [
            (one.doc_id[:8], one.first, one.second, printable(one.text[:60]))
            for one in found.most_different
        ]
        names = ["document", *(one.rubric for one in found.results), "text"]
        shown += ["", f"{many} with the largest differences:", table(names, different)]
    return Lines(*shown)
