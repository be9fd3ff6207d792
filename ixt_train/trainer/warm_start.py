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
from ixt_train.inference import fit_vocabulary, model_like
from ixt_train.runs import (
    FOLDER,
    averaged_weights,
    load_weights,
    newest_checkpoint,
    read_checkpoint,
    run_folder,
    step_of,
)

KEPT, RECORD, _CONFIG = "checkpoint.pt", "origin.json", "config.json"
_MODEL_FILES = (_CONFIG, "*.safetensors", "*.safetensors.index.json")


@dataclass(frozen=True)
class StartingCheckpoint:
    """The checkpoint that a train run starts from.

    Attributes:
        checkpoint: path of the file.
        model: folder with the model's config.
        tokenizer: folder with a tokenizer that has all of its tokens.
        record: its train run and step.
    """

    checkpoint: Path
    model: Path
    tokenizer: Path
    record: dict[str, Any]

    def keep(self, folder: Path) -> None:
        """Link it into the folder of the train run that starts from it."""
        target = folder / run_folder.START
        if self.checkpoint != target / KEPT:
            # A checkpoint never changes: a link is as good as a copy.
            run_folder.keep_link(self.checkpoint, target / KEPT)
            run_folder.keep_copy(self.model / _CONFIG, target / _CONFIG)
            run_folder.write_json(target / RECORD, self.record)


def find_origin(start: StartConfig) -> StartingCheckpoint:
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
    run = path if path.is_dir() else path.parent.parent
    if not (run / run_folder.FINGERPRINT).is_file():
        raise ConfigError(
            f"start.checkpoint: {path} is not a run folder or a file in its {FOLDER}/; for any "
            "other model set model.path"
        )
    checkpoint = path if path.is_file() else newest_checkpoint(run)
    if checkpoint is None:
        raise ConfigError(
            f"start.checkpoint: {run} has no checkpoint yet; run: ixt train {run}/config.yaml"
        )
    known = run_folder.read_json(run / run_folder.FINGERPRINT)
    record = {
        "run": content_id(known),
        "stage": known["stage"],
        "step": step_of(checkpoint),
        "plan": known["plan.digest"],
        "snapshot": known["snapshot"],
        "tokenizer": known["tokenizer.id"],
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
    found = sorted(source.glob("*.safetensors"))
    for path in found:
        with path.open("rb") as file:
            weights.update(hashlib.file_digest(file, "blake2b").digest())
    if not found:
        raise ConfigError(
            f"model.path: {source} has no *.safetensors. Weights in a pickle could run code; write "
            "them again with save_pretrained(folder, safe_serialization=True)"
        )
    return weights.hexdigest()


def keep_model(source: Path, folder: Path) -> None:
    """Copy the files of a model folder into the folder of the train run that starts from it."""
    target = folder / run_folder.START
    for path in [p for pattern in _MODEL_FILES for p in source.glob(pattern)]:
        # Another user may write into the originals: no links.
        run_folder.keep_copy(path, target / path.name)


@dataclass(frozen=True)
class WarmStart:
    """A model to train, with the state that it takes over.

    Attributes:
        model: the model, with embeddings for new tokens.
        optimizer: AdamW's state by parameter name, as in Composer's checkpoints, or None.
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
    keep = start.optimizer == "keep"
    try:
        load_weights(model, state, average=not keep)
    except RuntimeError as error:
        raise ConfigError(f"start.checkpoint: {origin.checkpoint}: {error}") from None
    # For the embeddings of new tokens.
    torch.manual_seed(seed)
    model = fit_vocabulary(model, tokenizer)
    if not keep:
        return WarmStart(model)
    weights = dict(model.named_parameters())
    moments = state["state"]["optimizers"]["AdamW"]
    averaged = averaged_weights(state)
    return WarmStart(
        model,
        moments | {"state": {name: _fitted(s, weights[name.removeprefix("model.")])
                             for name, s in moments["state"].items()}},
        {name: _grown(w, weights[name].detach()) for name, w in averaged.items()} or None,
        int(origin.record["step"]),
    )  # fmt: skip


def _fitted(moments: dict[str, Tensor], weight: Tensor) -> dict[str, Tensor]:
    """Resize AdamW's state of one parameter; rows of new tokens have moments of zero."""
    nothing = torch.zeros_like(weight)
    return {
        key: value.clone() if value.dim() == 0 else _grown(value, nothing)
        for key, value in moments.items()
    }


def _grown(old: Tensor, now: Tensor) -> Tensor:
    """Return `old`, extended by the rows of `now` beyond its end."""
    return torch.cat([old.to(now), now[len(old) :]]) if len(old) < len(now) else old.to(now).clone()
