"""Options that several verbs share."""

from typing import Annotated

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
    OutputMode, typer.Option("--output", "-o", help="Text for people, or one JSON object.")
]


AtOption = Annotated[
    str | None, typer.Option("--at", metavar="VERSION|TAG", help="Snapshot; the newest by default.")
]


DEFAULT_STORE = "./ixt"
