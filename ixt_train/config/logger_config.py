"""Parts of the train config about services that metrics go to."""

from typing import Literal

from ixt_data.config import ConfigModel


class WandbConfig(ConfigModel):
    """Weights & Biases; needs the extra `wandb`."""

    project: str = "ixt"
    """Its project."""
    entity: str | None = None
    """User or team; null takes the account's own."""
    group: str | None = None
    """Its group."""
    name: str | None = None
    """What it calls the train run; null takes the run folder's name."""
    tags: tuple[str, ...] = ()
    """Its tags."""
    mode: Literal["online", "offline", "disabled"] | None = None
    """`offline` writes into the run folder, for `wandb sync`; null lets WANDB_MODE say."""


class MlflowConfig(ConfigModel):
    """MLflow; needs the extra `mlflow`."""

    experiment: str = "ixt"
    """Its experiment."""
    name: str | None = None
    """What it calls the train run; null takes the run folder's name."""
    tracking_uri: str | None = None
    """A server or a folder; null takes MLFLOW_TRACKING_URI, else `mlruns` in the run folder.
    Databases need the whole package: pip install mlflow."""
