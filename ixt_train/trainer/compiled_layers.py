"""The parts of a model that torch.compile and activation checkpointing work on: its layers."""

from typing import Any

import torch
from torch import nn

from ixt_data.errors import ConfigError


def decoder_layers(model: Any) -> list[nn.Module]:
    """Return the layers of a Hugging Face causal language model, in order.

    Raises:
        ConfigError: the family does not say what its layers are.
    """
    names = set(getattr(model, "_no_split_modules", None) or ())
    layers = [module for module in model.modules() if type(module).__name__ in names]
    if not layers:
        raise ConfigError(
            f"compile: transformers does not say what the layers of {model.config.model_type} are; "
            "set compile to false"
        )
    return layers


def compile_layers(model: Any) -> None:
    """Compile each layer in place, at its first call.

    Layers of one kind share their code, so it takes the time of one layer. Names of parameters do
    not change, and ranks exchange gradients during the backward pass.

    Raises:
        ConfigError: the family does not say what its layers are.
    """
    torch._dynamo.config.cache_size_limit = max(64, torch._dynamo.config.cache_size_limit)
    for layer in decoder_layers(model):
        layer.compile()  # type: ignore[no-untyped-call]


def checkpoint_activations(model: Any) -> None:
    """Let each layer compute its activations again in the backward pass.

    Raises:
        ConfigError: transformers has no activation checkpointing for this family.
    """
    if not model.supports_gradient_checkpointing:
        raise ConfigError(
            f"activation_checkpointing: transformers has none for {model.config.model_type}; set "
            "it to false"
        )
    model.gradient_checkpointing_enable({"use_reentrant": False})
