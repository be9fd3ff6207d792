"""Settings of low-rank adapters."""

from typing import Annotated, Any

from pydantic import Field, PositiveInt, model_validator

from ixt_data.config import ConfigModel

_QUANTIZED = ("bits", "bnb_4bit_quant_type", "load_in_4bit", "load_in_8bit", "qlora", "quantize")


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

    @model_validator(mode="before")
    @classmethod
    def _refuse_quantized_weights(cls, tree: Any) -> Any:
        found = [key for key in _QUANTIZED if isinstance(tree, dict) and key in tree]
        if found:
            raise ValueError(
                f"{found[0]}: weights of 4 or 8 bits (QLoRA) are not supported; they need a GPU "
                "and the package bitsandbytes. Remove it: adapters are trained on complete weights"
            )
        return tree
