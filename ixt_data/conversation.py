"""Conversations: their canonical text in a document, and the excerpt that a judge reads.

The text of such a document is the canonical JSON of its messages, `{"messages":[{"role":"user",
"content":"..."},...]}`: role and content first, other keys sorted, nulls omitted, no white space.
The structure is lossless, equal conversations have one id, and an offset into the text identifies
a message.
"""

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import orjson

ROLES = ("system", "developer", "user", "assistant", "tool", "function")
ASSISTANT = "assistant"
_BEGIN, _END = '{"messages":[', "]}"


class InvalidConversation(ValueError):
    """Messages that are not a conversation; the text states the reason."""


@dataclass(frozen=True)
class Conversation:
    """The messages of a document, and the offset of each content in the document's text.

    Attributes:
        messages: in order, as canonical JSON has them.
        starts: offset of each message's content in the document's text.
    """

    messages: tuple[Mapping[str, Any], ...]
    starts: tuple[int, ...]

    @property
    def turns(self) -> list[int]:
        """Return the indices of the assistant's messages, from 0."""
        return [i for i, one in enumerate(self.messages) if one["role"] == ASSISTANT]

    def span(self, number: int) -> tuple[int, int]:
        """Return the offsets of a message's content in the text, without quotation marks."""
        start = self.starts[number]
        return start, start + self.offset(number, None)

    def offset(self, number: int, chars: int | None) -> int:
        """Return the JSON length of the first `chars` characters of a content; None is all."""
        content = self.messages[number].get("content", "")
        if not isinstance(content, str):
            return len(_json(content))
        return len(_json(content[:chars])) - 2

    def chars(self, number: int, at: int) -> int:
        """Count the characters of a message's content before an offset in the text."""
        written = _json(self.messages[number]["content"])[1:-1]
        return len(orjson.loads(f'"{written[: at - self.starts[number]]}"'))


def canonical_text(messages: Any) -> str:
    """Return the canonical document text of some messages.

    Raises:
        InvalidConversation: the messages are not a conversation with an assistant's turn.
    """
    if not isinstance(messages, list) or not messages:
        raise InvalidConversation("messages: not a list of messages")
    clean = [_checked(i, message) for i, message in enumerate(messages)]
    if not any(message["role"] == ASSISTANT for message in clean):
        raise InvalidConversation("messages: no message has the role assistant")
    return f"{_BEGIN}{','.join(map(_json, clean))}{_END}"


_SHAREGPT = {"human": "user", "gpt": "assistant", "chatgpt": "assistant", "bing": "assistant"}


def openai_messages(messages: Any) -> Any:
    """Return messages in OpenAI's form: ShareGPT's `from` and `value` become role and content."""
    if not isinstance(messages, list):
        return messages
    return [_openai_message(message) for message in messages]


def _openai_message(message: Any) -> Any:
    if not isinstance(message, dict) or "role" in message or "from" not in message:
        return message
    others = {key: value for key, value in message.items() if key not in ("from", "value")}
    role = message["from"]
    name = _SHAREGPT.get(role, role) if isinstance(role, str) else role
    return {"role": name, "content": message.get("value"), **others}


def _checked(number: int, message: Any) -> dict[str, Any]:
    where = f"messages[{number}]"
    if not isinstance(message, dict):
        raise InvalidConversation(f"{where}: not an object")
    present = {key: value for key, value in message.items() if value is not None}
    role, content = present.pop("role", None), present.pop("content", None)
    if role not in ROLES:
        raise InvalidConversation(f"{where}: role {role!r} is not one of {', '.join(ROLES)}")
    calls = present.get("tool_calls") or present.get("function_call")
    if not _has_content(content) and not (role == ASSISTANT and calls):
        raise InvalidConversation(f"{where}: the content of the {role} is empty")
    own = {} if content is None else {"content": content}
    return {"role": role, **own, **dict(sorted(present.items()))}


def _has_content(content: Any) -> bool:
    """Return True if a message's content is non-empty text or a non-empty list of parts."""
    if isinstance(content, str):
        return bool(content.strip())
    return isinstance(content, list) and bool(content) and all(isinstance(p, dict) for p in content)


def is_conversation(text: str) -> bool:
    """Return True if a document's text starts as the canonical text of a conversation."""
    return text.startswith(_BEGIN)


def parse_conversation(text: str) -> Conversation | None:
    """Parse the conversation in a document's text; return None for any other text."""
    if not is_conversation(text):
        return None
    try:
        messages = orjson.loads(text)["messages"]
        if canonical_text(messages) != text:
            return None
    except (orjson.JSONDecodeError, InvalidConversation):
        return None
    starts, at = [], len(_BEGIN)
    for message in messages:
        head = len(_json({"role": message["role"]})) - 1
        quoted = isinstance(message.get("content"), str)
        starts.append(at + head + (len(',"content":') + quoted if "content" in message else 0))
        at += len(_json(message)) + 1
    return Conversation(tuple(messages), tuple(starts))


@dataclass(frozen=True)
class ConversationExcerpt:
    """The first messages of a conversation in the form that a judge reads.

    Each message starts with a line that contains a marker. The marker comes from the document's
    hash, so no message can contain it, and no message can imitate another role.

    Attributes:
        conversation: the complete conversation.
        text: the text that the judge reads.
        places: start and end of each message's content in `text`.
    """

    conversation: Conversation
    text: str
    places: tuple[tuple[int, int], ...]

    @cached_property
    def _starts(self) -> list[int]:
        return [start for start, _ in self.places]

    def stored(self, start: int, end: int) -> tuple[int, int] | None:
        """Return the offsets of a passage in the document's text; None outside of any content."""
        first, last = self._message(start), self._message(end - 1)
        if first is None or last is None or end <= start:
            return None
        return self._offset(first, start), self._offset(last, end)

    def _message(self, at: int) -> int | None:
        number = bisect_right(self._starts, at) - 1
        return number if number >= 0 and at < self.places[number][1] else None

    def _offset(self, number: int, at: int) -> int:
        start, end = self.places[number]
        if isinstance(self.conversation.messages[number].get("content"), str):
            chars: int | None = at - start
        else:
            # The excerpt shows parts as their text, so only the complete content has offsets.
            chars = None if at == end else 0
        return self.conversation.starts[number] + (
            0 if chars == 0 else self.conversation.offset(number, chars)
        )


def build_excerpt(
    conversation: Conversation, mark: str, turn: int | None = None
) -> ConversationExcerpt:
    """Build the text that a judge reads.

    Args:
        conversation: the conversation, included completely or up to `turn`.
        mark: the marker at the start of each message.
        turn: index of the last message, the one to judge; None judges all assistant's turns.
    """
    messages = conversation.messages[: None if turn is None else turn + 1]
    what = "The assistant's turns are" if turn is None else "The last one, the assistant's, is"
    text = f"A conversation; each message begins with {mark} and its role. {what} to be judged.\n"
    places = []
    for message in messages:
        text += f"\n{mark} {message['role']}:\n"
        content = content_text(message)
        places.append((len(text), len(text) + len(content)))
        text += f"{content}\n"
        if calls := message.get("tool_calls") or message.get("function_call"):
            text += f"{mark} calls: {_json(calls)}\n"
    return ConversationExcerpt(conversation, text, tuple(places))


def content_text(message: Mapping[str, Any]) -> str:
    """Return a message's content as text; a part that is not text becomes its kind in brackets."""
    content = message.get("content", "")
    if isinstance(content, str):
        return content
    parts: Sequence[Mapping[str, Any]] = content
    return "\n".join(
        part["text"] if isinstance(part.get("text"), str) else f"[{part.get('type')}]"
        for part in parts
    )


def _json(value: Any) -> str:
    # Parquet tables contain values, such as dates, that JSON has no type for.
    return orjson.dumps(value, default=str).decode()
