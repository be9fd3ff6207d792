"""Conversations for SFT: feedback, and loss on what the assistant writes.

Without feedback, the tokens are those of `apply_chat_template(messages, tokenize=True)`, except
that no message can write a control token of the template.
"""

from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from ixt_data.conversation import Conversation, content_text, parse_conversation
from ixt_data.errors import ConfigError
from ixt_data.mix import Condition, DocumentFeedback
from ixt_data.records import Span, content_id
from ixt_train.conditioning.chat_template import ChatTemplate, template_id
from ixt_train.conditioning.chat_turns import Turn
from ixt_train.conditioning.conditioner import Choice, Conditioner, Encoded, Weights
from ixt_train.conditioning.encoder import Encoder, TokenArray
from ixt_train.conditioning.template_encoder import FEEDBACK_ID, FEEDBACK_MARK, EncodedText
from ixt_train.config import SftConfig

TURN = "turn"
"""Verdict of a span that judges a complete turn."""

PARTS = (TURN, "chunk", "failed")
"""Verdicts of spans that are parts of a document, not passages."""

Pieces = Sequence[tuple[int, int, int]]
"""Pieces of a content: offset in the content, offset in the rendered text, length."""

_SYSTEM = ("system", "developer")


class ChatConditioner(Conditioner):
    """A conditioner of conversations by the chat template, and of documents as in other stages."""

    needs_text = True

    def __init__(
        self,
        tokenizer: Any,
        condition: Condition,
        observed: Mapping[str, tuple[float, str]] | None = None,
        sft: SftConfig | None = None,
    ) -> None:
        """See `Conditioner`.

        Args:
            tokenizer: with a chat template.
            condition: `position` append and `repeat_every` are not valid for a conversation.
            observed: see `Conditioner`.
            sft: position of feedback, and the date; the template is the tokenizer's.

        Raises:
            ConfigError: the tokenizer, its template or the condition is not valid.
        """
        if isinstance(condition, DocumentFeedback) and (
            condition.position == "append" or condition.repeat_every is not None
        ):
            raise ConfigError(
                "condition: sft.feedback decides the position of feedback in conversations; "
                "remove position and repeat_every"
            )
        super().__init__(tokenizer, condition, observed)
        self.sft = sft or SftConfig()
        self.placement: Literal["turn", "system"] = self.sft.feedback
        self.template = ChatTemplate(tokenizer, self.sft.date)
        # Role tokens are often not marked as special, and critiques quote conversations.
        self.encoder = Encoder(tokenizer, self.template.reserved)
        identity = template_id(tokenizer, self.sft.date)
        self.tokenizer_id = content_id([self.tokenizer_id, identity, self.placement])

    @property
    def ends(self) -> tuple[int, ...]:
        """See `Conditioner.ends`; a template may end turns with another special token."""
        own = super().ends
        return (*own, *(end for end in self.template.ends if end not in own))

    @property
    def banned_tokens(self) -> list[int]:
        """See `Conditioner.banned_tokens`; the assistant may write control tokens in its turn."""
        return sorted(set(super().banned_tokens) - set(self.template.written))

    def with_condition(self, condition: Condition) -> "ChatConditioner":
        """See `Conditioner.with_condition`."""
        return ChatConditioner(self.tokenizer, condition, self._pairs(), self.sft)

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
        messages = [
            {**m, "content": content_text(m)} if "content" in m else dict(m)
            for m in conversation.messages
        ]
        in_system = self.placement == "system" and len(prefix) > 0
        shift = int(in_system and messages[0]["role"] not in _SYSTEM)
        if shift:
            messages.insert(0, {"role": _SYSTEM[0], "content": ""})
        text, turns, contents = self.template.render(messages, add_reply, in_system)
        inserted, places = [prefix] * in_system, []
        if self.placement == "turn":
            judged = self._by_turn(conversation, spans)
            by_turn = {n: judged.get(n, prefix) for n in turns}
            inserted = [ids for ids in by_turn.values() if len(ids)]
            places = [turns[n].feedback for n, ids in by_turn.items() if len(ids)]
        text, moved = _insert_marks(text, places)
        pieces = {
            number - shift: [(start, moved(at), size) for start, at, size in own]
            for number, own in enumerate(contents)
        }
        encoded = self.template.encoder.encode(text)
        counted = self._with_loss(list(turns.values()))
        regions = [(moved(turn.start), moved(turn.end - 1) + 1) for turn in counted]
        weights = _inside(encoded, regions).astype(np.float32)
        ids, weights = self._with_passages(text, encoded, weights, conversation, spans, pieces)
        return self._with_feedback(ids, weights, inserted)

    def _with_loss(self, turns: list[Turn]) -> list[Turn]:
        """Return those of the assistant's turns that the loss counts."""
        return turns

    def _with_passages(
        self,
        text: str,
        encoded: EncodedText,
        weights: Weights,
        conversation: Conversation,
        spans: Sequence[Span],
        pieces: Mapping[int, Pieces],
    ) -> tuple[TokenArray, Weights]:
        """Return the tokens with the weights of contents, and weights and tags of passages."""
        rest = self.condition.loss_by_verdict.get("rest", 1.0)
        if rest != 1.0:
            own = [pieces[n] for n in conversation.turns if pieces.get(n)]
            weights[_inside(encoded, [(p[0][1], p[-1][1] + p[-1][2]) for p in own])] = rest
        if not spans or not (self.has_tags or self.condition.weighs_spans):
            return encoded.ids, weights
        passages = [
            passage
            for number in conversation.turns
            for passage in _passages_of(conversation, number, spans, pieces[number])
        ]
        return self._with_verdicts(
            text, encoded.ids, encoded.offsets, weights, passages, self.has_tags
        )

    def _with_feedback(
        self, ids: TokenArray, weights: Weights, inserted: Sequence[TokenArray]
    ) -> Encoded:
        """Replace each mark of feedback with the tokens of the feedback."""
        if not inserted:
            return Encoded(ids, weights)
        at = np.flatnonzero(ids == FEEDBACK_ID)
        parts, part_weights = np.split(ids, at), np.split(weights, at)
        loss = self.condition.loss_on_prefix
        new_ids, new_weights = [parts[0]], [part_weights[0]]
        for feedback, part, own in zip(inserted, parts[1:], part_weights[1:], strict=True):
            new_ids += [feedback, part[1:]]
            new_weights += [np.full(len(feedback), loss, np.float32), own[1:]]
        return Encoded(
            np.concatenate(new_ids).astype(np.int32),
            np.concatenate(new_weights).astype(np.float32),
        )

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


def _insert_marks(text: str, places: Sequence[int]) -> tuple[str, Callable[[int], int]]:
    """Insert marks of feedback; return the text, and the function from old to new offsets."""
    ordered = sorted(places)
    cuts = [0, *ordered, len(text)]
    marked = FEEDBACK_MARK.join(text[a:b] for a, b in pairwise(cuts))
    return marked, lambda at: at + bisect_right(ordered, at)


def _inside(encoded: EncodedText, regions: Sequence[tuple[int, int]]) -> npt.NDArray[np.bool_]:
    """Return which tokens are in some regions of the text."""
    starts, ends = encoded.offsets[:, 0], encoded.offsets[:, 1]
    # A control token may include the white space after it.
    reached = np.where(encoded.is_control, starts + 1, ends)
    inside = np.zeros(len(starts), bool)
    for start, end in regions:
        inside |= (reached > start) & (starts < end)
    return inside


def _passages_of(
    conversation: Conversation,
    number: int,
    spans: Sequence[Span],
    pieces: Pieces,
) -> list[Span]:
    """Return the judged passages of a message, in characters of the rendered text."""
    start, end = conversation.span(number)
    if not isinstance(conversation.messages[number].get("content"), str):
        return []
    passages = []
    for span in spans:
        if span.verdict in PARTS or not start <= span.start < span.end <= end:
            continue
        first = conversation.chars(number, span.start)
        last = conversation.chars(number, span.end)
        places = [
            (text + max(first, content) - content, text + min(last, content + size) - content)
            for content, text, size in pieces
            if first < content + size and content < last
        ]
        if places:
            passages.append(replace(span, start=places[0][0], end=places[-1][1]))
    return passages
