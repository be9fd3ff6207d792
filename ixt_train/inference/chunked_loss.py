"""Cross-entropy of a language model's head without the logits of all tokens at once.

The head of a Hugging Face model computes losses instead of logits, within the model's own forward:
there a sharded model has the head's weights. Backward computes each chunk of logits again.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from ixt_data.errors import ConfigError
from ixt_train.inference.model import row_losses

TOKENS = 1024
"""Tokens whose logits exist at once: 200 MB of float32 with a vocabulary of 50,000."""
_PROBED, _TOLERANCE = 16, 1e-4
TokenLosses = Callable[[Tensor, Tensor, Tensor | None, Tensor], Tensor]
"""From hidden states [N, H], weight [V, H], bias [V] or None and targets [N] to losses [N]."""


def chunked_losses(tokens: int = TOKENS, z_loss: float = 0.0) -> TokenLosses:
    """Return a function that computes the logits of some tokens at a time.

    Args:
        tokens: tokens of a chunk.
        z_loss: weight of the squared logarithm of the partition function, which is added to the
            loss of each token (de Brebisson & Vincent 2015, arXiv 1511.05042; PaLM uses 1e-4).
    """

    def losses(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        result: Tensor = _ChunkedLosses.apply(  # type: ignore[no-untyped-call]
            hidden, weight, bias, targets, tokens, z_loss
        )
        return result

    return losses


class _ChunkedLosses(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        targets: Tensor,
        tokens: int,
        z_loss: float,
    ) -> Tensor:
        kind = hidden.device.type
        ctx.tokens, ctx.z_loss = tokens, z_loss
        ctx.autocast = (kind, torch.get_autocast_dtype(kind), torch.is_autocast_enabled(kind))
        losses, partitions = [], []
        parts = (torch.split(tensor, tokens) for tensor in (hidden, targets))
        for part, wanted in zip(*parts, strict=True):
            logits = functional.linear(part, weight, bias).float()
            partition = torch.logsumexp(logits, -1)
            loss = partition - logits.gather(1, wanted[:, None])[:, 0]
            losses.append(loss + z_loss * partition.square() if z_loss else loss)
            partitions.append(partition)
        ctx.save_for_backward(hidden, weight, bias, targets, torch.cat(partitions))
        return torch.cat(losses)

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        hidden, weight, bias, targets, partitions = ctx.saved_tensors
        tokens, needed = ctx.tokens, ctx.needs_input_grad
        of_hidden = []
        of_weight = torch.zeros_like(weight) if needed[1] else None
        of_bias = torch.zeros_like(bias) if bias is not None and needed[2] else None
        parts = (
            torch.split(tensor, tokens) for tensor in (hidden, targets, partitions, gradients[0])
        )
        kind, dtype, enabled = ctx.autocast
        with torch.autocast(kind, dtype, enabled=enabled):
            for part, wanted, partition, gradient in zip(*parts, strict=True):
                logits = functional.linear(part, weight, bias)
                probabilities = logits.float().sub_(partition[:, None]).exp_()
                if ctx.z_loss:
                    factor = gradient * (1 + 2 * ctx.z_loss * partition)
                    probabilities.mul_(factor[:, None])
                else:
                    probabilities.mul_(gradient[:, None])
                probabilities.scatter_add_(1, wanted[:, None], -gradient[:, None])
                of_logits = probabilities.to(logits.dtype)
                of_hidden.append((of_logits @ weight).to(hidden.dtype))
                if of_weight is not None:
                    if enabled:
                        of_weight += of_logits.T @ part
                    else:
                        of_weight.addmm_(of_logits.T, part)
                if of_bias is not None:
                    of_bias += of_logits.sum(0)
        return torch.cat(of_hidden), of_weight, of_bias, None, None, None


def cut_losses() -> TokenLosses:
    """Return the kernel of cut-cross-entropy (Wijmans et al. 2024, arXiv 2411.09009), for GPUs.

    Raises:
        ConfigError: the package is not installed.
    """
    try:
        from cut_cross_entropy import linear_cross_entropy
    except ImportError:
        raise ConfigError(
            "cross_entropy: cut needs the package cut-cross-entropy. Install it: "
            "pip install cut-cross-entropy; chunked needs no package"
        ) from None

    def losses(hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor) -> Tensor:
        kind = hidden.device.type
        if torch.is_autocast_enabled(kind):
            dtype = torch.get_autocast_dtype(kind)
            hidden, weight = hidden.to(dtype), weight.to(dtype)
            bias = None if bias is None else bias.to(dtype)
        result: Tensor = linear_cross_entropy(hidden, weight, targets, bias, reduction="none")
        return result.float()

    return losses


def token_losses(kind: str, z_loss: float) -> TokenLosses | None:
    """Return the function of a kind of cross-entropy; None for the one over complete logits.

    Raises:
        ConfigError: its package is not installed, or it has no z-loss.
    """
    if kind == "dense":
        return None
    if kind == "chunked":
        return chunked_losses(z_loss=z_loss)
    if z_loss:
        raise ConfigError("z_loss: cross_entropy cut has none; set it to chunked or dense")
    return cut_losses()


class LossHead:
    """The head of a language model, which computes losses within `losses_for`."""

    def __init__(self, model: Any, losses: TokenLosses) -> None:
        """Replace the forward of the model's head.

        Args:
            model: a Hugging Face causal language model.
            losses: computes the losses.

        Raises:
            ConfigError: the head is not a linear layer.
        """
        head: Any = model.get_output_embeddings()
        if not _is_linear(head):
            raise ConfigError(
                f"cross_entropy: the head of {model.config.model_type} is {type(head).__name__}, "
                "not a linear layer; set it to dense"
            )
        self._head: Any = head
        self._bias: Tensor | None = _inner(head).bias
        self._losses = losses
        self._logits = self._head.forward
        self._targets: Tensor | None = None
        self._head.forward = self._forward

    def _forward(self, hidden: Tensor) -> Any:
        if self._targets is None:
            return self._logits(hidden)
        targets, head = self._targets.flatten(), self._head
        values = self._losses(hidden.flatten(0, -2), head.weight, self._bias, targets)
        return values.view(*hidden.shape[:-1], 1)

    def remove(self) -> None:
        """Give the head its own forward again."""
        del self._head.forward

    @contextmanager
    def losses_for(self, input_ids: Tensor) -> Iterator[None]:
        """Make the model's logits, within the context, the losses of the next tokens.

        They are float32[B, T, 1]; the last one of a row means nothing.

        Args:
            input_ids: the rows, int64[B, T].
        """
        self._targets = input_ids.roll(-1, 1)
        try:
            yield
        finally:
            self._targets = None


def _inner(head: Any) -> Any:
    """Return the layer itself, where peft wraps it to train rows of tokens."""
    return getattr(head, "original_module", head)


def _is_linear(head: Any) -> bool:
    # Not a subclass, which may compute something else.
    return type(_inner(head)) is nn.Linear


def check_head(model: Any) -> None:
    """Check on a few tokens that losses at a model's head are those of its logits.

    Families that scale or cap logits after the head do not pass.

    Args:
        model: a Hugging Face causal language model, complete.

    Raises:
        ConfigError: they differ.
    """
    if model.device.type == "meta":
        # The first rank has the weights.
        return
    was_training = model.training
    model.eval()
    ids = torch.arange(_PROBED, device=model.device)[None] * 7919
    ids %= len(model.get_input_embeddings().weight)
    head = LossHead(model, chunked_losses())
    try:
        with torch.no_grad():
            expected, _ = row_losses(model(ids).logits, ids, torch.ones_like(ids))
            with head.losses_for(ids):
                found = model(ids).logits[:, :-1, 0].sum(1)
    finally:
        head.remove()
        model.train(was_training)
    if not torch.allclose(found, expected, rtol=_TOLERANCE):
        raise ConfigError(
            f"cross_entropy: {model.config.model_type} changes its logits after the head (losses "
            f"{found.item():.4f} instead of {expected.item():.4f}); set it to dense"
        )
