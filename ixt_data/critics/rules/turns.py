"""The assistant's turns of a conversation as one text, for statistics of prose."""

from bisect import bisect_right
from dataclasses import dataclass

from ixt_data.conversation import Conversation, content_text, parse_conversation
from ixt_data.records import Span

BETWEEN = "\n\n"


@dataclass(frozen=True)
class Turns:
    """The contents of the assistant's messages.

    Attributes:
        text: the contents, with an empty line between them.
        conversation: the messages.
        numbers: index of each message.
        starts: offset of each content in `text`.
    """

    text: str
    conversation: Conversation
    numbers: tuple[int, ...]
    starts: tuple[int, ...]

    def stored(self, span: Span) -> Span | None:
        """Return a span with offsets in the document's text; None outside of any content.

        A span over several turns ends with the first one.
        """
        at = bisect_right(self.starts, span.start) - 1
        number, first = self.numbers[at], self.starts[at]
        content = self.conversation.messages[number].get("content")
        if not isinstance(content, str) or span.start - first >= len(content):
            # Parts of a content have no offsets of their own.
            return None
        base = self.conversation.starts[number]
        begin = base + self.conversation.offset(number, span.start - first)
        end = base + self.conversation.offset(number, min(span.end - first, len(content)))
        return Span(begin, end, span.verdict, span.tag, span.comment, span.score)


def assistant_turns(text: str) -> Turns | None:
    """Return the assistant's turns of a document; None if it is not a conversation."""
    conversation = parse_conversation(text)
    if conversation is None:
        return None
    contents = [content_text(conversation.messages[i]) for i in conversation.turns]
    starts, at = [], 0
    for content in contents:
        starts.append(at)
        at += len(content) + len(BETWEEN)
    return Turns(BETWEEN.join(contents), conversation, tuple(conversation.turns), tuple(starts))
