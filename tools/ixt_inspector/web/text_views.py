"""Ways to read a text: plain, as code with line numbers, as the turns of a conversation, rendered.

Spans and matches of a search are marked in all of them but rendered Markdown.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from markupsafe import Markup

from ixt_data.conversation import content_text, parse_conversation
from ixt_data.records import Span
from ixt_data.search import SearchWords
from ixt_inspector.web.text import TextSegment, make_visible, text_segments

VIEWS = {"plain": "Plain", "code": "Code", "turns": "Turns", "markdown": "Markdown"}
MAX_HIGHLIGHTED_CHARS = 400_000
"""A longer text is shown as code without colors."""
_KINDS = (
    ("Token.Comment", "comment"),
    ("Token.Literal.String.Doc", "comment"),
    ("Token.Keyword", "keyword"),
    ("Token.Operator.Word", "keyword"),
    ("Token.Literal.String", "string"),
    ("Token.Literal.Number", "number"),
    ("Token.Name.Function", "name"),
    ("Token.Name.Class", "name"),
    ("Token.Name.Tag", "name"),
)


@dataclass(frozen=True, slots=True)
class TextBlock:
    """A part of a view.

    Attributes:
        title: role of a message; empty for a whole text.
        lines: segments by line of code; one line for a text that is not code.
    """

    title: str
    lines: list[list[TextSegment]]


@dataclass(frozen=True, slots=True)
class TextView:
    """A text as a page shows it.

    Attributes:
        name: a key of `VIEWS`.
        choices: views that this text has.
        blocks: the text, unless it is rendered.
        rendered: HTML of Markdown, whose own HTML is escaped.
        found: number of matches of the search.
    """

    name: str
    choices: tuple[str, ...]
    blocks: tuple[TextBlock, ...]
    rendered: Markup | None = None
    found: int = 0


def view_text(
    text: str,
    spans: Sequence[Span],
    *,
    name: str,
    file_names: Iterable[str],
    words: SearchWords | None,
    length: int,
) -> TextView:
    """Return a view of the first `length` characters of a text.

    Args:
        text: the text.
        spans: stretches to mark, in the order of their numbers.
        name: a key of `VIEWS`; empty for the one that fits the text.
        file_names: names that may tell the language of code.
        words: search whose matches are marked.
        length: number of characters; of a conversation, of each message.
    """
    conversation = parse_conversation(text)
    lexer = _lexer(file_names)
    choices = ("turns", "plain") if conversation else ("plain", "code", "markdown")
    default = "turns" if conversation else "code" if lexer is not None else "plain"
    chosen = name if name in choices else default
    found = words.find(text) if words else []
    if chosen == "markdown":
        return TextView(chosen, choices, (), render_markdown(text[:length]), len(found))
    if chosen == "turns" and conversation is not None:
        blocks = []
        for number, message in enumerate(conversation.messages):
            content = content_text(message)
            own = [_within(conversation, number, span) for span in spans]
            marks = words.find(content) if words else []
            segments = list(text_segments(content, own, length, marks))
            blocks.append(TextBlock(str(message["role"]), [segments]))
        return TextView(chosen, choices, tuple(blocks), None, len(found))
    tokens = _tokens(lexer, text[:length]) if chosen == "code" else []
    segments = list(text_segments(text, spans, length, found, tokens))
    lines = split_lines(segments) if chosen == "code" else [segments]
    return TextView(chosen, choices, (TextBlock("", lines),), None, len(found))


def split_lines(segments: Iterable[TextSegment]) -> list[list[TextSegment]]:
    """Return segments by line, without the line breaks."""
    lines: list[list[TextSegment]] = [[]]
    for segment in segments:
        for number, part in enumerate(segment.text.split("\n")):
            if number:
                lines.append([])
            if part:
                is_first = segment.is_first and number == 0
                lines[-1].append(replace(segment, text=part, is_first=is_first))
    if len(lines) > 1 and not lines[-1]:
        lines.pop()
    return lines


def render_markdown(text: str) -> Markup:
    """Return Markdown as HTML: HTML in it is escaped, and images are shown as links' words."""
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"])
    parser.disable(["image"])
    return Markup(parser.render(make_visible(text)))


def _within(conversation: Any, number: int, span: Span) -> Span:
    """Return a span of a document as one of a message; an empty one if it is elsewhere."""
    start, end = conversation.span(number)
    message = conversation.messages[number]
    if not isinstance(message.get("content"), str) or not start <= span.start < end:
        return replace(span, start=0, end=0)
    stop = conversation.chars(number, min(span.end, end))
    return replace(span, start=conversation.chars(number, span.start), end=stop)


def _lexer(names: Iterable[str]) -> Any:
    """Return a lexer of Pygments for the first name that tells a language, else None."""
    from pygments.lexers import get_lexer_for_filename
    from pygments.util import ClassNotFound

    for name in names:
        if "." in name:
            try:
                lexer = get_lexer_for_filename(name)
            except ClassNotFound:
                continue
            if lexer.name not in ("Text only", "Markdown"):
                return lexer
    return None


def _tokens(lexer: Any, text: str) -> list[tuple[int, int, str]]:
    """Return start, end and kind of the parts of code that have a color."""
    if lexer is None or len(text) > MAX_HIGHLIGHTED_CHARS:
        return []
    tokens = []
    for start, token, value in lexer.get_tokens_unprocessed(text):
        path = str(token)
        kind = next((kind for prefix, kind in _KINDS if path.startswith(prefix)), "")
        if kind and value:
            tokens.append((start, start + len(value), kind))
    return tokens
