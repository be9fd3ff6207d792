"""Conversations for SFT: chat template, feedback, loss on the assistant's messages only.

A chat template writes the text around message contents. Contents are tokenized separately, so no
content can produce a control token. The template's own text is rendered once per sequence of
roles, with marks for contents, and cached as tokens.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import orjson
from jinja2.exceptions import TemplateError

from ixt_data.conversation import ASSISTANT, ROLES, Conversation, content_text, parse_conversation
from ixt_data.errors import ConfigError
from ixt_data.mix import Condition
from ixt_data.records import Span, content_id
from ixt_train.conditioning.conditioner import Choice, Conditioner, Encoded, Weights
from ixt_train.conditioning.encoder import TokenArray
from ixt_train.conditioning.tokenizer import add_special_tokens
from ixt_train.config import TrainConfig

TURN = "turn"
"""Verdict of a span that judges a complete turn."""

PARTS = (TURN, "chunk", "failed")
"""Verdicts of spans that are parts of a document, not passages."""

Tokens = tuple[TokenArray, Weights]

ROLE_TOKENS = tuple(f"<|{role}|>" for role in ROLES)
DEFAULT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{{ message['content'] or '' }}"
    "{% if message['tool_calls'] %}{{ message['tool_calls'] | tojson }}{% endif %}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_CACHE_SIZE = 4096
_SYSTEM = ("system", "developer")
# Private-use characters, which no template inspects.
_OPEN, _CLOSE = "\ue000", "\ue001"


def set_chat_template(tokenizer: Any, file: str | None) -> None:
    """Set the tokenizer's chat template from a file, or a plain one if it has none.

    Raises:
        ConfigError: the file cannot be read.
    """
    if file is not None:
        try:
            tokenizer.chat_template = Path(file).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(f"sft.template: {file} cannot be read: {error}") from None
    elif not tokenizer.chat_template:
        add_special_tokens(tokenizer, ROLE_TOKENS)
        tokenizer.chat_template = DEFAULT_TEMPLATE


def template_id(tokenizer: Any) -> str:
    """Return 12 hex digits over the chat template."""
    return content_id(tokenizer.chat_template)


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


class TemplateSegment(NamedTuple):
    """A segment of a rendered conversation.

    Attributes:
        ids: tokens of the template; empty if the segment is a content or feedback.
        content: number of the message whose content this is.
        feedback: number of the turn whose feedback this is.
        in_loss: whether the loss counts it, because the assistant writes it.
    """

    ids: tuple[int, ...] = ()
    content: int | None = None
    feedback: int | None = None
    in_loss: bool = False


class Turn(NamedTuple):
    """A turn of the assistant: offset of its feedback, its first offset and its end."""

    feedback: int
    start: int
    end: int


class TemplateFrames:
    """The text that a chat template writes around contents, by the roles of the messages."""

    def __init__(self, tokenizer: Any) -> None:
        """Render a trial conversation.

        Raises:
            ConfigError: the tokenizer has no template, or it does not end the assistant's turn.
        """
        if not tokenizer.chat_template:
            raise ConfigError("the tokenizer has no chat template; train with stage sft to set one")
        self._tokenizer = tokenizer
        self._special = [t for t in tokenizer.all_special_tokens if len(t) > 1]
        self._cached_segments = lru_cache(_CACHE_SIZE)(self._segments)
        question, reply_mark = _placeholder(0), _placeholder(1)
        trial = self._render(
            [_message("user", f" {question} "), _message(ASSISTANT, f" {reply_mark} ")]
        )
        self.strips = f" {question} " not in trial
        self._end = trial.partition(reply_mark)[2].strip()
        if not self._end:
            raise ConfigError(
                "the chat template writes nothing after the assistant's content, so a model would "
                "never end its turn; name another template in sft.template"
            )

    @property
    def end_token(self) -> int | None:
        """The special token that ends a turn of the assistant, None if the end is plain text."""
        first = self._tokenizer(self._end, add_special_tokens=False)["input_ids"][0]
        return int(first) if first in self._tokenizer.all_special_ids else None

    def __getstate__(self) -> dict[str, Any]:
        return {key: value for key, value in self.__dict__.items() if key != "_cached_segments"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        self._cached_segments = lru_cache(_CACHE_SIZE)(self._segments)

    def split_segments(
        self, messages: Sequence[Mapping[str, Any]], add_reply: bool
    ) -> list[TemplateSegment]:
        """Return the segments of a conversation, in order.

        Args:
            messages: with `content` true if the message has content.
            add_reply: append the start of another turn of the assistant.

        Raises:
            ConfigError: the template rejects such a conversation.
        """
        return self._cached_segments(orjson.dumps(list(messages)), add_reply)

    def _segments(self, shape: bytes, add_reply: bool) -> list[TemplateSegment]:
        messages = [
            {**message, "content": _placeholder(number) if message["content"] else ""}
            for number, message in enumerate(orjson.loads(self._without_special_tokens(shape)))
        ]
        rendered = self._render(messages, add_reply)
        turns = {
            number: self._turn(rendered, messages, number)
            for number, message in enumerate(messages)
            if message["role"] == ASSISTANT
        }
        if add_reply:
            turns[len(messages)] = self._upcoming_turn(rendered, messages)
        cuts = {0, len(rendered)}
        contents, feedback = {}, {turn.feedback: number for number, turn in turns.items()}
        for number, message in enumerate(messages):
            at = rendered.find(_placeholder(number)) if message["content"] else -1
            if at >= 0:
                contents[at] = number
                cuts |= {at, at + len(_placeholder(number))}
        for turn in turns.values():
            cuts |= set(turn)
        segments = []
        offsets = sorted(cuts)
        for start, end in zip(offsets, [*offsets[1:], len(rendered)], strict=True):
            if start in feedback:
                segments.append(TemplateSegment(feedback=feedback[start]))
            in_loss = any(turn.start <= start < turn.end for turn in turns.values())
            if start in contents:
                segments.append(TemplateSegment(content=contents[start], in_loss=in_loss))
            elif end > start:
                ids = self._tokenizer(rendered[start:end], add_special_tokens=False)["input_ids"]
                segments.append(TemplateSegment(ids=tuple(ids), in_loss=in_loss))
        return segments

    def _without_special_tokens(self, shape: bytes) -> bytes:
        """Return the messages without special tokens outside of contents, such as in tool calls."""
        text = shape.decode()
        for token in self._special:
            text = text.replace(token, f"{token[0]}\u200b{token[1:]}")
        return text.encode()

    def _turn(self, rendered: str, messages: list[dict[str, Any]], number: int) -> Turn:
        placeholder = _placeholder(number) if messages[number]["content"] else None
        at = rendered.find(placeholder) if placeholder else -1
        before = self._render(messages[:number]) if number else ""
        add_reply = self._render(messages[:number], add_reply=True) if number else ""
        if add_reply and rendered.startswith(add_reply):
            start = len(add_reply)
            feedback = len(before) if add_reply.startswith(before) else start
        elif at >= 0:
            # Some templates write earlier messages differently when later ones follow.
            start = feedback = at
        else:
            raise ConfigError(
                f"the chat template hides where message {number} of {_roles(messages)} starts; "
                "name another template in sft.template"
            )
        after = max(start, at + len(placeholder or ""))
        end = rendered.find(self._end, after)
        return Turn(feedback, start, after if end < 0 else end + len(self._end))

    def _upcoming_turn(self, rendered: str, messages: list[dict[str, Any]]) -> Turn:
        before = self._render(messages)
        at = len(before) if rendered.startswith(before) else len(rendered)
        return Turn(at, len(rendered), len(rendered))

    def _render(self, messages: Sequence[Mapping[str, Any]], add_reply: bool = False) -> str:
        try:
            return self._tokenizer.apply_chat_template(  # type: ignore[no-any-return]
                list(messages), tokenize=False, add_generation_prompt=add_reply
            )
        except (TemplateError, TypeError, KeyError, ValueError) as error:
            raise ConfigError(
                f"the chat template rejects a conversation of {_roles(messages)}: {error}"
            ) from None


def _placeholder(number: int) -> str:
    return f"{_OPEN}{number}{_CLOSE}"


def _message(role: str, content: str) -> dict[str, str]:
    return {"role": role, "content": content}


def _roles(messages: Sequence[Mapping[str, Any]]) -> str:
    return ", ".join(message["role"] for message in messages)


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
        if condition.position == "append" or condition.repeat_every is not None:
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
        ids, weights = self._document(text, own, self.condition.kind == "spans")
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
