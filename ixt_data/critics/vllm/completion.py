"""One completion in any of the forms that servers give: its thinking, and the JSON object in it.

Thinking comes in a field of its own, in blocks of content, or inline before the answer. The answer
is a JSON object, bare or in a fence, with prose around it, or with small errors of syntax.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import orjson

ThinkingForm = Literal["none", "field", "blocks", "inline"]

_THOUGHTS = re.compile(r"^\s*<(think|thinking|thought|reasoning)>(.*?)</\1>", re.DOTALL)
# Some chat templates open the tag in the prompt.
_OPENED_IN_PROMPT = re.compile(r"^(.*?)</(?:think|thinking)>", re.DOTALL)
_FENCE = re.compile(r"```(?:json|JSON)?\s*\n(.*?)```", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Completion:
    """A completion, with thinking and answer apart.

    Attributes:
        content: the visible text without thinking.
        thinking: the reasoning, None without one.
        form: how the server gives the thinking.
    """

    content: str
    thinking: str | None
    form: ThinkingForm


def read_completion(message: Mapping[str, Any]) -> Completion:
    """Return the parts of a chat message.

    Args:
        message: `choices[i].message` of a response.

    Raises:
        TypeError, AttributeError: the message is not one of a chat completion.
    """
    content = message.get("content") or ""
    thinking = message.get("reasoning") or message.get("reasoning_content") or None
    if thinking is not None:
        return Completion(_join_texts(content), str(thinking), "field")
    if not isinstance(content, str):
        thoughts = [
            str(block.get("thinking") or block.get("reasoning") or "")
            for block in content
            if block.get("type") in ("thinking", "reasoning")
        ]
        return Completion(
            _join_texts(content), "\n".join(thoughts) or None, "blocks" if thoughts else "none"
        )
    if not _is_object(content):
        if match := _THOUGHTS.match(content):
            return Completion(content[match.end() :], match[2].strip() or None, "inline")
        if match := _OPENED_IN_PROMPT.match(content):
            return Completion(content[match.end() :], match[1].strip() or None, "inline")
    return Completion(content, None, "none")


def _join_texts(content: Any) -> str:
    if isinstance(content, str):
        return content
    return "".join(str(block.get("text") or "") for block in content if block.get("type") == "text")


def _is_object(text: str) -> bool:
    return text.lstrip()[:1] == "{"


def find_object(content: str) -> tuple[dict[str, Any] | None, bool]:
    """Return the JSON object in a text, and whether its syntax had to be repaired.

    Args:
        content: a completion without thinking.

    Returns:
            The object, None if the text contains none.
    """
    if (found := parse_object(content)) is not None:
        return found, False
    if (match := _FENCE.search(content)) and (found := parse_object(match[1])) is not None:
        return found, False
    start, end = content.find("{"), content.rfind("}")
    if start < 0 or end < start:
        return None, False
    part = content[start : end + 1]
    if (found := parse_object(part)) is not None:
        return found, False
    from json_repair import loads

    repaired = loads(part)
    return (repaired, True) if isinstance(repaired, dict) and repaired else (None, False)


def parse_object(text: str) -> dict[str, Any] | None:
    """Return a text as a JSON object, None if it is anything else."""
    try:
        found = orjson.loads(text)
    except orjson.JSONDecodeError:
        return None
    return found if isinstance(found, dict) else None
