"""The choice of what separates packed documents in a model, by a trial on the model itself."""

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor

from ixt_data.errors import ConfigError
from ixt_train.inference import DocumentMask, document_masks
from ixt_train.trainer.objective import Batch, LanguageModel

_FIRST_TOKENS = 2
_COMPARED = 16
_SHARE = 0.003
"""Tolerated error of packing, as a share of the error of a row whose documents see each other."""
_NOISE, _HALF_NOISE = 3e-6, 0.02
"""Tolerated effect of the first document on the second, as a share of the spread of logits, in
float32 and below. An untrained falcon_h1, whose state goes through documents, has 1.2e-5; families
that separate documents have at most 2e-7."""
_REFUSALS = (ValueError, RuntimeError, TypeError, AttributeError, IndexError, KeyError)
"""Errors of models that do not take a mask."""


def separate_documents(
    model: LanguageModel, max_length: int, forward: Callable[[Batch], Any] | None = None
) -> DocumentMask:
    """Set what separates the documents of a row in a model, the first that proves right.

    In a row of two documents the second one then has the logits that it has alone, whatever the
    first one is. All ranks call this together, in the precision of training.

    Args:
        model: the model, on its device.
        max_length: length of the row, in tokens, so that windows of attention count.
        forward: the wrapped model; None takes `model`.

    Raises:
        ConfigError: nothing separates documents in this family.
    """
    language_model: Any = model.model
    found: DocumentMask | None = None
    was_training = model.training
    model.eval()
    # float32 shows a small leak. Kernels for half precision alone get the precision of training.
    is_exact = language_model.config._attn_implementation in ("sdpa", "eager")
    precision = torch.autocast(language_model.device.type, enabled=False)
    # flex_attention would store all scores if nothing compiled it.
    compiler = torch.compiler.set_stance("force_eager" if is_exact else "default")
    try:
        with torch.no_grad(), compiler, precision if is_exact else nullcontext():
            probe = _Probe(language_model, max_length, forward or model)
            for kind in document_masks(language_model):
                model.documents = kind
                try:
                    is_right = probe.is_right()
                except torch.OutOfMemoryError:
                    raise
                except _REFUSALS:
                    continue
                if is_right:
                    found = kind
                    break
    finally:
        model.train(was_training)
    if found is None:
        raise ConfigError(
            f"attention: document does not work with the family {language_model.config.model_type} "
            f"in this version of transformers (attention implementation "
            f"{language_model.config._attn_implementation}): packed documents see each other. Set "
            "attention to row, or packing to pad"
        )
    return found


class _Probe:
    """A row of two documents, and the second one alone."""

    def __init__(self, model: Any, max_length: int, forward: Callable[[Batch], Any]) -> None:
        self._forward, self._device = forward, model.device
        self._first = min(_FIRST_TOKENS, max(1, max_length // 2))
        self._second = max(1, max_length - self._first)
        size = len(model.get_input_embeddings().weight)
        padding = model.config.get_text_config().pad_token_id
        self._tokens = [token for token in range(size) if token != padding]
        self._alone = self._run(self._ids(0, self._second)[None])
        spread = (self._alone - self._alone.mean(-1, keepdim=True)).norm(dim=-1).max()
        # A row whose documents see each other gives the size of the error that must not be.
        visible = self._run(self._row(self._first))
        is_exact = self._alone.dtype == torch.float32 and not torch.backends.cuda.matmul.allow_tf32
        self._noise = (_NOISE if is_exact else _HALF_NOISE) * spread
        # Rows of other lengths take other kernels, which differ more.
        self._tolerated = _SHARE * self._error(visible, self._alone) + 10 * self._noise

    def is_right(self) -> bool:
        """Return whether the model separates documents as it stands."""
        logits = self._packed(self._first)
        other = self._packed(self._first + self._second // 2 + 1)
        is_alone = self._error(logits, self._alone) <= self._tolerated
        return bool(is_alone and self._error(logits, other) <= self._noise)

    def _ids(self, start: int, length: int) -> Tensor:
        count = len(self._tokens)
        # A stride without a common divisor with most sizes, so that neighbors differ.
        ids = [self._tokens[(7919 * (start + i) + 11) % count] for i in range(length)]
        return torch.tensor(ids, device=self._device)

    def _row(self, other: int) -> Tensor:
        """Return a row: a document that `other` selects, then the second one."""
        return torch.cat([self._ids(other, self._first), self._ids(0, self._second)])[None]

    def _packed(self, other: int) -> Tensor:
        """Return the logits of the second document in a packed row."""
        ids = self._row(other)
        positions = torch.cat([torch.arange(n) for n in (self._first, self._second)])
        extra = {"position_ids": positions.to(ids)[None], "attention_mask": torch.ones_like(ids)}
        return self._run(ids, **extra)

    def _run(self, ids: Tensor, **extra: Tensor) -> Tensor:
        """Return the logits of the first and last tokens of the second document, float[n, V]."""
        logits: Tensor = self._forward({"input_ids": ids, **extra})[0, -self._second :]
        return torch.cat([logits[:_COMPARED], logits[-_COMPARED:]])

    @staticmethod
    def _error(logits: Tensor, expected: Tensor) -> Tensor:
        errors: Tensor = (logits - expected).norm(dim=-1)
        return errors.max()
