"""Checkpoints: a file, or a folder of parts; both written atomically, read without executing code.

Composer writes a checkpoint directly under its final name and reads it with a full unpickler.
Here a checkpoint has another name until it is complete. It is read with `weights_only=True`:
tensors, plain values and the few safe types below. A pickle that requires any other type is
refused.
"""

import datetime
import re
import shutil
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import numpy as np
import torch

from ixt_data.errors import CorruptError
from ixt_train.runs.checkpoint_parts import check_parts, read_parts
from ixt_train.runs.environment import environment_variables
from ixt_train.runs.run_folder import CHECKPOINTS

STATE = "state.pt"
"""File of a folder of parts: everything but the tensors."""
PARAM_GROUPS = "param_groups"
"""Key of that file: the settings of the optimizer's groups, by optimizer."""
_NAME = re.compile(r"ba(\d{9,})(\.pt)?")
_LOADED_BY_COMPOSER = "TORCH_FORCE_WEIGHTS_ONLY_LOAD"
# Versions, clocks of the timestamp, NumPy's random state: these types only store values.
_SAFE_TYPES: list[Any] = [
    torch.torch_version.TorchVersion,
    datetime.timedelta,
    defaultdict,
    dict,
    np.dtype,
    np.ndarray,
    type(np.dtype(np.uint32)),
    np.array(0).__reduce__()[0],
]


def checkpoint_path(run_folder: Path, step: int, in_parts: bool = False) -> Path:
    """Return the path of the checkpoint after `step` steps: a file, or a folder of parts."""
    return run_folder / CHECKPOINTS / f"ba{step:09d}{'' if in_parts else '.pt'}"


def checkpoint_step(path: Path) -> int:
    """Return the step in a checkpoint's file name.

    Raises:
        ValueError: the name is not the name of a checkpoint.
    """
    match = _NAME.fullmatch(path.name)
    if match is None:
        raise ValueError(f"{path} is not a checkpoint; they are named ba<step>.pt or ba<step>")
    return int(match[1])


def is_name(name: str) -> bool:
    """Return whether a name is that of a checkpoint."""
    return _NAME.fullmatch(name) is not None


def list_checkpoints(run_folder: Path) -> list[Path]:
    """Return the checkpoints of a run folder, latest first."""
    paths = (run_folder / CHECKPOINTS).glob("ba*")
    return sorted((p for p in paths if is_name(p.name)), key=checkpoint_step, reverse=True)


def delete_checkpoint(path: Path) -> None:
    """Delete a checkpoint; a folder loses its name first, so that it is never seen in part."""
    if path.is_dir():
        shutil.rmtree(path.rename(path.with_name(f".{path.name}.deleted")))
    else:
        path.unlink()


def partial_path(path: Path) -> Path:
    """Return the name of a folder of parts that is not complete."""
    return path.with_name(f".{path.name}.partial")


def delete_partial_checkpoints(run_folder: Path) -> None:
    """Delete what killed processes left of the checkpoints that they wrote or deleted."""
    for path in (run_folder / CHECKPOINTS).glob(".ba*"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def newest_checkpoint(run_folder: Path) -> Path | None:
    """Return the latest readable checkpoint, or None if the run folder has no checkpoint.

    Raises:
        CorruptError: the run folder has checkpoints, and none of them can be read.
    """
    errors = []
    for path in list_checkpoints(run_folder):
        try:
            check_checkpoint(path)
        except CorruptError as error:
            errors.append(str(error))
            continue
        return path
    if errors:
        raise CorruptError(f"no checkpoint in {run_folder} can be read: {errors[0]}")
    return None


def check_checkpoint(path: Path) -> None:
    """Check that a checkpoint can be read, without reading its tensors.

    Raises:
        CorruptError: a file is missing or truncated, or a pickle requires code.
    """
    if path.is_dir():
        _load(path / STATE)
        check_parts(path)
    else:
        _load(path)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Return the state in a checkpoint, as Composer has it; tensors of a file are memory-mapped.

    Raises:
        CorruptError: a file is missing or truncated, or a pickle requires code.
    """
    if not path.is_dir():
        return _load(path)
    record = _load(path / STATE)
    parts = read_parts(path)
    groups = record.pop(PARAM_GROUPS)
    record["state"]["model"] = parts["model"]
    record["state"]["optimizers"] = {
        name: {"state": parts["optimizer"], "param_groups": group} for name, group in groups.items()
    }
    if "average" in parts:
        record["state"]["callbacks"]["EmaCallback"]["weights"] = parts["average"]
    return record


def _load(path: Path) -> dict[str, Any]:
    try:
        with torch.serialization.safe_globals(_SAFE_TYPES):
            state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (OSError, RuntimeError, EOFError, UnpicklingError) as error:
        raise CorruptError(f"{path} cannot be read as a checkpoint: {_reason(error)}") from None
    return state  # type: ignore[no-any-return]


def _reason(error: Exception) -> str:
    refused = re.search(r"Unsupported global: GLOBAL (\S+)", str(error))
    if refused is not None:
        return f"its pickle requires {refused[1]}, which no checkpoint needs"
    return (str(error) or type(error).__name__).splitlines()[0]


@contextmanager
def refuse_code() -> Iterator[None]:
    """Make every torch.load within the context, Composer's included, read values only."""
    with (
        environment_variables(**{_LOADED_BY_COMPOSER: "1"}),
        torch.serialization.safe_globals(_SAFE_TYPES),
    ):
        yield


def averaged_weights(state: dict[str, Any]) -> dict[str, torch.Tensor]:
    """Return the averaged weights in a checkpoint's state, by name; empty if it has none."""
    return state["state"].get("callbacks", {}).get("EmaCallback", {}).get("weights", {})  # type: ignore[no-any-return]


def load_weights(model: torch.nn.Module, state: dict[str, Any], average: bool = True) -> None:
    """Copy the weights of a checkpoint's state into a model.

    Args:
        model: the model.
        state: as `read_checkpoint` returns it.
        average: use the averaged weights if the state has them.

    Raises:
        RuntimeError: the weights belong to another model.
    """
    weights = state["state"]["model"]
    model.load_state_dict({name.removeprefix("model."): w for name, w in weights.items()})
    averaged = averaged_weights(state) if average else {}
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in averaged:
                parameter.copy_(averaged[name])
