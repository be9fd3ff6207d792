"""Options of a judge that several verbs share."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Literal

import typer

JUDGE = "Judges: --critic vllm and llama"
SPENDING = "Rates and cost: --critic vllm and llama"

CONVERSATION_RUBRICS = ("sft", "dialogue")
"""Shipped rubrics whose judge sees a conversation in readable form."""

EndpointOption = Annotated[
    list[str] | None,
    typer.Option(
        help="OpenAI-compatible server, up to /v1; may be repeated.", rich_help_panel=JUDGE
    ),
]
ModelOption = Annotated[
    str | None,
    typer.Option(
        show_default="the server's only one, or SmolLM2-135M (llama)",
        help="Name of the model at the server, or a GGUF file (llama).",
        rich_help_panel=JUDGE,
    ),
]
ThinkingBudgetOption = Annotated[
    int | None,
    typer.Option(
        show_default="no limit",
        help="Maximum thinking tokens; 0 turns thinking off.",
        rich_help_panel=JUDGE,
    ),
]
MaxTokensOption = Annotated[
    int, typer.Option(help="Maximum tokens of thinking and response.", rich_help_panel=JUDGE)
]
TemperatureOption = Annotated[
    float, typer.Option(help="Sampling temperature.", rich_help_panel=JUDGE)
]
ReasoningEffortOption = Annotated[
    str | None,
    typer.Option(
        show_default="not sent",
        help="How long to think, such as low, where a server has no budget in tokens.",
        rich_help_panel=JUDGE,
    ),
]
StructuredOption = Annotated[
    Literal["auto", "json_schema", "json_object", "prompt"],
    typer.Option(
        help="How to get JSON. auto: the strictest way that a server gives.", rich_help_panel=JUDGE
    ),
]
ApiKeyFileOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        show_default="the environment's IXT_API_KEY",
        help="File with the servers' API key.",
        rich_help_panel=JUDGE,
    ),
]


def _refuse_password(
    context: typer.Context, parameter: typer.CallbackParam, value: str | None
) -> str | None:
    source = context.get_parameter_source(parameter.name or "")
    if value and "@" in value and source is not None and source.name == "COMMANDLINE":
        raise typer.BadParameter(
            "the address has a user or password in it, which every user of this machine can read. "
            "Set IXT_PROXY instead"
        )
    return value


ProxyOption = Annotated[
    str | None,
    typer.Option(
        metavar="URL",
        envvar="IXT_PROXY",
        callback=_refuse_password,
        help="HTTP proxy to the servers.",
        rich_help_panel=JUDGE,
    ),
]
CaFileOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        show_default="the system's",
        help="Certificates (PEM) of the authorities to trust.",
        rich_help_panel=JUDGE,
    ),
]
ClientCertOption = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="Certificate and key (PEM) of this client, for mutual TLS.",
        rich_help_panel=JUDGE,
    ),
]
ConcurrencyOption = Annotated[
    int, typer.Option(help="Maximum concurrent requests per server.", rich_help_panel=JUDGE)
]
TimeoutOption = Annotated[
    float, typer.Option(help="Seconds until a request times out.", rich_help_panel=JUDGE)
]
MaxCostOption = Annotated[
    float | None,
    typer.Option(
        help="Stop before all commands for this corpus and judge cost more.",
        rich_help_panel=SPENDING,
    ),
]
PriceInOption = Annotated[
    float, typer.Option(help="Price of a million prompt tokens.", rich_help_panel=SPENDING)
]
PriceOutOption = Annotated[
    float,
    typer.Option(
        help="Price of a million completion tokens, with thinking.", rich_help_panel=SPENDING
    ),
]
PricesOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.yaml",
        show_default="--price-in and --price-out",
        help="Prices by model.",
        rich_help_panel=SPENDING,
    ),
]


def choose_prices(
    file: Path | None, model: str | None, price_in: float, price_out: float, *, is_batch: bool
) -> tuple[float, float]:
    """Return the prices of a million prompt tokens and of a million completion tokens.

    Raises:
        typer.BadParameter: both a file and a price are given.
        ConfigError: see `load_prices`.
    """
    from ixt_data.critics import load_prices

    if file is None:
        return price_in, price_out
    if price_in or price_out:
        what = "give either a file or --price-in and --price-out"
        raise typer.BadParameter(what, param_hint="--prices")
    return load_prices(file, model, is_batch=is_batch)


def refuse_options_of_judges(
    context: typer.Context, critic: str, panels: Sequence[str], allowed: Sequence[str]
) -> None:
    """Refuse options of the command line that only judges read.

    Args:
        context: the command and its options.
        critic: the critic, which is not a judge.
        panels: panels of the help text that have such options.
        allowed: names of parameters that are checked elsewhere.

    Raises:
        BadParameter: one is given.
    """
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        is_given = source is not None and source.name == "COMMANDLINE"
        is_of_judges = getattr(parameter, "rich_help_panel", None) in panels
        if is_given and is_of_judges and parameter.name not in allowed:
            what = f"is for a judge (vllm, llama), not for {critic}"
            raise typer.BadParameter(what, param_hint=parameter.opts[0])
