"""What the verbs of the trainer share."""

import os
from typing import Annotated

import typer

MaybeStoreOption = Annotated[
    str | None,
    typer.Option(
        "--store", envvar="IXT_STORE", metavar="ROOT", help="Root of the store [the mix's]."
    ),
]


def quiet_libraries() -> None:
    """Before they are imported: no advice and no bars of theirs among our own."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
