"""The start of a train run: a checkpoint of a previous one, or a folder with a model.

The run folder keeps both, by hard links where possible. The train run can then be reproduced
without the previous one.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ixt_data.errors import ConfigError
from ixt_data.records import content_id
from ixt_train.config import StartConfig
from ixt_train.inference import ADAPTERS, fit_vocabulary, load_merged, model_like
from ixt_train.runs import (
    averaged_weights,
    checkpoint_step,
    newest_checkpoint,
    read_checkpoint,
    run_folder,
)

RECORD, _CONFIG = "origin.json", "config.json"
_CHECKPOINT = "checkpoint"
_MODEL_FILES = (_CONFIG, "*.safetensors", "*.safetensors.index.json")


@dataclass(frozen=True)
class StartingCheckpoint:
    """The checkpoint that a train run starts from.

    Attributes:
        checkpoint: path of the checkpoint.
        model: folder with the model's config.
        tokenizer: folder with a tokenizer that has all of its tokens.
        record: its train run and step.
    """

    checkpoint: Path
    model: Path
    tokenizer: Path
    record: dict[str, Any]

    def link_into(self, folder: Path) -> None:
        """Link it into the folder of the train run that starts from it."""
        target = folder / run_folder.START
        kept = target / f"{_CHECKPOINT}{self.checkpoint.suffix}"
        if self.checkpoint != kept:
            # A checkpoint never changes: a link is as good as a copy.
            for path in self.checkpoint.iterdir() if self.checkpoint.is_dir() else [None]:
                source, to = (self.checkpoint, kept) if path is None else (path, kept / path.name)
                run_folder.link_or_copy(source, to)
            for name in (_CONFIG, ADAPTERS):
                if (self.model / name).is_file():
                    run_folder.copy_file(self.model / name, target / name)
            run_folder.write_json(target / RECORD, self.record)


def kept_checkpoint(folder: Path) -> Path:
    """Return the checkpoint that a run folder keeps of the train run that it started from."""
    (path,) = (folder / run_folder.START).glob(f"{_CHECKPOINT}*")
    return path


def find_starting_checkpoint(start: StartConfig) -> StartingCheckpoint:
    """Find the checkpoint that a train config names.

    Raises:
        ConfigError: the path is not a checkpoint or a run folder with one.
    """
    path = Path(start.checkpoint)
    if (path.parent / RECORD).is_file():
        tokenizer = path.parent.parent / run_folder.TOKENIZER
        return StartingCheckpoint(
            path, path.parent, tokenizer, run_folder.read_json(path.parent / RECORD)
        )
    run = path.parent.parent if path.parent.name == run_folder.CHECKPOINTS else path
    if not (run / run_folder.FINGERPRINT).is_file():
        raise ConfigError(
            f"start.checkpoint: {path} is not a run folder or a checkpoint in its "
            f"{run_folder.CHECKPOINTS}/; for any other model set model.path"
        )
    checkpoint = newest_checkpoint(run) if path == run else path
    if checkpoint is None:
        raise ConfigError(
            f"start.checkpoint: {run} has no checkpoint yet; run: ixt train {run}/config.yaml"
        )
    fingerprint = run_folder.read_json(run / run_folder.FINGERPRINT)
    record = {
        "run": content_id(fingerprint),
        "stage": fingerprint["stage"],
        "step": checkpoint_step(checkpoint),
        "plan": fingerprint["plan.digest"],
        "snapshot": fingerprint["snapshot"],
        "tokenizer": fingerprint["tokenizer.id"],
    }
    return StartingCheckpoint(
        checkpoint, run / run_folder.MODEL, run / run_folder.TOKENIZER, record
    )


def model_id(source: Path) -> str:
    """Return 12 hex digits over the weights in a model folder.

    Raises:
        ConfigError: the folder has no weights as safetensors.
    """
    weights = hashlib.blake2b(digest_size=6)
    weight_files = sorted(source.glob("*.safetensors"))
    for path in weight_files:
        with path.open("rb") as file:
            weights.update(hashlib.file_digest(file, "blake2b").digest())
    if not weight_files:
        raise ConfigError(
            f"model.path: {source} has no *.safetensors. Weights in a pickle could run code; write "
            "them again with save_pretrained(folder, safe_serialization=True)"
        )
    return weights.hexdigest()


def copy_model(source: Path, folder: Path) -> None:
    """Copy the files of a model folder into the folder of the train run that starts from it."""
    target = folder / run_folder.START
    for path in [p for pattern in _MODEL_FILES for p in source.glob(pattern)]:
        # Another user may write into the originals: no links.
        run_folder.copy_file(path, target / path.name)


@dataclass(frozen=True)
class WarmStart:
    """A model to train, with the state that it takes over.

    Attributes:
        model: the model, with embeddings for new tokens.
        optimizer: the optimizer's state by its kind, as in Composer's checkpoints, or None.
        averaged: averaged weights by parameter name, None for a new average.
        step: steps that the weights were averaged over.
    """

    model: Any
    optimizer: dict[str, Any] | None = None
    averaged: dict[str, Tensor] | None = None
    step: int = 0


def start_from(
    origin: StartingCheckpoint, start: StartConfig, tokenizer: Any, seed: int
) -> WarmStart:
    """Load the model, and as much of the previous training state as `start` selects.

    Raises:
        ConfigError: the weights belong to another model.
        CorruptError: the checkpoint cannot be read.
    """
    state = read_checkpoint(origin.checkpoint)
    model = model_like(origin.model)
    keeps = start.optimizer == "keep"
    try:
        model = load_merged(model, origin.model, state, average=not keeps)
    except RuntimeError as error:
        raise ConfigError(f"start.checkpoint: {origin.checkpoint}: {error}") from None
    # For the embeddings of new tokens.
    torch.manual_seed(seed)
    model = fit_vocabulary(model, tokenizer)
    if not keeps:
        return WarmStart(model)
    weights = dict(model.named_parameters())
    if (origin.model / ADAPTERS).is_file():
        raise ConfigError(
            f"start.optimizer: keep, but {origin.checkpoint} has the moments of adapters (lora); "
            "set it to fresh"
        )
    optimizers = {
        kind: moments | {"state": {name: _resize_moments(s, weights[name.removeprefix("model.")])
                                   for name, s in moments["state"].items()}}
        for kind, moments in state["state"]["optimizers"].items()
    }  # fmt: skip
    averaged = averaged_weights(state)
    return WarmStart(
        model,
        optimizers,
        {name: _resize_rows(w, weights[name].detach()) for name, w in averaged.items()} or None,
        int(origin.record["step"]),
    )  # fmt: skip


def _resize_moments(moments: dict[str, Tensor], weight: Tensor) -> dict[str, Tensor]:
    """Resize an optimizer's state of one parameter; rows of new tokens have moments of zero."""
    zeros = torch.zeros_like(weight)
    return {
        key: value.clone() if value.dim() == 0 else _resize_rows(value, zeros)
        for key, value in moments.items()
    }


def _resize_rows(rows: Tensor, target_rows: Tensor) -> Tensor:
    """Return `rows`, extended by the rows of `target_rows` beyond its end."""
    return (
        torch.cat([rows.to(target_rows), target_rows[len(rows) :]])
        if len(rows) < len(target_rows)
        else rows.to(target_rows).clone()
    )
