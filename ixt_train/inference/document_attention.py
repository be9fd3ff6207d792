"""Attention of packed rows within documents: the arguments by which a model family keeps to it."""

from inspect import signature
from typing import Any, Literal

import torch
from torch import Tensor

from ixt_train.inference.attention_kernels import FLEX, block_mask
from ixt_train.stream import document_mask

DocumentMask = Literal["flex", "positions", "boolean", "additive", "ones", "layers"]
"""What separates the documents of a row: flex_attention's mask; position ids alone, from which the
model makes its mask; or our mask [rows, 1, T, T] as booleans, as 0 and -inf, as ones and zeros, or
as one mask per kind of layer."""


def document_masks(model: Any) -> tuple[DocumentMask, ...]:
    """Return what may separate documents in a model, the fastest first.

    Families ignore or misread most of these without an error: check one before use.

    Args:
        model: a Hugging Face causal language model.
    """
    kind = model.config._attn_implementation
    if kind == FLEX:
        return ("flex", "positions")
    if kind not in ("sdpa", "eager"):
        return ("positions",)
    # A model with kinds of layers gets one mask per kind, because one for all ignores windows.
    dense: tuple[DocumentMask, ...] = ("layers", "boolean", "additive", "ones")
    return ("positions", *(name for name in dense if name != "boolean" or kind == "sdpa"))


def document_arguments(model: Any, batch: dict[str, Tensor], kind: DocumentMask) -> dict[str, Any]:
    """Return the arguments of a model's forward that separate the documents of a batch.

    Args:
        model: a Hugging Face causal language model.
        batch: with `position_ids` and `attention_mask`, int64[rows, T].
        kind: what separates them.
    """
    arguments: dict[str, Any] = {}
    if _takes_positions(model):
        arguments["position_ids"] = batch["position_ids"]
    if kind == "flex":
        arguments["attention_mask"] = block_mask(batch)
    elif kind == "layers":
        mask = document_mask(batch)
        by_layer = {"full_attention": mask, "sliding_attention": mask}
        if window := getattr(model.config, "sliding_window", None):
            by_layer["sliding_attention"] = mask & ~torch.ones_like(mask).tril(-window)
        additive = {name: _additive(layer, model) for name, layer in by_layer.items()}
        is_boolean = model.config._attn_implementation == "sdpa"
        arguments["attention_mask"] = by_layer if is_boolean else additive
    elif kind != "positions":
        mask = document_mask(batch)
        forms = {"additive": lambda: _additive(mask, model), "ones": mask.float}
        arguments["attention_mask"] = forms[kind]() if kind in forms else mask
    return arguments


def _takes_positions(model: Any) -> bool:
    return "position_ids" in signature(model.forward).parameters


def _additive(mask: Tensor, model: Any) -> Tensor:
    return torch.zeros(mask.shape, dtype=model.dtype, device=mask.device).masked_fill_(
        ~mask, torch.finfo(model.dtype).min
    )
