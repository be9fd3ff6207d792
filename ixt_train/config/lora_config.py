"""Settings of low-rank adapters."""

from typing import Annotated

from pydantic import Field, PositiveInt

from ixt_data.config import ConfigModel


class LoraConfig(ConfigModel):
    """LoRA (Hu et al., arXiv 2106.09685): low-rank adapters are trained instead of the weights.

    The embeddings of feedback tokens and other control tokens are trained, too. `ixt export-model`
    merges the adapters into the weights.
    """

    rank: PositiveInt = 16
    """Rank of each adapter."""
    alpha: PositiveInt = 32
    """Scale of the adapters; each is multiplied by alpha / rank."""
    dropout: Annotated[float, Field(ge=0, lt=1)] = 0.0
    """Dropout in front of each adapter."""
    targets: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Names of the layers with adapters, such as q_proj; null takes every linear layer but the
    output."""
