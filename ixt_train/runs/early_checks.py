"""Checks that need neither torch nor Composer, whose import takes longer than most mistakes."""

from pathlib import Path
from typing import NamedTuple

from ixt_data.errors import ConfigError
from ixt_data.store import Store
from ixt_train.config import TrainConfig, load_run_mix
from ixt_train.runs import run_folder

EXPORT_CARD = "ixt.json"


class ModelFiles(NamedTuple):
    """The place of a trained model.

    Attributes:
        folder: the run folder, or the folder of an exported model.
        checkpoint: the checkpoint that the user named; None for the latest of a run folder.
        is_export: whether `ixt export-model` wrote the folder.
    """

    folder: Path
    checkpoint: Path | None = None
    is_export: bool = False


def find_model(path: str | Path) -> ModelFiles:
    """Find a model in a run folder, a checkpoint, or an exported folder.

    Raises:
        ConfigError: the path is none of these, or the run folder has no checkpoint yet.
    """
    path = Path(path)
    if (path / EXPORT_CARD).is_file():
        return ModelFiles(path, is_export=True)
    if (path / run_folder.FINGERPRINT).is_file():
        if not any((path / run_folder.CHECKPOINTS).glob("ba*")):
            raise ConfigError(
                f"{path} has no checkpoint yet; continue training: ixt train {path}/config.yaml"
            )
        return ModelFiles(path)
    if path.exists() and path.parent.name == run_folder.CHECKPOINTS:
        return ModelFiles(path.parent.parent, path)
    problem = "is not" if path.exists() else "does not exist; give"
    raise ConfigError(
        f"{path} {problem} a run folder, a checkpoint in its {run_folder.CHECKPOINTS}/, or a "
        "folder written by ixt export-model"
    )


def check_train_run(config: TrainConfig, overwrite: bool = False) -> None:
    """Check the mix, the store, the snapshot and the run folder of a train config.

    Raises:
        ConfigError: the mix cannot be read, or the run folder contains other files.
        StoreError: the store or the snapshot does not exist.
        FingerprintError: the run folder has a train run of another config, with a step.
    """
    mix = load_run_mix(config)
    Store.open(config.store or mix.store).snapshot(mix.snapshot)
    folder = Path(config.run_folder)
    before = run_folder.stored_fingerprint(folder)
    if before is None:
        run_folder.check_free(folder)
    elif not overwrite and run_folder.has_steps(folder):
        run_folder.check_fingerprint(folder, before, {**before, **config.fingerprint()})
