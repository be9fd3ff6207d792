"""What a train run measures on held-out documents."""

from typing import Any

from ixt_data.console import Output, format_count
from ixt_data.mix import Mix
from ixt_data.store import Store
from ixt_train.conditioning import Conditioner, PairConditioner
from ixt_train.config import TrainConfig
from ixt_train.evaluation import Evaluator, empty_holdout, held_out_documents
from ixt_train.runs import scope_of
from ixt_train.trainer.objective import LanguageModel
from ixt_train.trainer.pair_metrics import HeldOutPairs
from ixt_train.trainer.preference_model import PreferenceModel


class Measurements:
    """A repeated evaluation; see `Evaluator` and, in stage preference, `HeldOutPairs`."""

    def __init__(
        self, store: Store, mix: Mix, config: TrainConfig, conditioner: Conditioner
    ) -> None:
        """Select and tokenize the held-out documents.

        Args:
            store: the store.
            mix: the mix, with a pinned snapshot.
            config: the train config.
            conditioner: the conditioner of training.

        Raises:
            ConfigError: a task cannot be read.
        """
        self._config = config
        pairs = conditioner if isinstance(conditioner, PairConditioner) else None
        documents = held_out_documents(
            store,
            mix,
            config.holdout,
            config.eval.buckets,
            config.eval.samples,
            scope_of(None if pairs is None else pairs.pairs),
        )
        single = conditioner if pairs is None else pairs.conversations
        self._evaluator = Evaluator(single, config.eval, documents, config.max_length)
        self._pairs = HeldOutPairs(pairs, documents) if pairs and documents else None

    def measure(self, model: LanguageModel, sharded: bool) -> dict[str, Any]:
        """Measure a model in evaluation mode; all ranks call this together.

        Returns:
            What `Evaluator.measure` returns; with pairs also `preference`, see `pair_means`.
        """
        # FSDP 1 replaces the inner model by its wrapper.
        metrics = self._evaluator.measure(model.model, sharded)
        if self._pairs is not None:
            assert isinstance(model, PreferenceModel)
            metrics["preference"] = self._pairs.measure(model)
        return metrics

    def note_missing(self, out: Output) -> None:
        """Print what is not measured, and why."""
        config, evaluator = self._config, self._evaluator
        if evaluator.rejected:
            rejected = format_count(evaluator.rejected, "held-out conversation")
            out.note(f"the chat template rejects {rejected}, which evaluation leaves out")
        elif config.holdout and not evaluator.documents()["all"]:
            out.note(f"no held-out loss: {empty_holdout(config.holdout, config.eval.samples)}")
        elif config.holdout and not evaluator.has_tokens():
            out.note(
                f"no held-out loss: with max_length {config.max_length}, no token of a held-out "
                "document is left; raise max_length"
            )
        if self._pairs is not None and self._pairs.rejected:
            rejected = format_count(self._pairs.rejected, "held-out pair")
            out.note(f"{rejected} rejected, which evaluation leaves out")
