"""Low-rank adapters of a model: added for training, merged into its weights for all else."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import Tensor, nn
from transformers.pytorch_utils import Conv1D

from ixt_data.config import validate
from ixt_data.errors import ConfigError, MissingExtra
from ixt_train.config import LoraConfig
from ixt_train.runs import load_weights, run_folder

ADAPTERS = "adapters.json"
_TOKENS = "tokens"


def save_adapters(folder: Path, lora: LoraConfig, tokens: Sequence[int]) -> None:
    """Write the shape of a model's adapters next to its config.

    Args:
        folder: folder with the config of the model.
        lora: the settings.
        tokens: ids of the tokens whose embeddings are trained.
    """
    record = lora.model_dump(mode="json") | {_TOKENS: sorted(tokens)}
    run_folder.write_json(folder / ADAPTERS, record)


def with_adapters(model: Any, folder: Path) -> Any:
    """Return a model with the adapters that a folder describes, and only these trainable.

    Without adapters in the folder it is the model itself.

    Raises:
        ConfigError: the model has no layer of a target.
        MissingExtra: peft is not installed.
    """
    if not (folder / ADAPTERS).is_file():
        return model
    return _adapted(model, folder).base_model.model


def load_merged(model: Any, folder: Path, state: dict[str, Any], average: bool = True) -> Any:
    """Return a model with the weights of a checkpoint, its adapters merged into them.

    Args:
        model: the model without adapters.
        folder: folder with its config, and the shape of its adapters if it has some.
        state: as `read_checkpoint` returns it.
        average: use the averaged weights if the state has them.

    Raises:
        RuntimeError: the weights belong to another model.
    """
    if not (folder / ADAPTERS).is_file():
        load_weights(model, state, average)
        return model
    adapted = _adapted(model, folder)
    load_weights(adapted.base_model.model, state, average)
    # peft froze the weights below the adapters; a later stage may train all of them.
    return adapted.merge_and_unload().requires_grad_(True)


def _adapted(model: Any, folder: Path) -> Any:
    MissingExtra.require("lora", "peft")
    import peft
    from peft.tuners.trainable_tokens import TrainableTokensLayer

    record = run_folder.read_json(folder / ADAPTERS)
    tokens = record.pop(_TOKENS)
    lora = validate(LoraConfig, record, str(folder / ADAPTERS))
    embeddings = {_name_of(model, model.get_input_embeddings())}
    output = model.get_output_embeddings()
    if output is not None:
        _check_targets(model, lora, {*embeddings, _name_of(model, output)})
        if output.weight is not model.get_input_embeddings().weight:
            embeddings.add(_name_of(model, output))
    config = peft.LoraConfig(
        r=lora.rank,
        lora_alpha=lora.alpha,
        lora_dropout=lora.dropout,
        target_modules="all-linear" if lora.targets is None else list(lora.targets),
        fan_in_fan_out=any(isinstance(module, Conv1D) for module in model.modules()),
        trainable_token_indices=dict.fromkeys(sorted(embeddings), tokens),
        task_type="CAUSAL_LM",
    )
    try:
        adapted = peft.get_peft_model(model, config)
    except ValueError as error:
        raise ConfigError(f"lora.targets: {str(error).splitlines()[0]}") from None
    for module in adapted.modules():
        base = module.base_layer if isinstance(module, TrainableTokensLayer) else None
        if isinstance(base, nn.Linear) and base.bias is not None:
            module.register_forward_hook(_with_bias)
    return adapted


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """Compute, within the context, with the weights that the adapters are added to."""
    from peft.tuners.tuners_utils import BaseTunerLayer

    layers: Any = [module for module in model.modules() if isinstance(module, BaseTunerLayer)]
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


def _with_bias(head: Any, hidden: tuple[Tensor], logits: Tensor) -> Tensor:
    """Return the logits of a head with its bias, which peft 0.21 leaves out."""
    if head.disable_adapters:
        return logits
    weight = head.get_merged_weights(head.active_adapters)
    return nn.functional.linear(hidden[0], weight, head.base_layer.bias)


def _check_targets(model: nn.Module, lora: LoraConfig, embeddings: set[str]) -> None:
    """Refuse targets that peft ignores or cannot combine with trained embeddings."""
    names = [name for name, _ in model.named_modules()]
    for target in lora.targets or ():
        if target.rpartition(".")[2] in embeddings:
            raise ConfigError(
                f"lora.targets: {target} is an embedding, of which only the rows of control tokens "
                "are trained; name linear layers, or use null for all"
            )
        if not any(name == target or name.endswith(f".{target}") for name in names):
            linear = {
                name.rpartition(".")[2]
                for name, module in model.named_modules()
                if isinstance(module, nn.Linear | Conv1D)
            }
            known = ", ".join(sorted(linear - embeddings))
            raise ConfigError(f"lora.targets: the model has no layer {target}; it has {known}")


def _name_of(model: nn.Module, part: nn.Module) -> str:
    path: str = next(name for name, module in model.named_modules() if module is part)
    return path.rpartition(".")[2]
