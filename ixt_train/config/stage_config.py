"""Parts of the train config for stages: the starting checkpoint, conversations and pairs."""

import datetime
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from ixt_data.config import ConfigModel

TrainStage = Literal["pretrain", "midtrain", "sft", "preference"]


class StartConfig(ConfigModel):
    """The train run that this one continues: it provides the model and the tokenizer."""

    checkpoint: str
    """A run folder (its latest checkpoint), a checkpoint in its checkpoints/, or the address of
    that train run's checkpoint.remote."""
    optimizer: Literal["keep", "fresh"] = "fresh"
    """`keep`: the trained weights, with AdamW's moments and the averaged weights. `fresh`: only the
    weights that evaluation uses, averaged ones if there are any."""


class SftConfig(ConfigModel):
    """Conversations and their feedback as tokens; only for stages sft and preference."""

    feedback: Literal["turn", "system"] = "turn"
    """`turn`: before each turn of the assistant, its own critique if the critic judged turns, else
    the conversation's. `system`: at the end of the system message, the conversation's."""
    template: str | None = None
    """A file with a chat template (Jinja); null uses the tokenizer's own, or a plain one if it has
    none. It is saved with the tokenizer."""
    date: datetime.date = datetime.date(2025, 1, 1)
    """The date that the template writes if it asks for the current one; never the clock's."""


class PreferenceConfig(ConfigModel):
    """Pairs of answers and their loss; only for stage preference.

    Reward is `beta` times the logarithm of an answer's probability over its probability by the
    initial weights. The margin is the reward of the better answer less that of the worse one.
    """

    loss: Literal["sigmoid", "robust", "ipo"] = "sigmoid"
    """`sigmoid`: DPO (Rafailov et al., arXiv 2305.18290, equation 7). `robust`: the same for pairs
    of which a share `label_smoothing` is in the wrong order (Chowdhury et al., arXiv 2403.00409).
    `ipo`: the squared distance of the difference per token from 1 / (2 x beta) (Azar et al., arXiv
    2310.12036, equation 17)."""
    beta: Annotated[float, Field(gt=0, allow_inf_nan=False)] = 0.1
    """Scale of rewards: the higher, the closer the model stays to its initial weights."""
    label_smoothing: Annotated[float, Field(ge=0, lt=0.5)] = 0.0
    """Share of pairs in the wrong order; only for `robust`."""
    min_difference: Annotated[float, Field(ge=0, le=1)] = 0.1
    """Smallest difference of the two scores of a pair."""

    @model_validator(mode="after")
    def _smoothing_of_robust(self) -> Self:
        if (self.loss == "robust") != (self.label_smoothing > 0):
            raise ValueError(
                f"label_smoothing: {self.label_smoothing:g} with loss {self.loss}; it is more than "
                "0 for robust, and 0 for the others"
            )
        return self
