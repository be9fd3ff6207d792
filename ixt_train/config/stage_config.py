"""Parts of the train config for stages: the starting checkpoint, and feedback in SFT."""

import datetime
from typing import Literal

from ixt_data.config import ConfigModel


class StartConfig(ConfigModel):
    """The train run that this one continues: it provides the model and the tokenizer."""

    checkpoint: str
    """A run folder (its latest checkpoint), a checkpoint in its checkpoints/, or the address of
    that train run's checkpoint.remote."""
    optimizer: Literal["keep", "fresh"] = "fresh"
    """`keep`: the trained weights, with AdamW's moments and the averaged weights. `fresh`: only the
    weights that evaluation uses, averaged ones if there are any."""


class SftConfig(ConfigModel):
    """Conversations and their feedback as tokens; only for stage sft."""

    feedback: Literal["turn", "system"] = "turn"
    """`turn`: before each turn of the assistant, its own critique if the critic judged turns, else
    the conversation's. `system`: at the end of the system message, the conversation's."""
    template: str | None = None
    """A file with a chat template (Jinja); null uses the tokenizer's own, or a plain one if it has
    none. It is saved with the tokenizer."""
    date: datetime.date = datetime.date(2025, 1, 1)
    """The date that the template writes if it asks for the current one; never the clock's."""
