"""Turns of the assistant in a rendered conversation: where each starts and ends.

A turn starts after the text that the template writes when a reply is to follow. It ends with the
control tokens that the template writes after it in any case, whether a message follows or not.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any, NamedTuple

from ixt_data.errors import RejectedConversation

Messages = Sequence[Mapping[str, Any]]
Render = Callable[[Messages, bool], str]
"""Renders messages, with the start of a reply if the second argument is true."""


class Turn(NamedTuple):
    """A turn of the assistant: offset of its feedback, its first offset and its end."""

    feedback: int
    start: int
    end: int


class TurnFinder:
    """A finder of turns in texts of one chat template.

    Attributes:
        header: the text that the template writes before a reply to a question.
    """

    def __init__(
        self,
        render: Render,
        pattern: re.Pattern[str],
        user: Mapping[str, Any],
        openers: Collection[str] = (),
    ) -> None:
        """Render a question.

        Args:
            render: raises RejectedConversation if the template rejects the messages.
            pattern: matches any control token.
            user: a message of the user.
            openers: control tokens that never end a turn, such as the beginning of a text.
        """
        self._render, self._pattern, self._user = render, pattern, user
        self.header = ""
        asked = self._try([user], True)
        if asked is not None:
            self.header = asked[self._common(self._try([user], False) or asked, asked) :]
        self._openers = {*openers, *pattern.findall(self.header)}

    def find(
        self, text: str, messages: Messages, number: int, marks: Sequence[tuple[int, int]]
    ) -> Turn:
        """Return the turn of message `number`.

        Args:
            text: the rendered messages.
            messages: with contents as in `text`.
            number: of a message of the assistant.
            marks: first and last offset of each message's content, (-1, -1) if it has none.

        Raises:
            RejectedConversation: the text does not show where the turn starts.
        """
        feedback, start = self._start(text, messages, number, marks)
        if self.header and text.startswith(self.header, start):
            # After a tool's result, some templates ask for a reply without a header.
            start += len(self.header)
        return Turn(feedback, start, self._end(text, messages, number, marks, start))

    def upcoming(self, text: str, messages: Messages) -> Turn:
        """Return the turn that follows the messages; `text` ends with its header."""
        before = self._try(messages, False)
        at = len(text) if before is None else self._common(before, text)
        return Turn(at, len(text), len(text))

    def _start(
        self, text: str, messages: Messages, number: int, marks: Sequence[tuple[int, int]]
    ) -> tuple[int, int]:
        own = marks[number][0]
        before = self._try(messages[:number], False) if number else ""
        asked = self._try(messages[:number], True) if number else None
        header = self.header
        if before and asked is not None:
            header = asked[self._common(before, asked) :]
        if asked is not None and text.startswith(asked):
            return len(asked) - len(header), len(asked)
        if before and text.startswith(before):
            # A reply starts with text that a past turn does not have, such as empty thinking.
            start = len(before) + self._common(text[len(before) :], header)
            return len(before), start if own < 0 else min(start, own)
        # Some templates write earlier messages differently when later ones follow.
        floor = max((last + 1 for _, last in marks[:number]), default=0)
        limit = len(text) if own < 0 else own
        at = text.rfind(header, floor, limit) if header and own >= 0 else -1
        if at >= 0:
            return at, at + len(header)
        if own >= 0 and (not header or not number):
            start = len(text[:own].rstrip()) if not header else own
            return start, start
        raise RejectedConversation(
            f"the chat template hides where message {number} of {roles_of(messages)} starts; "
            "name another template in sft.template"
        )

    def _end(
        self,
        text: str,
        messages: Messages,
        number: int,
        marks: Sequence[tuple[int, int]],
        start: int,
    ) -> int:
        is_last = number == len(messages) - 1
        other = self._try([*messages, self._user] if is_last else messages[: number + 1], False)
        after = max(start, marks[number][1] + 1)
        tail, other_tail = text[after:], None
        if other is not None and marks[number][1] >= 0:
            mark = text[marks[number][1]]
            other_tail = other[other.find(mark) + 1 :] if mark in other else None
        elif other is not None and other.startswith(text[:after]):
            other_tail = other[after:]
        shared = tail[: self._common(tail, other_tail)] if other_tail is not None else ""
        closed = 0
        for match in self._pattern.finditer(shared):
            if match[0] in self._openers:
                shared = shared[: match.start()]
                break
            closed = match.end()
        end = len(shared.rstrip())
        if not end or closed != end:
            # The last turn may end with another token than the others.
            first = self._pattern.match(tail, len(tail) - len(tail[end:].lstrip()))
            if first is not None and first[0] not in self._openers:
                end = first.end()
        return after + end

    def _common(self, one: str, other: str) -> int:
        """Return the length of the common start, without a part of a control token."""
        size = next(
            (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b),
            min(len(one), len(other)),
        )
        for text in (one, other):
            for match in self._pattern.finditer(text):
                if match.start() < size < match.end():
                    size = match.start()
        return size

    def _try(self, messages: Messages, add_reply: bool) -> str | None:
        try:
            return self._render(messages, add_reply)
        except RejectedConversation:
            return None


def roles_of(messages: Messages) -> str:
    """Return the roles of some messages, as an error names them."""
    return ", ".join(message["role"] for message in messages)
