"""Pairs for preference training: two conversations that differ in the assistant's last message."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from ixt_data.conversation import canonical_text, parse_conversation
from ixt_data.errors import ConfigError, RejectedConversation
from ixt_data.export import PairTable
from ixt_data.mix import Condition, DocumentFeedback
from ixt_data.records import Span, document_id
from ixt_train.conditioning.chat import ChatConditioner
from ixt_train.conditioning.chat_turns import Turn
from ixt_train.conditioning.conditioner import Choice, Conditioner, Encoded
from ixt_train.conditioning.encoder import TokenArray
from ixt_train.config import SftConfig, TrainConfig


def build_conditioner(
    config: TrainConfig,
    tokenizer: Any,
    condition: Condition,
    observed: Mapping[str, tuple[float, str]] | None = None,
    pairs: PairTable | None = None,
) -> Conditioner:
    """Build the conditioner of a train run's stage; see `Conditioner`.

    Args:
        config: the train config.
        tokenizer: the tokenizer.
        condition: the condition.
        observed: see `Conditioner`.
        pairs: the pairs of stage preference; None encodes single conversations.
    """
    if pairs is not None:
        return PairConditioner(
            tokenizer, condition, observed, config.sft, pairs=pairs, max_length=config.max_length
        )
    if config.has_chat:
        return ChatConditioner(tokenizer, condition, observed, config.sft)
    return Conditioner(tokenizer, condition, observed)


class PairConditioner(ChatConditioner):
    """A conditioner of better answers, each followed by the worse answer to its prompt.

    Both conversations have the same feedback, the best one observed, as at inference. The loss
    counts the last message of the assistant only, with its end tokens.
    """

    def __init__(
        self,
        tokenizer: Any,
        condition: Condition,
        observed: Mapping[str, tuple[float, str]] | None = None,
        sft: SftConfig | None = None,
        *,
        pairs: PairTable,
        max_length: int,
    ) -> None:
        """See `ChatConditioner`.

        Args:
            tokenizer: with a chat template.
            condition: kind `spans` and loss weights are not valid for a pair.
            observed: see `Conditioner`.
            sft: see `ChatConditioner`.
            pairs: the pairs.
            max_length: longer conversations are cut.

        Raises:
            ConfigError: the tokenizer, its template or the condition is not valid.
        """
        weighs = condition.weighs_spans or condition.loss_on_prefix > 0
        if condition.kind == "spans" or weighs or condition.shuffled:
            raise ConfigError(
                "condition: stage preference compares complete answers under the same feedback; "
                "set kind to none, score, critique or both, and remove loss_by_verdict, "
                "loss_on_prefix, noisy and shuffled feedback"
            )
        super().__init__(tokenizer, condition, observed, sft)
        self.pairs, self.max_length = pairs, max_length

    @property
    def conversations(self) -> ChatConditioner:
        """The conditioner of single conversations."""
        return ChatConditioner(self.tokenizer, self.condition, self._pairs(), self.sft)

    def with_condition(self, condition: Condition) -> "PairConditioner":
        """See `Conditioner.with_condition`."""
        return PairConditioner(
            self.tokenizer,
            condition,
            self._pairs(),
            self.sft,
            pairs=self.pairs,
            max_length=self.max_length,
        )

    def encode(
        self,
        text: str | TokenArray,
        critique: str | TokenArray | None = None,
        score: float | None = None,
        spans: Sequence[Span] = (),
        feedback: Choice = "given",
    ) -> Encoded:
        """Encode the pair of a better conversation; its own critique, score and spans are not used.

        Raises:
            ConfigError: the text is not the better conversation of a pair.
            RejectedConversation: the chat template rejects a conversation, or no token of an answer
                is within `max_length`.
        """
        assert isinstance(text, str)
        if feedback == "given":
            is_known = isinstance(self.condition, DocumentFeedback) and "best" in self.observed
            feedback = "best" if is_known else "none"
        _, answer = self.pairs.worse(document_id(text))
        prefix = self._chosen_tokens(feedback)
        better, worse = (self._cut(conversation, prefix) for conversation in _both(text, answer))
        return Encoded(
            np.concatenate([better.input_ids, worse.input_ids]),
            np.concatenate([better.loss_weights, worse.loss_weights]),
            worse_from=len(better.input_ids),
        )

    def encode_or_reject(self, *args: Any, **options: Any) -> Encoded:
        """Return `encode`; of a pair that is rejected, two rows of two tokens without loss."""
        encoded = super().encode_or_reject(*args, **options)
        if not encoded.rejected:
            return encoded
        ids, weights = np.tile(encoded.input_ids, 2), np.tile(encoded.loss_weights, 2)
        return Encoded(ids, weights, encoded.rejected, len(encoded.input_ids))

    def _with_loss(self, turns: list[Turn]) -> list[Turn]:
        return turns[-1:]

    def _cut(self, text: str, prefix: TokenArray) -> Encoded:
        conversation = parse_conversation(text)
        assert conversation is not None
        encoded = self._chat(conversation, prefix)
        kept = slice(self.max_length)
        if not encoded.loss_weights[kept].any():
            start = int(np.argmax(encoded.loss_weights > 0))
            raise RejectedConversation(
                f"max_length: the answer starts after {start:,} tokens, and max_length is "
                f"{self.max_length:,}"
            )
        return Encoded(encoded.input_ids[kept], encoded.loss_weights[kept])


def _both(text: str, answer: Mapping[str, Any]) -> tuple[str, str]:
    """Return a conversation, and the one with another last message."""
    conversation = parse_conversation(text)
    assert conversation is not None
    return text, canonical_text([*conversation.messages[:-1], dict(answer)])
