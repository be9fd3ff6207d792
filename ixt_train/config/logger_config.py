"""Parts of the train config for external metric services."""

from typing import Literal

from ixt_data.config import ConfigModel


class WandbConfig(ConfigModel):
    """Weights & Biases; needs the extra `wandb`."""

    project: str = "ixt"
    """Project of the run."""
    entity: str | None = None
    """User or team; null uses the account's default."""
    group: str | None = None
    """Group of the run."""
    name: str | None = None
    """Name of the run; null uses the run folder's name."""
    tags: tuple[str, ...] = ()
    """Tags of the run."""
    mode: Literal["online", "offline", "disabled"] | None = None
    """`offline` writes into the run folder, for `wandb sync`; null uses WANDB_MODE."""


class MlflowConfig(ConfigModel):
    """MLflow; needs the extra `mlflow`."""

    experiment: str = "ixt"
    """Experiment of the run."""
    name: str | None = None
    """Name of the run; null uses the run folder's name."""
    tracking_uri: str | None = None
    """A server or a folder; null uses MLFLOW_TRACKING_URI, else `mlruns` in the run folder.
    Databases need the complete package: pip install mlflow."""
