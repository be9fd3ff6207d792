"""Conversations: how they stand in a document's text, and what a judge is shown of them.

The text of such a document is the canonical JSON of its messages, `{"messages":[{"role":"user",
"content":"..."},...]}`: role and content first, other keys sorted, nulls left out, no white space.
So the structure is kept whole, equal conversations have one id, and an offset into the text says
which message it is in.
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
    """What is wrong with some messages."""


@dataclass(frozen=True)
class Conversation:
    """The messages of a document, and where each one's content stands in its text.

    Attributes:
        messages: in order, as canonical JSON has them.
        starts: offset of each message's content in the document's text.
    """

    messages: tuple[Mapping[str, Any], ...]
    starts: tuple[int, ...]

    @property
    def turns(self) -> list[int]:
        """Numbers of the assistant's messages, from 0."""
        return [i for i, one in enumerate(self.messages) if one["role"] == ASSISTANT]

    def span(self, number: int) -> tuple[int, int]:
        """Offsets of a message's content in the document's text, without quotation marks."""
        start = self.starts[number]
        return start, start + self.offset(number, None)

    def offset(self, number: int, chars: int | None) -> int:
        """How far some first characters of a message's content reach in JSON; None for all."""
        content = self.messages[number].get("content", "")
        if not isinstance(content, str):
            return len(_json(content))
        return len(_json(content[:chars])) - 2

    def chars(self, number: int, at: int) -> int:
        """How many characters of a message's content stand before an offset in the text."""
        written = _json(self.messages[number]["content"])[1:-1]
        return len(orjson.loads(f'"{written[: at - self.starts[number]]}"'))


def canonical(messages: Any) -> str:
    """The text of a document that holds some messages.

    Raises:
        BadConversation: they are no conversation that an assistant could learn from.
    """
    if not isinstance(messages, list) or not messages:
        raise InvalidConversation("messages: not a list with messages in it")
    clean = [_checked(i, message) for i, message in enumerate(messages)]
    if not any(message["role"] == ASSISTANT for message in clean):
        raise InvalidConversation("messages: no turn of the assistant")
    return f"{_BEGIN}{','.join(map(_json, clean))}{_END}"


def _checked(number: int, message: Any) -> dict[str, Any]:
    where = f"messages[{number}]"
    if not isinstance(message, dict):
        raise InvalidConversation(f"{where}: not an object")
    kept = {key: value for key, value in message.items() if value is not None}
    role, content = kept.pop("role", None), kept.pop("content", None)
    if role not in ROLES:
        raise InvalidConversation(f"{where}: role {role!r} is none of {', '.join(ROLES)}")
    calls = kept.get("tool_calls") or kept.get("function_call")
    if not _says(content) and not (role == ASSISTANT and calls):
        raise InvalidConversation(f"{where}: the {role} says nothing")
    own = {} if content is None else {"content": content}
    return {"role": role, **own, **dict(sorted(kept.items()))}


def _says(content: Any) -> bool:
    """Whether a message's content is text, or a list of parts, with something in it."""
    if isinstance(content, str):
        return bool(content.strip())
    return isinstance(content, list) and bool(content) and all(isinstance(p, dict) for p in content)


def is_conversation(text: str) -> bool:
    """Whether a document's text begins as the messages of a conversation do."""
    return text.startswith(_BEGIN)


def read(text: str) -> Conversation | None:
    """The conversation that a document's text holds, None where it is another text."""
    if not is_conversation(text):
        return None
    try:
        messages = orjson.loads(text)["messages"]
        if canonical(messages) != text:
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
    """Some first messages of a conversation as a judge reads them.

    Each begins with a line that holds a code that no message can hold: it is from the document's
    own hash. So nobody's words can pass for another's.

    Attributes:
        text: what the judge reads.
        places: of each message's content in it: start and end.
    """

    conversation: Conversation
    text: str
    places: tuple[tuple[int, int], ...]

    @cached_property
    def _starts(self) -> list[int]:
        return [start for start, _ in self.places]

    def stored(self, start: int, end: int) -> tuple[int, int] | None:
        """Where a passage stands in the document's text; None if it is not in what was said."""
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
            # Parts are shown as their text: only the whole has a place.
            chars = None if at == end else 0
        return self.conversation.starts[number] + (
            0 if chars == 0 else self.conversation.offset(number, chars)
        )


def shown(conversation: Conversation, mark: str, turn: int | None = None) -> ConversationExcerpt:
    """What a judge reads.

    Args:
        conversation: all of it is shown, or all up to `turn`.
        mark: the code.
        turn: number of the message to be judged, the last one shown; None: the assistant's turns.
    """
    messages = conversation.messages[: None if turn is None else turn + 1]
    what = "The assistant's turns are" if turn is None else "The last one, the assistant's, is"
    text = f"A conversation; each message begins with {mark} and its role. {what} to be judged.\n"
    places = []
    for message in messages:
        text += f"\n{mark} {message['role']}:\n"
        content = said(message)
        places.append((len(text), len(text) + len(content)))
        text += f"{content}\n"
        if calls := message.get("tool_calls") or message.get("function_call"):
            text += f"{mark} calls: {_json(calls)}\n"
    return ConversationExcerpt(conversation, text, tuple(places))


def said(message: Mapping[str, Any]) -> str:
    """The content of a message as text; of parts that are no text, their kind in brackets."""
    content = message.get("content", "")
    if isinstance(content, str):
        return content
    parts: Sequence[Mapping[str, Any]] = content
    return "\n".join(
        part["text"] if isinstance(part.get("text"), str) else f"[{part.get('type')}]"
        for part in parts
    )


def _json(value: Any) -> str:
    # Tables have values, such as dates, that JSON has no type for.
    return orjson.dumps(value, default=str).decode()
