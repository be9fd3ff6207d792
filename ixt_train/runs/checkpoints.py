"""Checkpoint files: written whole or not at all, read without running any code.

Composer writes a checkpoint straight under its final name and reads it with a full unpickler.
Here the file is renamed into place when it is complete and on disk, and it is read with
`weights_only=True`: tensors, plain values and the few harmless types named below. A pickle that
wants anything else is refused.
"""

import datetime
import os
import re
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from ixt_data.errors import CorruptError

FOLDER = "checkpoints"
_NAME = re.compile(r"ba(\d{9,})\.pt")
_LOADED_BY_COMPOSER = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
# Versions, clocks of the timestamp, NumPy's random state: nothing here does more than hold values.
_HARMLESS: list[Any] = [
    torch.torch_version.TorchVersion,
    datetime.timedelta,
    defaultdict,
    dict,
    np.dtype,
    np.ndarray,
    type(np.dtype(np.uint32)),
    np.array(0).__reduce__()[0],
]


def checkpoint_path(run_folder: Path, step: int) -> Path:
    """Where the checkpoint after `step` steps lives."""
    return run_folder / FOLDER / f"ba{step:09d}.pt"


def step_of(path: Path) -> int:
    """Return the step in a checkpoint's name.

    Raises:
        ValueError: the name is not that of a checkpoint.
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} is no checkpoint; they are called ba<step>.pt")
    return int(match[1])


def is_name(name: str) -> bool:
    """Return whether a file name is that of a checkpoint."""
    return _NAME.fullmatch(name) is not None


def list_checkpoints(run_folder: Path) -> list[Path]:
    """Return checkpoints of a run folder, newest first."""
    files = (run_folder / FOLDER).glob("ba*.pt")
    return sorted((f for f in files if is_name(f.name)), key=step_of, reverse=True)


def newest_checkpoint(run_folder: Path) -> Path | None:
    """Return the newest checkpoint that opens, or None where there is none at all.

    Raises:
        CorruptError: there are checkpoints, and not one of them opens.
    """
    errors = []
    for path in list_checkpoints(run_folder):
        try:
            read_checkpoint(path)
        except CorruptError as error:
            errors.append(str(error))
            continue
        return path
    if errors:
        raise CorruptError(f"no checkpoint in {run_folder} opens: {errors[0]}")
    return None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the state in a checkpoint; tensors stay on disk until they are touched.

    Raises:
        CorruptError: it is cut off, or a pickle that wants to run code.
    """
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise CorruptError(f"{path} does not open as a checkpoint: {_reason(error)}") from None
    return state  # type: ignore[no-any-return]


def _reason(error: Exception) -> str:
    refused = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
    if refused is not None:
        return f"it wants to run {refused[1]}, which a checkpoint has no need of"
    return (str(error) or type(error).__name__).splitlines()[0]


@contextmanager
def refuse_code() -> Iterator[None]:
    """Within it, every torch.load, Composer's too, reads values only."""
    before = os.environ.get(_LOADED_BY_COMPOSER)
    os.environ[_LOADED_BY_COMPOSER] = "1"
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            yield
    finally:
        if before is None:
            del os.environ[_LOADED_BY_COMPOSER]
        else:
            os.environ[_LOADED_BY_COMPOSER] = before


def averaged_weights(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the averaged weights in a checkpoint's state, by name; empty where there are none."""
    return state["state"].get("callbacks", {}).get("Ema", {}).get("weights", {})  # type: ignore[no-any-return]


def load_weights(model: torch.nn.Module, state: dict[str, Any], average: bool = True) -> None:
    """Put the weights of a checkpoint's state into a model.

    Args:
        model: the model.
        state: as `read_checkpoint` gives it.
        average: take the averaged ones where there are any.

    Raises:
        RuntimeError: they are those of another model.
    """
    weights = state["state"]["model"]
    model.load_state_dict({name.removeprefix("model."): w for name, w in weights.items()})
    averaged = averaged_weights(state) if average else {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in averaged:
                parameter.copy_(averaged[name])
