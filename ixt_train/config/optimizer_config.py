"""Settings of the optimizer and of its learning rate."""

from typing import Annotated, Literal

from pydantic import Field

from ixt_data.config import ConfigModel
from ixt_train.config.amount import Amount, AmountText


class OptimizerConfig(ConfigModel):
    """AdamW (Loshchilov & Hutter, arXiv 1711.05101), or Muon."""

    kind: Literal["adamw", "adamw8bit", "muon"] = "adamw"
    """`adamw8bit` stores moments in 8 bits (package torchao). `muon` is Muon for the matrices of
    hidden layers, and AdamW for the rest, with one learning rate."""
    lr: Annotated[float, Field(gt=0)] = 3e-4
    """Maximum learning rate."""
    betas: tuple[float, float] = (0.9, 0.95)
    """Decay rates of the first and second moment."""
    eps: Annotated[float, Field(gt=0)] = 1e-8
    """Added to the square root of the second moment."""
    weight_decay: Annotated[float, Field(ge=0)] = 0.1
    """Decoupled weight decay."""


class ScheduleConfig(ConfigModel):
    """The learning rate over the train run."""

    kind: Literal["constant", "cosine", "wsd"] = "constant"
    """`wsd` is warm-up, stable, then linear decay."""
    warmup: AmountText = Amount(value=0)
    """Linear warm-up from zero, in steps or tokens."""
    decay: Annotated[float, Field(gt=0, le=1)] = 0.2
    """`wsd`: share of the train run, at its end, during which the rate falls."""
    final: Annotated[float, Field(ge=0, le=1)] = 0.1
    """`cosine` and `wsd`: rate at the end, as a share of the maximum."""
