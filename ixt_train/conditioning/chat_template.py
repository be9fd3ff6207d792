"""Chat templates: the text around message contents, as tokens.

The template's own text is rendered once per sequence of roles, with marks for contents, and cached
as tokens.
"""

from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import orjson
from jinja2.exceptions import TemplateError

from ixt_data.conversation import ASSISTANT, ROLES
from ixt_data.errors import ConfigError
from ixt_data.records import content_id
from ixt_train.conditioning.tokenizer import add_special_tokens

ROLE_TOKENS = tuple(f"<|{role}|>" for role in ROLES)
DEFAULT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}{{ '<|' + message['role'] + '|>' }}"
    "{{ message['content'] or '' }}"
    "{% if message['tool_calls'] %}{{ message['tool_calls'] | tojson }}{% endif %}"
    "{{ eos_token }}{% endfor %}{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
_CACHE_SIZE = 4096
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
