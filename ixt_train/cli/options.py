"""Options and settings that the verbs of the trainer share."""

import os
import warnings
from typing import Annotated

import typer

MaybeStoreOption = Annotated[
    str | None,
    typer.Option(
        "--store",
        envvar="IXT_STORE",
        metavar="ROOT",
        show_default="the store in the mix",
        help="Root of the store.",
    ),
]


def quiet_libraries() -> None:
    """Turn off the advice and progress bars of libraries; call it before they are imported."""
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("HF_HUB_DISABLE_PROGRESS_BARS", "1")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # It warns of its own calls.
    warnings.filterwarnings(
        "ignore", category=UserWarning, module=r"torch\.distributed\.checkpoint"
    )
