"""Messages as a chat template reads them: contents as private characters, and tool calls."""

import re
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import orjson

_FIRST_MARK, _LAST_MARK = 0xF0000, 0xFFFFC
QUESTION_MARK = "\U000ffffd"
"""A private character that no conversation has as a mark."""
MARKS = re.compile("[\U000f0000-\U000ffffd]")
# `<think>`, `</tool_call>`, `[THINK]`: some templates look for them in the assistant's text.
_MARKUP = re.compile(r"<[^<>\s]{1,64}>|\[/?[A-Z_]{2,40}\]")

CALL_NAME, CALL_KEY = "ixtname", "ixtkey"
TRIAL_CALL: Sequence[Mapping[str, Any]] = (
    {"role": "user", "content": "q"},
    {
        "role": "assistant",
        "tool_calls": [
            {
                "id": "abcdefgh1",
                "type": "function",
                "function": {"name": CALL_NAME, "arguments": {CALL_KEY: "v"}},
            }
        ],
    },
)
TRIAL_RESULT: Sequence[Mapping[str, Any]] = (
    {"role": "tool", "name": CALL_NAME, "tool_call_id": "abcdefgh1", "content": "r"},
    {"role": "assistant", "content": "a"},
)


class ToolForm(NamedTuple):
    """How a template wants a message with tool calls.

    Attributes:
        empty: the content of a message without text: None, "", or `missing` for no key.
        is_parsed: whether arguments are objects instead of JSON texts.
    """

    empty: str | None
    is_parsed: bool


TOOL_FORMS = tuple(
    ToolForm(empty, is_parsed) for is_parsed in (True, False) for empty in ("missing", None, "")
)


class Unit(NamedTuple):
    """A part of a content, and the private character that stands for it."""

    start: int
    text: str
    mark: str


def whole_unit(content: str, free: Iterator[str]) -> list[Unit]:
    """Return a content as one unit, without the white space around it, which templates trim."""
    text = content.strip()
    return [Unit(content.index(text), text, next(free))] if text else []


def markup_units(content: str, hidden: Collection[str], free: Iterator[str]) -> list[Unit]:
    """Return the units between the markup of a content; `hidden` markup is text."""
    units, at = [], 0
    markup = [m.span() for m in _MARKUP.finditer(content) if m[0] not in hidden]
    for start, end in [*markup, (len(content), len(content))]:
        units += [
            Unit(at + unit.start, unit.text, unit.mark)
            for unit in whole_unit(content[at:start], free)
        ]
        at = end
    return units


def call_units(message: Mapping[str, Any], free: Iterator[str]) -> list[Unit]:
    """Return the name in the last tool call of a message as a unit, if it has one."""
    for call in reversed(message.get("tool_calls") or ()):
        function = call.get("function") if isinstance(call, Mapping) else None
        name = function.get("name") if isinstance(function, Mapping) else None
        return [Unit(0, name, next(free))] if isinstance(name, str) and name else []
    return []


def marked_message(
    clean: Mapping[str, Any],
    message: Mapping[str, Any],
    units: Sequence[Unit],
    calls: Sequence[Unit],
) -> dict[str, Any]:
    """Return a message with its units as private characters.

    Args:
        clean: the message without control tokens.
        message: the message, with a content that `units` refer to.
        units: parts of the content.
        calls: the name in the last tool call.
    """
    marked = dict(clean)
    if units:
        parts, at = [], 0
        for unit in units:
            parts += [message["content"][at : unit.start], unit.mark]
            at = unit.start + len(unit.text)
        marked["content"] = "".join([*parts, message["content"][at:]])
    for unit in calls:
        *others, last = clean["tool_calls"]
        named = {**last, "function": {**last["function"], "name": unit.mark}}
        marked["tool_calls"] = [*others, named]
    return marked


def free_characters(messages: Any) -> Iterator[str]:
    """Yield private characters that no message contains."""
    text = orjson.dumps(messages, default=str).decode()
    used = set() if text.isascii() else set(text)
    return (c for c in map(chr, range(_FIRST_MARK, _LAST_MARK)) if c not in used)


def map_strings(value: Any, change: Callable[[str], str]) -> Any:
    """Return a JSON value with all its strings changed, keys included."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {change(key): map_strings(inner, change) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [map_strings(inner, change) for inner in value]
    return value


def in_tool_form(message: Mapping[str, Any], form: ToolForm) -> dict[str, Any]:
    """Return a message with tool calls in a form."""
    own = {**message, "tool_calls": [_call(call, form) for call in message["tool_calls"]]}
    if not own.get("content") and form.empty != "missing":
        own["content"] = form.empty
    return own


def _call(call: Any, form: ToolForm) -> Any:
    function = call.get("function") if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or "arguments" not in function:
        return call
    arguments = function["arguments"]
    if form.is_parsed and isinstance(arguments, str):
        try:
            parsed = orjson.loads(arguments)
        except orjson.JSONDecodeError:
            parsed = None
        # Other texts are not arguments of a call, and stay what they are.
        arguments = parsed if isinstance(parsed, dict) else arguments
    elif not form.is_parsed and not isinstance(arguments, str):
        arguments = orjson.dumps(arguments).decode()
    return {**call, "function": {**function, "arguments": arguments}}


def writes_call(text: str) -> bool:
    """Return True if a rendered trial call has its name and its arguments as JSON or markup."""
    return (
        CALL_NAME in text
        and CALL_KEY in text
        and f"'{CALL_KEY}'" not in text
        and f'\\"{CALL_KEY}' not in text
        and "None" not in text
    )
