"""What a train run starts from: a checkpoint of an earlier one, or a folder with a model.

Both are kept in the run folder, by hard links where that can be, so that it can be repeated when
the earlier one is gone.
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
    """The checkpoint that a train run goes on from.

    Attributes:
        checkpoint: the file.
        model: folder with the model's config.
        tokenizer: folder with a tokenizer that has all of its tokens.
        record: which train run it is from, and which step of it.
    """

    checkpoint: Path
    model: Path
    tokenizer: Path
    record: dict[str, Any]

    def keep(self, folder: Path) -> None:
        """Bring it into the folder of the train run that starts from it."""
        target = folder / run_folder.START
        if self.checkpoint != target / KEPT:
            # A checkpoint never changes: a link is as good as a copy.
            run_folder.keep_link(self.checkpoint, target / KEPT)
            run_folder.keep_copy(self.model / _CONFIG, target / _CONFIG)
            run_folder.write_json(target / RECORD, self.record)


def find_origin(start: StartConfig) -> StartingCheckpoint:
    """Return the checkpoint that a train config names.

    Raises:
        ConfigError: there is none.
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
            f"start.checkpoint: {path} is neither a run folder nor a file in its {FOLDER}/; for a "
            "model from elsewhere set model.path"
        )
    checkpoint = path if path.is_file() else newest_checkpoint(run)
    if checkpoint is None:
        raise ConfigError(
            f"start.checkpoint: {run} has no checkpoint yet; train on: ixt train {run}/config.yaml"
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
    """12 hex digits over the weights in a model folder.

    Raises:
        ConfigError: there are no weights as safetensors.
    """
    weights = hashlib.blake2b(digest_size=6)
    found = sorted(source.glob("*.safetensors"))
    for path in found:
        with path.open("rb") as file:
            weights.update(hashlib.file_digest(file, "blake2b").digest())
    if not found:
        raise ConfigError(
            f"model.path: {source} has no *.safetensors. Weights in a pickle could run code; write "
            "them anew with save_pretrained(folder, safe_serialization=True)"
        )
    return weights.hexdigest()


def keep_model(source: Path, folder: Path) -> None:
    """Bring the files of a model folder into the folder of the train run that starts from it."""
    target = folder / run_folder.START
    for path in [p for pattern in _MODEL_FILES for p in source.glob(pattern)]:
        # Of somebody else, who may write into them: no links.
        run_folder.keep_copy(path, target / path.name)


@dataclass(frozen=True)
class WarmStart:
    """A model to be trained, and what goes on from its origin.

    Attributes:
        model: with the origin's weights, and embeddings for new tokens.
        optimizer: AdamW's state by parameter name as Composer's checkpoints have it; None if it
            begins anew.
        averaged: averaged weights by parameter name, where they go on.
        step: steps that are behind it.
    """

    model: Any
    optimizer: dict[str, Any] | None = None
    averaged: dict[str, Tensor] | None = None
    step: int = 0


def start_from(
    origin: StartingCheckpoint, start: StartConfig, tokenizer: Any, seed: int
) -> WarmStart:
    """Return the model, and as much else of the origin as `start` says.

    Raises:
        ConfigError: the weights are those of another model.
        CorruptError: the checkpoint does not open.
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
    """AdamW's state of one parameter; rows of new tokens have moments of zero."""
    nothing = torch.zeros_like(weight)
    return {
        key: value.clone() if value.dim() == 0 else _grown(value, nothing)
        for key, value in moments.items()
    }


def _grown(old: Tensor, now: Tensor) -> Tensor:
    """`old` with the rows that `now` has beyond it."""
    return torch.cat([old.to(now), now[len(old) :]]) if len(old) < len(now) else old.to(now).clone()
