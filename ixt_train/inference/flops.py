"""Floating-point operations of training, from a model's size and its number of tokens."""

import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class ModelSize:
    """The sizes that the FLOPs of a dense decoder depend on."""

    parameters: int
    layers: int
    width: int

    def per_token(self, length: float) -> float:
        """Return forward and backward FLOPs per token in rows of mean length `length`.

        6 per parameter (Kaplan et al. 2020, arXiv 2001.08361; the embedding counted), and 6 x
        layers x width x length for causal attention, which covers half of its row on average.
        """
        return 6.0 * self.parameters + 6.0 * self.layers * self.width * length


def read_model_size(model_folder: Path) -> ModelSize:
    """Return the size of the model in a folder, from its Hugging Face config without weights."""
    return _size((model_folder / "config.json").read_text())


@lru_cache
def _size(text: str) -> ModelSize:
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    settings = json.loads(text)
    config = AutoConfig.for_model(**settings)
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    size = model_size(model)
    assert size is not None
    return size


def model_size(model: Any) -> ModelSize | None:
    """Return the size of a Hugging Face causal language model; shared parameters count once.

    None for a family whose config does not say how many layers of which width it has.
    """
    parameters = sum(parameter.numel() for parameter in model.parameters())
    config = model.config
    layers, width = (getattr(config, k, None) for k in ("num_hidden_layers", "hidden_size"))
    return None if layers is None or width is None else ModelSize(parameters, layers, width)
