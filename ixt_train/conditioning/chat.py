"""Conversations for SFT: feedback, and loss on the assistant's messages only.

Message contents are tokenized separately from the text of the chat template, so no content can
produce a control token.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np

from ixt_data.conversation import ASSISTANT, Conversation, content_text, parse_conversation
from ixt_data.errors import ConfigError
from ixt_data.mix import Condition, DocumentFeedback
from ixt_data.records import Span, content_id
from ixt_train.conditioning.chat_template import TemplateFrames, template_id
from ixt_train.conditioning.conditioner import Choice, Conditioner, Encoded, Weights
from ixt_train.conditioning.encoder import TokenArray
from ixt_train.config import TrainConfig

TURN = "turn"
"""Verdict of a span that judges a complete turn."""

PARTS = (TURN, "chunk", "failed")
"""Verdicts of spans that are parts of a document, not passages."""

Tokens = tuple[TokenArray, Weights]

_SYSTEM = ("system", "developer")


def build_conditioner(
    config: TrainConfig,
    tokenizer: Any,
    condition: Condition,
    observed: Mapping[str, tuple[float, str]] | None = None,
) -> Conditioner:
    """Build the conditioner of a train run's stage; see `Conditioner`."""
    if config.stage == "sft":
        return ChatConditioner(tokenizer, condition, observed, config.sft.feedback)
    return Conditioner(tokenizer, condition, observed)


class ChatConditioner(Conditioner):
    """A conditioner of conversations by the chat template, and of documents as in other stages."""

    needs_text = True

    def __init__(
        self,
        tokenizer: Any,
        condition: Condition,
        observed: Mapping[str, tuple[float, str]] | None = None,
        placement: Literal["turn", "system"] = "turn",
    ) -> None:
        """See `Conditioner`.

        Args:
            tokenizer: with a chat template.
            condition: `position` append and `repeat_every` are not valid for a conversation.
            observed: see `Conditioner`.
            placement: position of feedback; see `SftConfig.feedback`.

        Raises:
            ConfigError: the tokenizer, its template or the condition is not valid.
        """
        if isinstance(condition, DocumentFeedback) and (
            condition.position == "append" or condition.repeat_every is not None
        ):
            raise ConfigError(
                "condition: in stage sft, sft.feedback decides the position of feedback; remove "
                "position and repeat_every"
            )
        super().__init__(tokenizer, condition, observed)
        self.placement = placement
        self.tokenizer_id = content_id([self.tokenizer_id, template_id(tokenizer), placement])
        self._frames = TemplateFrames(tokenizer)

    @property
    def ends(self) -> tuple[int, ...]:
        """See `Conditioner.ends`; a template may end turns with another special token."""
        last = self._frames.end_token
        own = super().ends
        return own if last is None or last in own else (*own, last)

    def with_condition(self, condition: Condition) -> "ChatConditioner":
        """See `Conditioner.with_condition`."""
        return ChatConditioner(self.tokenizer, condition, self._pairs(), self.placement)

    def encode(
        self,
        text: str | TokenArray,
        critique: str | TokenArray | None = None,
        score: float | None = None,
        spans: Sequence[Span] = (),
        feedback: Choice = "given",
    ) -> Encoded:
        """See `Conditioner.encode`; a span `turn` has the feedback of its turn."""
        conversation = parse_conversation(text) if isinstance(text, str) else None
        if conversation is None:
            return super().encode(text, critique, score, spans, feedback)
        if feedback != "given":
            return self._chat(conversation, self._chosen_tokens(feedback))
        prefix = self._feedback_tokens(score, "" if critique is None else critique)
        return self._chat(conversation, prefix, spans)

    def prompt(self, text: str = "", feedback: Choice = "best") -> TokenArray:
        """Return the tokens after which the assistant replies.

        Args:
            text: the user's message, or the text of a conversation so far; empty: a document.
            feedback: inserted before every turn of the assistant.
        """
        if not text:
            return super().prompt(text, feedback)
        conversation = parse_conversation(text)
        messages = conversation.messages if conversation else [{"role": "user", "content": text}]
        return self.reply(messages, feedback)

    def reply(self, messages: Sequence[Mapping[str, Any]], feedback: Choice = "best") -> TokenArray:
        """Return the tokens, int32[T], after which the assistant replies to some messages."""
        add_reply = Conversation(tuple(messages), (0,) * len(messages))
        ids = self._chat(add_reply, self._chosen_tokens(feedback), add_reply=True).input_ids
        return self._with_tag(ids, feedback)

    def _chat(
        self,
        conversation: Conversation,
        prefix: TokenArray,
        spans: Sequence[Span] = (),
        add_reply: bool = False,
    ) -> Encoded:
        messages = list(conversation.messages)
        contents = [self._content(conversation, number, spans) for number in range(len(messages))]
        by_turn: dict[int, TokenArray] = {}
        if self.placement == "turn":
            by_turn = self._by_turn(conversation, spans)
        elif len(prefix):
            messages, contents = self._in_system(messages, contents, prefix)
            prefix = prefix[:0]
        shapes = [
            {**m, "content": bool(len(c[0]))} for m, c in zip(messages, contents, strict=True)
        ]
        parts: list[Tokens] = []
        for segment in self._frames.split_segments(shapes, add_reply):
            if segment.feedback is not None:
                parts.append(self._weighted(by_turn.get(segment.feedback, prefix)))
            elif segment.content is not None:
                parts.append(contents[segment.content])
            else:
                weights = np.full(len(segment.ids), segment.in_loss, np.float32)
                parts.append((np.array(segment.ids, np.int32), weights))
        return Encoded(*_concatenate(parts))

    def _content(self, conversation: Conversation, number: int, spans: Sequence[Span]) -> Tokens:
        """Return a message's tokens and loss weights; only the assistant's messages have loss."""
        message = conversation.messages[number]
        text = content_text(message)
        shift = len(text) - len(text.lstrip()) if self._frames.strips else 0
        if self._frames.strips:
            text = text.strip()
        if message["role"] != ASSISTANT:
            ids = self.encoder.document(text)
            return ids, np.zeros(len(ids), np.float32)
        own = _passages_of(conversation, number, spans, shift)
        ids, weights = self._document(text, own, self.has_tags)
        return ids, np.broadcast_to(np.asarray(weights, np.float32), len(ids))

    def _by_turn(self, conversation: Conversation, spans: Sequence[Span]) -> dict[int, TokenArray]:
        """Return the feedback on turns that have a critique of their own, by message number."""
        judged = {(s.start, s.end): s for s in spans if s.verdict == TURN}
        turn_spans = {
            number: judged.get(conversation.span(number)) for number in conversation.turns
        }
        return {
            n: self._feedback_tokens(s.score, s.comment)
            for n, s in turn_spans.items()
            if s is not None
        }

    def _in_system(
        self, messages: list[Mapping[str, Any]], contents: list[Tokens], prefix: TokenArray
    ) -> tuple[list[Mapping[str, Any]], list[Tokens]]:
        """Append feedback to the system message; add a system message if there is none."""
        if messages[0]["role"] not in _SYSTEM:
            return [{"role": _SYSTEM[0]}, *messages], [self._weighted(prefix), *contents]
        return messages, [_concatenate([contents[0], self._weighted(prefix)]), *contents[1:]]

    def _weighted(self, prefix: TokenArray) -> Tokens:
        return prefix, np.full(len(prefix), self.condition.loss_on_prefix, np.float32)


def _concatenate(parts: Sequence[Tokens]) -> Tokens:
    ids = np.concatenate([part[0] for part in parts]).astype(np.int32)
    return ids, np.concatenate([part[1] for part in parts]).astype(np.float32)


def _passages_of(
    conversation: Conversation, number: int, spans: Sequence[Span], shift: int
) -> list[Span]:
    """Return the judged passages of a message, in characters of its content."""
    start, end = conversation.span(number)
    if not isinstance(conversation.messages[number].get("content"), str):
        return []
    return [
        replace(
            span,
            start=conversation.chars(number, span.start) - shift,
            end=conversation.chars(number, span.end) - shift,
        )
        for span in spans
        if span.verdict not in PARTS and start <= span.start < span.end <= end
    ]
