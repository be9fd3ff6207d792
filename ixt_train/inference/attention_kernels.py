"""flex_attention for rows of several documents: it stores no mask of rows x T x T."""

from typing import Any

from torch import Tensor

from ixt_train.stream import document_numbers

FLEX = "flex_attention"
_DEFAULT = "sdpa"


def use_flex_attention(model: Any) -> bool:
    """Let a model attend by flex_attention, and return whether it does.

    A family without it keeps its attention, as does a model with windows, whose layers need
    different masks, and one whose config names another implementation than the default.

    Args:
        model: a Hugging Face causal language model.
    """
    config = model.config
    if (
        config._attn_implementation == _DEFAULT
        and getattr(model, "_supports_flex_attn", False)
        and not _has_windows(config)
    ):
        model.set_attn_implementation(FLEX)
    return bool(config._attn_implementation == FLEX)


def _has_windows(config: Any) -> bool:
    window = getattr(config, "sliding_window", None)
    is_used = getattr(config, "use_sliding_window", window is not None)
    layers = getattr(config, "layer_types", None) or ()
    return bool(window and is_used) or any(layer != "full_attention" for layer in layers)


def block_mask(batch: dict[str, Tensor]) -> Any:
    """Return flex_attention's mask for rows of several documents: a BlockMask [rows, 1, T, T].

    A token attends to earlier tokens of its own document and to itself. The mask stores blocks of
    128 x 128 places.

    Args:
        batch: with `position_ids` and `attention_mask`, int64[rows, T].
    """
    from torch.nn.attention.flex_attention import create_block_mask

    documents = document_numbers(batch)
    rows, length = documents.shape

    def is_visible(row: Tensor, head: Tensor, query: Tensor, key: Tensor) -> Any:
        return (query >= key) & (documents[row, query] == documents[row, key])

    return create_block_mask(
        is_visible, rows, None, length, length, device=str(documents.device), _compile=True
    )
