"""The parts of a train run that stage preference has of its own: batches, model and loss."""

from collections.abc import Callable, Iterable
from typing import Any

from composer.core import DataSpec

from ixt_train.config import TrainConfig
from ixt_train.stream import ROWS_OF_PAIR, Collator, PairCollator
from ixt_train.trainer.objective import Batch, LanguageModel, data_spec
from ixt_train.trainer.preference_model import PreferenceModel, count_pairs
from ixt_train.trainer.warm_start import WarmStart


def build_collator(
    config: TrainConfig, pad_id: int, separate_documents: bool
) -> Collator | PairCollator:
    """Build the collator of a train run.

    Args:
        config: the train config.
        pad_id: token that fills up rows.
        separate_documents: see `Collator`.
    """
    if config.stage == "preference":
        return PairCollator(pad_id, config.max_length)
    return Collator(
        pad_id,
        config.max_length,
        config.packing,
        split=config.split,
        separate_documents=separate_documents,
    )


def build_objective(
    config: TrainConfig, model: Any, load_initial: Callable[[], WarmStart], **options: Any
) -> LanguageModel:
    """Wrap a model with the loss of its stage.

    Args:
        config: the train config.
        model: a Hugging Face causal language model.
        load_initial: loads the model of step 0, once more.
        options: see `LanguageModel`.
    """
    if config.stage != "preference":
        return LanguageModel(model, **options)
    initial = None
    if config.lora is None:
        initial = LanguageModel(load_initial().model, **{**options, "compiled": False})
    return PreferenceModel(model, config.preference, initial, **options)


def build_data_spec(
    config: TrainConfig, loader: Iterable[Batch], equalize: Callable[[Batch], Batch] | None
) -> DataSpec:
    """Wrap the loader of a train run; see `data_spec`. A micro-batch has complete pairs."""
    if config.stage == "preference":
        return data_spec(loader, equalize, count=count_pairs, rows_of_unit=ROWS_OF_PAIR)
    return data_spec(loader, equalize)
