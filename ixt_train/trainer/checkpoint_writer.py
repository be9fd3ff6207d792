"""Checkpoints in parts, written in the background; every rank writes and reads its own parts."""

import io
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import torch
from composer.core import State
from composer.utils import reproducibility
from torch import distributed
from torch.distributed.checkpoint.filesystem import FileSystemWriter
from torch.distributed.checkpoint.state_dict import (
    StateDictOptions,
    get_state_dict,
    set_state_dict,
)
from torch.distributed.checkpoint.state_dict_saver import save

from ixt_data.errors import TrainingError
from ixt_data.storage import fsync
from ixt_train.runs import (
    PARAM_GROUPS,
    STATE,
    checkpoint_step,
    delete_checkpoint,
    failure_reason,
    load_parts,
    partial_path,
)
from ixt_train.stream import is_distributed
from ixt_train.trainer.averaged_weights import EmaCallback

Tensors = dict[str, Any]
_TENSORS = ("model", "optimizers")


class CheckpointWriter:
    """A writer of checkpoints in parts: training waits for the copy in memory only.

    A checkpoint gets its name when it is complete. All ranks call the methods together.
    """

    def __init__(self, ema: EmaCallback | None, publish: Callable[[Path], None]) -> None:
        """Start the thread of this rank.

        Args:
            ema: the averaged weights, which are part of the checkpoints.
            publish: called on the first rank, in the background, with each complete checkpoint.
        """
        self._ema, self._publish = ema, publish
        self._is_first = not is_distributed() or distributed.get_rank() == 0
        # The thread needs messages of its own: those of training are in flight meanwhile.
        self._group = distributed.new_group(backend="gloo") if is_distributed() else None
        # Pinned memory is slow to get, so it is kept.
        self._storage = FileSystemWriter("", cache_staged_state_dict=torch.cuda.is_available())
        self._threads = ThreadPoolExecutor(1, "checkpoint")
        self._path, self._pending = Path(), None

    _pending: Future[None] | None

    def save(self, state: State, path: Path) -> None:
        """Copy the state, and write it to a folder in the background.

        Raises:
            TrainingError: the checkpoint before could not be written.
        """
        self.wait()
        tensors, settings = _tensors_of(state, self._ema)
        record = io.BytesIO()
        torch.save(_record_of(state, settings), record)
        copies = self._storage.stage(tensors)
        self._path = path
        self._pending = self._threads.submit(self._write, copies, record.getvalue(), path)

    def _write(self, tensors: Tensors, record: bytes, path: Path) -> None:
        """Write the parts of this rank; the first rank gives the checkpoint its name."""
        partial = partial_path(path)
        save(
            tensors,
            checkpoint_id=partial,
            storage_writer=self._storage,
            process_group=self._group,
            no_dist=self._group is None,
        )
        if not self._is_first:
            return
        (partial / STATE).write_bytes(record)
        fsync(partial / STATE)
        fsync(partial)
        if path.exists():
            # It cannot be read, or the train run would have resumed there.
            delete_checkpoint(path)
        partial.replace(path)
        fsync(path.parent)
        self._publish(path)

    def check(self) -> None:
        """Raise the error of a checkpoint that has failed by now.

        Raises:
            TrainingError: it could not be written.
        """
        if self._pending is not None and self._pending.done():
            self.wait()

    def wait(self) -> None:
        """Wait for the checkpoint in progress.

        Raises:
            TrainingError: it could not be written.
        """
        pending, self._pending = self._pending, None
        if pending is None:
            return
        error = pending.exception()
        if error is not None:
            step = checkpoint_step(self._path)
            raise TrainingError(
                f"the checkpoint of step {step} could not be written: {failure_reason(error)}. "
                "The one before it is complete, and the same command resumes there"
            ) from error

    def close(self) -> None:
        """Wait for the checkpoint in progress, and end the thread."""
        self._threads.shutdown()


def composer_file(checkpoint: Path) -> Path:
    """Return the file of a checkpoint that Composer loads; `load_tensors` loads the parts."""
    return checkpoint / STATE if checkpoint.is_dir() else checkpoint


def load_tensors(state: State, folder: Path, ema: EmaCallback | None) -> None:
    """Load weights, optimizer and average from the parts of a checkpoint; each rank its own.

    The number of ranks may be another than that of the writer.

    Raises:
        CorruptError: the parts cannot be read, or belong to another model.
    """
    with torch.no_grad():
        tensors, _ = _tensors_of(state, ema)
        load_parts(folder, tensors, no_dist=not is_distributed())
        record = torch.load(folder / STATE, map_location="cpu", weights_only=True)
        (optimizer,) = state.optimizers
        set_state_dict(
            state.model,
            optimizer,
            model_state_dict=tensors["model"],
            optim_state_dict={
                "state": tensors["optimizer"],
                "param_groups": record[PARAM_GROUPS][type(optimizer).__qualname__],
            },
        )


def _tensors_of(state: State, ema: EmaCallback | None) -> tuple[Tensors, Any]:
    """Return the tensors of the state by name, parts of sharded ones; and the optimizer's groups.

    They are not copies.
    """
    (optimizer,) = state.optimizers
    model, optimizer_state = get_state_dict(state.model, optimizer, options=StateDictOptions())
    tensors: Tensors = {"model": model, "optimizer": optimizer_state["state"]}
    if ema is not None:
        tensors["average"] = ema.tensors()
    return tensors, {type(optimizer).__qualname__: optimizer_state["param_groups"]}


def _record_of(state: State, param_groups: Any) -> dict[str, Any]:
    """Return the rest of the state, as Composer loads it."""
    attributes = state.serialized_attributes
    state.serialized_attributes = [name for name in attributes if name not in _TENSORS]
    try:
        rest = state.state_dict()
    finally:
        state.serialized_attributes = attributes
    return {"state": rest, "rng": reproducibility.get_rng_state(), PARAM_GROUPS: param_groups}
