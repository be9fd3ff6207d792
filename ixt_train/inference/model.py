"""The model: a Hugging Face causal language model, from scratch or from a folder."""

import json
import math
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AutoConfig, AutoModelForCausalLM

from ixt_data.errors import ConfigError
from ixt_train.config import InitConfig, ModelConfig
from ixt_train.inference.document_attention import DocumentMask, document_arguments
from ixt_train.inference.router_loss import without_padding

_RESIDUAL_OUTPUTS = ("o_proj.weight", "down_proj.weight", "c_proj.weight", "dense_4h_to_h.weight")

_CONFIG, _ATTENTION = "config.json", "attn_implementation"


def build_model(model: ModelConfig, tokenizer: Any, seed: int, max_length: int) -> Any:
    """Build the causal language model that `model` describes, for `tokenizer`.

    Args:
        model: its Hugging Face config, or its folder.
        tokenizer: the tokenizer; vocabulary size and special tokens follow it.
        seed: seed of the initial weights.
        max_length: default of `max_position_embeddings`, in tokens.

    Raises:
        ConfigError: the Hugging Face config is wrong, or the folder contains no model.
    """
    torch.manual_seed(seed)
    if model.path is not None:
        return _from_folder(model.path, tokenizer)
    settings = dict(model.config or {})
    settings.setdefault("vocab_size", len(tokenizer))
    settings.setdefault("max_position_embeddings", max_length)
    ids = {f"{role}_token_id": getattr(tokenizer, f"{role}_token_id") for role in ROLE_NAMES}
    if settings["vocab_size"] < len(tokenizer):
        raise ConfigError(
            f"model.config.vocab_size: {settings['vocab_size']} is below the tokenizer's "
            f"{len(tokenizer)}; remove it from the config"
        )
    try:
        config = AutoConfig.for_model(**{**ids, **settings})
        causal_lm = AutoModelForCausalLM.from_config(config)
    except (ValueError, TypeError, KeyError, ImportError) as error:
        raise ConfigError(f"model.config: {error}") from None
    with torch.no_grad():
        _initialize(causal_lm, model.init)
    return causal_lm


ROLE_NAMES = ("pad", "bos", "eos")


def _from_folder(folder: str, tokenizer: Any) -> Any:
    if not Path(folder, "config.json").is_file():
        raise ConfigError(f"model.path: no config.json in {folder}")
    quantized = json.loads(Path(folder, _CONFIG).read_text()).get("quantization_config")
    if quantized is not None:
        raise ConfigError(
            f"model.path: the weights in {folder} are quantized "
            f"({quantized.get('quant_method', 'unknown method')}), and training needs complete "
            "ones; name the model that they were made from"
        )
    try:
        # A pickle with weights could run code.
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, use_safetensors=True
        )
    except (OSError, ValueError) as error:
        raise ConfigError(f"model.path: {folder} contains no model ({error})") from None
    return fit_vocabulary(model.float(), tokenizer)


def model_like(folder: Path, *, empty: bool = False) -> Any:
    """Return a model by the config in a folder; its weights are arbitrary.

    Args:
        folder: the folder.
        empty: give parameters no memory (device meta); buffers have their values.
    """
    config = read_model_config(folder)
    with _empty_parameters() if empty else nullcontext():
        return AutoModelForCausalLM.from_config(config).float()


@contextmanager
def _empty_parameters() -> Iterator[None]:
    """Create parameters without memory within the context; shared ones stay shared."""
    register = nn.Module.register_parameter

    def register_empty(module: nn.Module, name: str, value: nn.Parameter | None) -> None:
        if value is not None and not value.is_meta:
            value = nn.Parameter(value.detach().to("meta"), value.requires_grad)
        register(module, name, value)

    nn.Module.register_parameter = register_empty  # type: ignore[method-assign,assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def fit_vocabulary(model: Any, tokenizer: Any) -> Any:
    """Add embeddings for tokens that the model lacks, drawn around the mean of the others."""
    if len(tokenizer) > model.get_input_embeddings().num_embeddings:
        model.resize_token_embeddings(len(tokenizer))
    for role in ROLE_NAMES:
        setattr(model.config, f"{role}_token_id", getattr(tokenizer, f"{role}_token_id"))
    return model


def _initialize(model: Any, init: InitConfig) -> None:
    if init.embedding_std is not None:
        nn.init.normal_(model.get_input_embeddings().weight, std=init.embedding_std)
    if init.scale_residual:
        factor = 1 / math.sqrt(2 * model.config.num_hidden_layers)
        for name, weight in model.named_parameters():
            if name.endswith(_RESIDUAL_OUTPUTS):
                weight.mul_(factor)


def parameter_count(model: nn.Module) -> int:
    """Return the number of parameters; shared ones count once."""
    return sum(parameter.numel() for parameter in model.parameters())


def logits_of(
    model: Any, batch: dict[str, Tensor], documents: DocumentMask = "positions"
) -> Tensor:
    """Return the logits, float[B, T, V], of a batch whose rows are padded on the right.

    Args:
        model: a Hugging Face causal language model.
        batch: `input_ids`, int64[B, T]. With `position_ids` and `attention_mask`, a token attends
            to its own document only.
        documents: what separates documents.
    """
    logits: Tensor = _outputs(model, batch, documents).logits
    return logits


def logits_and_router_loss(
    model: Any, batch: dict[str, Tensor], documents: DocumentMask = "positions"
) -> tuple[Tensor, Tensor]:
    """Return `logits_of`, and the router loss of a model that has one, over the batch's tokens."""
    with without_padding(model, batch["attention_mask"]):
        outputs = _outputs(model, batch, documents, output_router_logits=True)
    return outputs.logits, outputs.aux_loss


def _outputs(model: Any, batch: dict[str, Tensor], documents: DocumentMask, **options: Any) -> Any:
    """Call a model on rows that are padded on the right.

    Padding comes after every token that counts, so a causal mask suffices. The mask of ones makes
    transformers 4.57 leave it to scaled_dot_product_attention. Without a mask, transformers looks
    for packed rows and builds the mask element by element, an eighth of a small step.
    """
    if "position_ids" in batch:
        extra = document_arguments(model, batch, documents)
    else:
        extra = {"attention_mask": torch.ones_like(batch["input_ids"])}
    return model(input_ids=batch["input_ids"], use_cache=False, **extra, **options)


def save_model_config(model: Any, folder: Path) -> None:
    """Write a model's config, with its implementation of attention if it is not the default.

    `save_pretrained` omits it.
    """
    model.config.save_pretrained(folder)
    if (kind := model.config._attn_implementation) != "sdpa":
        path = folder / _CONFIG
        settings = json.loads(path.read_text()) | {_ATTENTION: kind}
        path.write_text(json.dumps(settings, indent=2) + "\n")


def read_model_config(folder: Path) -> Any:
    """Read the config that `save_model_config` wrote."""
    kind = json.loads((folder / _CONFIG).read_text()).get(_ATTENTION)
    return AutoConfig.from_pretrained(folder, local_files_only=True, attn_implementation=kind)


def weighted_token_losses(
    logits: Tensor, input_ids: Tensor, weights: Tensor, z_loss: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return the weighted loss of each token but the first of a row, in nats, and its weight.

    Args:
        logits: float[B, T, V].
        input_ids: int[B, T].
        weights: float[B, T]; position t weights the prediction of token t, so position 0 never
            counts.
        z_loss: weight of the squared logarithm of the partition function, per token.

    Returns:
        Two float32[B, T - 1].
    """
    targets = input_ids[:, 1:].long()
    scores = logits[:, :-1].flatten(0, 1).float()
    losses = functional.cross_entropy(scores, targets.flatten(), reduction="none")
    if z_loss:
        losses = losses + z_loss * torch.logsumexp(scores, -1).square()
    return losses.view_as(targets) * weights[:, 1:], weights[:, 1:]


def row_losses(
    logits: Tensor, input_ids: Tensor, weights: Tensor, z_loss: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return `weighted_token_losses` summed over each row, float32[B]."""
    losses, own = weighted_token_losses(logits, input_ids, weights, z_loss)
    return losses.sum(1), own.sum(1)


def weighted_loss(
    logits: Tensor, input_ids: Tensor, weights: Tensor, z_loss: float = 0.0
) -> tuple[Tensor, Tensor]:
    """Return `row_losses` summed over the batch."""
    losses, total = row_losses(logits, input_ids, weights, z_loss)
    return losses.sum(), total.sum()
