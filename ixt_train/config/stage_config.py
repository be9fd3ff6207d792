"""Parts of the train config about stages: what a train run starts from, and how SFT is told."""

from typing import Literal

from ixt_data.config import ConfigModel


class StartConfig(ConfigModel):
    """The train run that this one goes on from: it brings the model and the tokenizer."""

    checkpoint: str
    """A run folder (its newest checkpoint), a file in its checkpoints/, or the address that
    checkpoint.remote of that train run had."""
    optimizer: Literal["keep", "fresh"] = "fresh"
    """`keep`: the weights as they were trained, with AdamW's moments and the averaged weights.
    `fresh`: the weights that evaluation uses, averaged ones where there are any, and nothing
    else."""


class SftConfig(ConfigModel):
    """How a conversation and its feedback become tokens; only for stage sft."""

    feedback: Literal["turn", "system"] = "turn"
    """`turn`: before each turn of the assistant, its own critique where the critic judged turns,
    else the conversation's. `system`: at the end of the system message, the conversation's."""
    template: str | None = None
    """A file with a chat template (Jinja); null takes the tokenizer's own, or a plain one where
    it has none. It is saved with the tokenizer."""
