"""The load-balancing loss of models with experts, without the padding of a batch."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from torch import Tensor

_FUNCTION = "load_balancing_loss_func"


def router_loss_weight(model: Any) -> float:
    """Return the weight of a model's router loss by its config; 0 if its family has none."""
    coefficient = getattr(model.config, "router_aux_loss_coef", None)
    return float(coefficient) if coefficient and _modeling(model) is not None else 0.0


@contextmanager
def without_padding(model: Any, tokens: Tensor) -> Iterator[None]:
    """Let the model's router loss count the tokens of a batch within the context.

    Transformers computes it with the mask of attention, which has another shape in rows of several
    documents, and in other rows ours hides no padding.

    Args:
        model: a Hugging Face model with a router loss.
        tokens: 1 for a token, 0 for padding, int64[rows, T].
    """
    modeling = _modeling(model)
    original = getattr(modeling, _FUNCTION)
    # Rows that make ranks equal may be all of a batch; its weight is then 0, and its loss finite.
    counted = tokens + (tokens.sum() == 0).to(tokens)

    def count_tokens(gates: Any, experts: Any, top_k: Any, *_: Any) -> Any:
        return original(gates, experts, top_k, counted)

    setattr(modeling, _FUNCTION, count_tokens)
    try:
        yield
    finally:
        setattr(modeling, _FUNCTION, original)


def _modeling(model: Any) -> Any:
    """Return the module of transformers that the model's class is from."""
    # FSDP 1 has the model inside, and FSDP2 makes a subclass of its class.
    kinds = type(getattr(model, "module", model)).__mro__
    modules = (sys.modules.get(kind.__module__) for kind in kinds)
    return next((module for module in modules if hasattr(module, _FUNCTION)), None)
