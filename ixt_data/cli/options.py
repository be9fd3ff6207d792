"""Options that several verbs share."""

from typing import Annotated, Any

import typer

from ixt_data.console import OutputMode

StoreOption = Annotated[
    str,
    typer.Option(
        "--store",
        envvar="IXT_STORE",
        metavar="ROOT",
        help="Root of the store: a folder, or s3://bucket/prefix.",
        show_envvar=True,
    ),
]


OutputOption = Annotated[
    OutputMode, typer.Option("--output", "-o", help="Text for a reader, or one JSON object.")
]


AtOption = Annotated[
    str | None,
    typer.Option("--at", metavar="VERSION|TAG", show_default="latest", help="Snapshot to read."),
]


DEFAULT_STORE = "./ixt"


def key_values(pairs: list[str] | None, option: str = "--option") -> dict[str, str]:
    """Return the keys and values of an option `KEY=VALUE` that may be repeated."""
    for pair in pairs or ():
        if "=" not in pair:
            raise typer.BadParameter(f"{pair!r} is not KEY=VALUE", param_hint=option)
    return dict(pair.split("=", 1) for pair in pairs or ())


def arrows(record: dict[str, Any], output: OutputMode) -> dict[str, Any]:
    """Return a record whose `renamed` is `field -> column` for a reader."""
    if output is OutputMode.json:
        return record
    return record | {"renamed": [f"{old} -> {new}" for old, new in record["renamed"].items()]}
